# SPDX-License-Identifier: Apache-2.0
"""One call of the command: what it was told, and which hosts it opens."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import click

from mdev_migrate import exception, libvirt_host
from mdev_migrate.cli import application, json_output, options, output
from mdev_migrate.host import Host
from mdev_migrate.model import Step
from mdev_migrate.workflow import Destination

#: Opens the host at a URI; raises HostUnreachable if it cannot.
Opener = Callable[[str], Host]


def _open(uri: str) -> Host:
    """Open a host for a process that is the command's own."""
    libvirt_host.own_process()
    return libvirt_host.LibvirtHost.open(uri)


def _guest_names(uri: str) -> list[str]:
    """Name a host's guests for a process that is the command's own."""
    libvirt_host.own_process()
    return libvirt_host.guest_names(uri)


@dataclass(frozen=True, slots=True)
class Environment:
    """What the commands stand on; tests and the demonstration bring theirs.

    :ivar opener: reaches a host by its URI.
    :ivar destination: returns what to know of a host that guests come to.
    :ivar guest_names: names the running guests of the host at a URI, to who
        completes a name; raises HostError.
    """

    opener: Opener = _open
    destination: Callable[[Host], Destination] = Destination
    guest_names: Callable[[str], list[str]] = _guest_names


@dataclass(frozen=True, slots=True)
class Places:
    """The two ends of a migration, as a command has opened them."""

    source: Host
    destination: Destination


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
        self._written = True
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
    def hosts(self, to: str) -> Iterator[Places]:
        """Open the source and the destination.

        :raises HostUnreachable: if one cannot be opened.
        """
        with self.source() as source:
            self.step = Step.CONNECT
            with contextlib.closing(self.environment.opener(to)) as host:
                self.step = Step.CHECK
                yield Places(source, self.environment.destination(host))

    def warn(self, text: str) -> None:
        """Tell what a human should know, whoever asked."""
        output.say(f"warning: {output.one_line(text)}")

    def answer(
        self, program: json_output.Answer, people: Callable[[], None]
    ) -> None:
        """Answer whoever asked."""
        if self.settings.as_json:
            self._written = output.print_json(program)
        else:
            self._written = output.answer(people)

    def end_showing(
        self,
        context: click.Context,
        warnings: Sequence[str] = (),
        *,
        allowed: bool = True,
    ) -> None:
        """Exit from a command whose answer is all that there is.

        With 1 if that is a no, or is not all, or could not be written.

        :param warnings: what could not be shown.
        """
        for text in warnings:
            self.warn(text)
        whole = allowed and not warnings and self._written
        context.exit(application.DONE if whole else application.FAILED)

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
