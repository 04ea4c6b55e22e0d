# SPDX-License-Identifier: Apache-2.0
"""One call of the command: what it was told, and which hosts it opens."""

from __future__ import annotations

import contextlib
import functools
import logging
import pathlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import click

from mdev_migrate import exception, ledger, libvirt_host
from mdev_migrate.cli import application, json_output, options, output
from mdev_migrate.cli.places import Places
from mdev_migrate.core.claims import Claim, ClaimTable
from mdev_migrate.core.phases import Step
from mdev_migrate.host import Host
from mdev_migrate.service import MdevMigration

#: Opens the host at a URI; raises HostUnreachable if it cannot.
Opener = Callable[[str], Host]


@dataclass(frozen=True, slots=True)
class Environment:
    """What the commands stand on; tests and the demonstration bring theirs.

    :ivar opener: reaches a host by its URI.
    :ivar destination: returns what a host does for guests that reach it,
        given the claims on its mdevs.
    :ivar guest_names: names the running guests of the host at a URI, to who
        completes a name; raises HostError.
    """

    opener: Opener = libvirt_host.LibvirtHost.open
    destination: Callable[[Host, ClaimTable], MdevMigration[Host]] = (
        MdevMigration
    )
    guest_names: Callable[[str], list[str]] = libvirt_host.guest_names


class Session:
    """One call of a command.

    :ivar step: what it is at, for errors; None if it is no step of a
        migration.
    """

    def __init__(
        self, settings: options.Settings, environment: Environment
    ) -> None:
        self.settings = settings
        self.environment = environment
        self.step: Step | None = None
        if settings.verbose:
            logging.basicConfig(level=logging.DEBUG)

    @classmethod
    def of(cls, context: click.Context) -> Session:
        """Return the session of a call."""
        environment = context.find_object(Environment) or Environment()
        return cls(options.settings_of(context), environment)

    @contextlib.contextmanager
    def source(self) -> Iterator[Host]:
        """Open the host of ``--connect``.

        :raises HostUnreachable: if it cannot be opened.
        """
        self.step = Step.CONNECT
        uri = self.settings.source_uri
        with contextlib.closing(self.environment.opener(uri)) as host:
            self.step = None
            yield host

    @contextlib.contextmanager
    def hosts(self, to: str, *, looking: bool = False) -> Iterator[Places]:
        """Open the source, the destination and the ledger.

        :param looking: make no ledger where there is none.
        :raises HostError: if a host cannot be opened or asked who it is.
        :raises LedgerUnusable: if claims cannot be kept.
        """
        with self.source() as source:
            self.step = Step.CONNECT
            with contextlib.closing(self.environment.opener(to)) as host:
                self.step = Step.CHECK
                with self._owning(looking=looking) as owners:
                    yield Places(
                        source,
                        self._destination(host, looking=looking),
                        self._table(source, looking=looking),
                        owners,
                    )

    @contextlib.contextmanager
    def place(
        self, *, looking: bool = False
    ) -> Iterator[tuple[MdevMigration[Host], ledger.Owners]]:
        """Open the host of ``--connect`` as a destination, and the ledger.

        :param looking: as for :meth:`hosts`.
        :raises HostError: and LedgerUnusable: as for :meth:`hosts`.
        """
        with (
            self.source() as host,
            self._owning(looking=looking) as owners,
        ):
            yield self._destination(host, looking=looking), owners

    @contextlib.contextmanager
    def _owning(self, *, looking: bool) -> Iterator[ledger.Owners]:
        """Be known as the owner of what is claimed meanwhile."""
        owners = ledger.Owners(self._folder, "mdev-migrate")
        with contextlib.closing(owners):
            if not looking:
                owners.begin()
            yield owners

    def claimed(self, host: Host) -> tuple[dict[str, Claim], list[str]]:
        """Return the claims on a host's mdevs, to be shown and no more.

        :returns: besides, a warning if they cannot be seen.
        """
        try:
            return self._table(host, looking=True).all(), []
        except exception.LedgerUnusable as error:
            return {}, [f"claims cannot be seen: {error}"]

    def _destination(
        self, host: Host, *, looking: bool
    ) -> MdevMigration[Host]:
        """Return what a host does for guests that reach it."""
        table = self._table(host, looking=looking)
        return self.environment.destination(host, table)

    def _table(self, host: Host, *, looking: bool) -> ClaimTable:
        """Return the claims on a host's mdevs."""
        begin = ledger.look if looking else ledger.FileStore
        return ClaimTable(begin(self._folder, host.facts(), self.warn))

    @functools.cached_property
    def _folder(self) -> pathlib.Path:
        """Where claims are kept; says so once if nobody else looks there."""
        named = self.settings.named_folder
        if named:
            return pathlib.Path(named)
        folder = ledger.default_folder()
        if folder != ledger.SHARED:
            self.warn(
                f"claims are kept in {folder}: commands of other users, and "
                f"Nova, see them only in {ledger.SHARED}, which they could "
                "share if it were made"
            )
        return folder

    def warn(self, text: str) -> None:
        """Tell what a human should know, whoever asked."""
        output.say(f"warning: {output.one_line(text)}")

    def answer(
        self, program: json_output.Answer, people: Callable[[], None]
    ) -> None:
        """Answer whoever asked."""
        if self.settings.as_json:
            output.print_json(program)
        else:
            output.answer(people)

    def end_showing(
        self, context: click.Context, warnings: Sequence[str]
    ) -> None:
        """Say what could not be shown, and exit with 1 if there is any."""
        for text in warnings:
            self.warn(text)
        context.exit(application.FAILED if warnings else application.DONE)

    @contextlib.contextmanager
    def failing(self, empty: json_output.Answer) -> Iterator[None]:
        """Answer with the error if the block fails, and exit.

        :param empty: the answer without what could not be found out.
        """
        try:
            yield
        except exception.MdevMigrateError as error:
            if self.settings.as_json:
                found = json_output.error(error, self.step)
                output.print_json(empty | {"error": found})
            else:
                output.complain(str(error), error.hint, error.code)
            raise click.exceptions.Exit(exit_code(error)) from error


def exit_code(error: exception.MdevMigrateError | None) -> int:
    """Return the exit code for how a command ended.

    1 promises that the guest is where it was, save for GuestNotOnTargets
    and GuestLost, and for GuestStopped that it runs. Where it is not known
    how a migration ended, some host does not answer, and the code says so.
    """
    match error:
        case None:
            return application.DONE
        case exception.HostUnreachable() | exception.OutcomeUnknown():
            return application.UNREACHABLE
        case _:
            return application.FAILED
