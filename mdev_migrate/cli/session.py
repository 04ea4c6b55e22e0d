# SPDX-License-Identifier: Apache-2.0
"""One call of the command: what it was told, and which hosts it opens."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

import click

from mdev_migrate import exception, libvirt_host
from mdev_migrate.cli import (
    application,
    json_output,
    machine,
    options,
    output,
)
from mdev_migrate.core.diagnosis import Machine
from mdev_migrate.host import Host
from mdev_migrate.model import Step
from mdev_migrate.workflow import Destination

#: Seconds: how long a host may take to answer when it is opened, and when it
#: is said that it is waited for.
_OPEN_S, _SAY_S = 30.0, 3.0
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


def _machine(uri: str) -> Machine | None:
    """Look at this machine, if that is where a URI leads."""
    kernel = libvirt_host.local_kernel(uri)
    return None if kernel is None else machine.look()


@dataclass(frozen=True, slots=True)
class Environment:
    """What the commands stand on; tests and the demonstration bring theirs.

    :ivar opener: reaches a host by its URI.
    :ivar destination: returns what to know of a host that guests come to.
    :ivar guest_names: names the running guests of the host at a URI, to who
        completes a name; raises HostError.
    :ivar machine: returns what only the machine at a URI itself can tell, if
        it is this one.
    """

    opener: Opener = _open
    destination: Callable[[Host], Destination] = Destination
    guest_names: Callable[[str], list[str]] = _guest_names
    machine: Callable[[str], Machine | None] = _machine


@dataclass(frozen=True, slots=True)
class Places:
    """The two ends of a migration, as a command has opened them.

    :ivar began: when it began to, by the monotonic clock.
    """

    source: Host
    destination: Destination
    began: float


class _Opening:
    """A host that is opened in a thread of its own.

    :ivar ended: it is open, or cannot be.
    """

    def __init__(self, opener: Opener, uri: str) -> None:
        self.ended = threading.Event()
        self._opener = opener
        self._uri = uri
        self._lock = threading.Lock()
        self._abandoned = False
        self._host: Host | None = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="open", daemon=True).start()

    def _run(self) -> None:
        try:
            host = self._opener(self._uri)
        except BaseException as error:  # noqa: BLE001 - raised by result()
            self._error = error
        else:
            with self._lock:
                self._host = host
                late = self._abandoned
            if late:
                host.close()
        self.ended.set()

    def abandon(self) -> None:
        """Close it when it is open: nobody waits for it any more."""
        with self._lock:
            self._abandoned = True
            host = self._host
        if host is not None:
            host.close()

    def result(self) -> Host:
        """Return the host, or raise why it could not be opened."""
        if self._error is not None:
            raise self._error
        assert self._host is not None  # noqa: S101 - one or the other
        return self._host


class _Stderr(logging.Handler):
    """Shows a log on stderr, whatever that is by then."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show a line, if somebody can read it."""
        output.say(output.one_line(record.getMessage()))


def _show_log() -> Callable[[], None]:
    """Show our log on stderr, and no other library's.

    :returns: what ends that.
    """
    ours = logging.getLogger("mdev_migrate")
    handler, level = _Stderr(), ours.level
    ours.setLevel(logging.DEBUG)
    ours.addHandler(handler)

    def end() -> None:
        ours.removeHandler(handler)
        ours.setLevel(level)

    return end


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
        self._lines_end: Callable[[], None] | None = None
        self._lost = 0
        self.began = time.monotonic()

    @classmethod
    def of(cls, context: click.Context) -> Session:
        """Return the session of a call."""
        environment = context.find_object(Environment) or Environment()
        settings = options.settings_of(context)
        if settings.verbose:
            context.call_on_close(_show_log())
        return cls(settings, environment)

    @contextlib.contextmanager
    def _opened(
        self, uri: str, within_s: float | None, then: Step | None
    ) -> Iterator[Host]:
        """Open a host, being in the step ``connect`` meanwhile.

        :param then: the step afterwards.
        """
        self.step = Step.CONNECT
        with contextlib.closing(self._open(uri, within_s)) as host:
            self.step = then
            yield host

    @contextlib.contextmanager
    def source(self, within_s: float | None = None) -> Iterator[Host]:
        """Open the host of ``--connect``.

        :param within_s: how long the command may take; None for no limit.
        :raises HostUnreachable: if it cannot be opened.
        """
        with self._opened(self.settings.source_uri, within_s, None) as host:
            yield host

    @contextlib.contextmanager
    def hosts(
        self, to: str, within_s: float | None = None
    ) -> Iterator[Places]:
        """Open the source and the destination.

        :param within_s: how long the command may take; None for no limit.
        :raises HostUnreachable: if one cannot be opened.
        """
        with (
            self.source(within_s) as source,
            self.destination(to, within_s) as destination,
        ):
            yield Places(source, destination, self.began)

    @contextlib.contextmanager
    def destination(
        self, to: str, within_s: float | None = None
    ) -> Iterator[Destination]:
        """Open a destination.

        :param within_s: how long the command may take; None for no limit.
        :raises HostUnreachable: if it cannot be opened.
        """
        with self._opened(to, within_s, Step.CHECK) as host:
            yield self.environment.destination(host)

    def _open(self, uri: str, within_s: float | None = None) -> Host:
        """Open a host, and wait no longer for it than a while.

        libvirt waits for ever for a host that accepts a connection and then
        says nothing.

        :raises HostUnreachable: if it cannot be opened, or does not answer.
        """
        limit_s = _OPEN_S
        if within_s is not None:
            left_s = self.began + within_s - time.monotonic()
            limit_s = min(limit_s, max(left_s, 0.0))
        say_s = min(_SAY_S, limit_s)
        opening = _Opening(self.environment.opener, uri)
        if not opening.ended.wait(say_s):
            self.warn(f"waiting for {uri} to answer")
        if not opening.ended.wait(limit_s - say_s):
            opening.abandon()
            raise exception.HostUnreachable(
                uri, f"no answer within {limit_s:.3g} s"
            )
        return opening.result()

    def warn(self, text: str) -> None:
        """Tell what a human should know, whoever asked."""
        output.say(f"warning: {output.one_line(text)}")

    def answer(
        self, program: json_output.Answer, people: Callable[[], None]
    ) -> None:
        """Answer whoever asked."""
        if self.settings.as_json:
            lost = self._print_json(program)
        else:
            lost = output.answer(people)
        self._lost = self._lost or lost

    def answer_after(self, lines_end: Callable[[], None]) -> None:
        """Answer a program with one line, after others.

        :param lines_end: waits until these are written.
        """
        self._lines_end = lines_end

    @property
    def is_one_of_lines(self) -> bool:
        """Tell whether the answer is one line, after others."""
        return self._lines_end is not None

    def _print_json(self, answer: json_output.Answer) -> int:
        if self._lines_end is None:
            return output.print_json(answer)
        self._lines_end()
        return output.print_json(answer, indent=None)

    def end_showing(
        self,
        context: click.Context,
        warnings: Sequence[str] = (),
        *,
        allowed: bool = True,
    ) -> NoReturn:
        """Exit from a command whose answer is all that there is.

        With 1 if that is a no, or is not all; see also :meth:`end`.

        :param warnings: what could not be shown.
        """
        for text in warnings:
            self.warn(text)
        whole = allowed and not warnings
        self.end(context, application.DONE if whole else application.FAILED)

    def end(self, context: click.Context, code: int) -> NoReturn:
        """Exit, but not with 0 if the answer could not be written.

        Of a command whose answer is all that there is.
        """
        context.exit(code or self._lost)

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
                self._print_json(empty | {"error": found})
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
