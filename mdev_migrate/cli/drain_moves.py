# SPDX-License-Identifier: Apache-2.0
"""Move the guests of a plan, and tell everybody how that goes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence

from mdev_migrate import exception
from mdev_migrate.cli import (
    bars,
    drain_output,
    migrate,
    output,
    progress,
    signals,
)
from mdev_migrate.cli.drain_guests import Note
from mdev_migrate.cli.events import Events, Stream
from mdev_migrate.cli.listeners import Several
from mdev_migrate.cli.session import Session
from mdev_migrate.workflow import Observer, Options, Outcome
from mdev_migrate.workflow.drain import Drain, Moved, Tried
from mdev_migrate.workflow.drain_plan import Leaving, Plan
from mdev_migrate.workflow.shut_off import DefinitionMove


class Moves:
    """The moves of a drain.

    :param hows: how guests go to each destination, by its URI.
    :param events: where they are told to programs; None for nowhere.
    """

    def __init__(
        self,
        session: Session,
        hows: Mapping[str, Options],
        note: Note,
        events: Stream | None,
    ) -> None:
        self._session = session
        self._hows = hows
        self._note = note
        self._events = events
        settings = session.settings
        self._quiet = settings.as_json and not settings.verbose

    def run(self, plan: Plan, parallel: int) -> Sequence[Moved]:
        """Move the guests of a plan.

        :param parallel: how many at a time.
        """
        with (
            signals.draining(output.say) as (finish, abort),
            bars.tellers(
                several=parallel > 1 and not self._quiet,
                logged=self._session.settings.verbose,
            ) as teller,
        ):

            def move(leaving: Leaving, to: str) -> Outcome:
                with _ended(teller(leaving.guest.name)) as lines:
                    heard = [] if self._quiet else [lines]
                    outcome = self._move(leaving, to, heard, abort)
                    if not self._quiet:
                        lines.say(
                            drain_output.result(leaving.guest, outcome, to)
                        )
                return outcome

            return Drain(plan, move, finish=finish, parallel=parallel).run()

    def _move(
        self,
        leaving: Leaving,
        to: str,
        heard: Sequence[Observer],
        abort: threading.Event,
    ) -> Outcome:
        """Move one guest, and tell programs of it."""
        if self._events is None:
            return self._send(leaving, to, (Several(heard), abort))
        events = Events(self._events, leaving.guest.name)
        watched = Several([*heard, events]), abort
        outcome = self._send(leaving, to, watched)
        events.end(drain_output.tried_as_json(Tried(to, outcome)))
        return outcome

    def _send(
        self,
        leaving: Leaving,
        to: str,
        watched: tuple[Several, threading.Event],
    ) -> Outcome:
        """Move one guest, over connections of its own."""
        called = self._session
        session = Session(called.settings, called.environment)
        guest, how = leaving.guest, self._hows[to]
        try:
            with session.hosts(to, how.timeout_s) as hosts:
                # Before: a command that is killed may yet have moved it.
                self._note.write(guest, hosts.source.facts(), to)
                if guest.active:
                    return migrate.move(
                        hosts, guest.instance_uuid, how, watched
                    )
                return DefinitionMove(
                    hosts.source,
                    hosts.destination,
                    guest.instance_uuid,
                    how,
                    observer=watched[0],
                    began=hosts.began,
                ).run()
        except exception.MdevMigrateError as error:
            outcome = migrate.not_begun(session, guest.name, error)
            outcome.instance_uuid = guest.instance_uuid
            return outcome


@contextlib.contextmanager
def _ended(lines: progress.Lines) -> Iterator[progress.Lines]:
    """Lend who tells of a guest, and let it be done afterwards."""
    try:
        yield lines
    finally:
        lines.end()
