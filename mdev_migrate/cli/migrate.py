# SPDX-License-Identifier: Apache-2.0
"""``migrate``: move a guest, listening, and able to be stopped."""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import click

from mdev_migrate import exception
from mdev_migrate.cli import (
    events,
    json_output,
    metrics,
    migration_options,
    options,
    output,
    progress,
    report,
    signals,
    table,
    way_options,
)
from mdev_migrate.cli.events import Events
from mdev_migrate.cli.listeners import Recorder, Several
from mdev_migrate.cli.session import Places, Session, exit_code
from mdev_migrate.core import phases, precheck, wording
from mdev_migrate.core.phases import Step
from mdev_migrate.workflow import GuestMigration, Observer, Options, Outcome


@dataclass(frozen=True, slots=True)
class Moved:
    """How a migration ended, and the types of the mdevs that it paired.

    :ivar source_mdev_types: mdev type by source mdev UUID.
    :ivar target_mdev_types: mdev type by target mdev UUID, as the
        destination lists them now: without those that were undone.
    """

    outcome: Outcome
    source_mdev_types: dict[str, str] = field(default_factory=dict)
    target_mdev_types: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, outcome: Outcome) -> Moved:
        """Return an outcome with the types that it knows."""
        pairs, types = outcome.target_mdevs, outcome.mdev_types
        return cls(outcome, _pick(types, pairs), _pick(types, pairs.values()))


@click.command("migrate")
@migration_options.journey
@migration_options.flags
@migration_options.budget
@migration_options.addresses
@migration_options.limits
@way_options.way
@way_options.documents
@events.option
@click.option(
    "--report",
    metavar="FILE",
    type=options.NewFile(),
    help="Write a page (HTML) with the curves of the migration to a file.",
)
@metrics.option
@options.shared
@click.pass_context
def command(
    context: click.Context, /, guest: str, to: str, **how: Any
) -> None:
    """Live-migrate a guest to another host.

    GUEST is a name, UUID or number. Ctrl-C, SIGTERM or a hang-up aborts the
    migration and waits until all is undone. A guest without mdevs is
    migrated too.
    """
    session = Session.of(context)
    metrics_file = how.pop("metrics_file")
    with events.stream(session, how.pop("events_file")) as stream:
        hearer = Events(stream, guest) if stream else None
        told = Told(hearer, how.pop("report"))
        moved = answer(session, guest, to, migration_options.read(how), told)
        if metrics_file is not None:
            types = tuple(moved.source_mdev_types.values())
            ended = metrics.Finished(moved.outcome, types)
            metrics.write(metrics_file, [ended])
    context.exit(exit_code(moved.outcome.error))


@dataclass(frozen=True, slots=True)
class Told:
    """Who else is told how a migration goes.

    :ivar report: where the page about it is written.
    """

    events: Events | None = None
    report: str | None = None


def answer(
    session: Session,
    guest: str,
    to: str,
    how: Options,
    told: Told = Told(),
) -> Moved:
    """Migrate a guest and answer with how that ended."""
    recorder = Recorder()
    others: list[Observer] = [recorder] if told.report else []
    others += [told.events] if told.events else []
    try:
        with session.hosts(to, how.timeout_s) as hosts:
            moved = _migrate(session, hosts, guest, how, others)
    except exception.MdevMigrateError as error:
        moved = Moved(not_begun(session, guest, error))
    found = as_json(moved)
    if told.events and not session.is_one_of_lines:
        told.events.end(found)
    if told.report:
        _write_report(told.report, report.page(found, recorder))
    session.answer(
        found,
        lambda: show(
            moved,
            verbose=session.settings.verbose,
        ),
    )
    return moved


def _write_report(path: str, page: bytes) -> None:
    """Write the page about a migration; complain if that is not possible."""
    try:
        pathlib.Path(path).write_bytes(page)
    except OSError as error:
        output.say(f"warning: no report: {error}")


def _migrate(
    session: Session,
    hosts: Places,
    guest: str,
    how: Options,
    others: list[Observer],
) -> Moved:
    """Migrate a guest, telling how it goes."""
    settings = session.settings
    lines = progress.teller(logged=settings.verbose)
    quiet = settings.as_json and not settings.verbose
    observer = Several([*([] if quiet else [lines]), *others])
    try:
        with signals.stopping(lines.say) as stop:
            outcome = move(hosts, guest, how, (observer, stop))
    finally:
        lines.end()
    return Moved.of(outcome)


def move(
    hosts: Places,
    guest: str,
    how: Options,
    watched: tuple[Observer, threading.Event],
) -> Outcome:
    """Migrate a guest.

    :param watched: who hears of it, and what stops it.
    """
    observer, stop = watched
    return GuestMigration(
        hosts.source,
        hosts.destination,
        guest,
        how,
        observer=observer,
        stop=stop,
        began=hosts.began,
    ).run()


def not_begun(
    session: Session, guest: str, error: exception.MdevMigrateError
) -> Outcome:
    """Return how a migration ended whose hosts could not be opened."""
    seconds = time.monotonic() - session.began
    return Outcome(
        guest,
        error=error,
        step=session.step,
        seconds=seconds,
        timings={Step.CONNECT: seconds},
    )


def _pick(types: dict[str, str], uuids: Iterable[str]) -> dict[str, str]:
    return {uuid: types[uuid] for uuid in uuids if uuid in types}


def as_json(moved: Moved) -> json_output.Answer:
    """Return how a migration ended."""
    outcome = moved.outcome
    last = outcome.last_seen
    return {
        "guest": outcome.guest,
        "instance_uuid": outcome.instance_uuid,
        "result": outcome.result,
        "target_mdevs": outcome.target_mdevs,
        "source_mdev_types": moved.source_mdev_types,
        "target_mdev_types": moved.target_mdev_types,
        "seconds": round(outcome.seconds, 3),
        "downtime_ms": outcome.downtime_ms,
        "bytes": outcome.bytes_moved,
        "device_bytes": last.device_transferred if last else None,
        "iterations": last.iteration if last else None,
        "limit_ms": last.limit_ms if last else None,
        "warnings": outcome.warnings,
        "kernels_unknown": list(outcome.kernels_unknown),
        "steps": {
            step.value: round(seconds, 3)
            for step, seconds in outcome.timings.items()
        },
        "error": json_output.error(outcome.error, outcome.step),
    }


def show(moved: Moved, *, verbose: bool) -> None:
    """Show how a migration ended; what went wrong goes to stderr.

    :param verbose: with the seconds of each step.
    """
    outcome = moved.outcome
    if outcome.error is None:
        _show_pairs(moved)
        output.line(summary(outcome), "green")
    else:
        explain(outcome)
    if outcome.kernels_unknown:
        output.say(f"note: {precheck.say_unknown(outcome.kernels_unknown)}")
    if verbose:
        for step, seconds in outcome.timings.items():
            output.line(f"{step.value}: {seconds:.3f} s")


def _show_pairs(moved: Moved) -> None:
    """Show which target mdev took the place of each source mdev."""
    rows = [
        (source, "->", target, moved.source_mdev_types.get(source, table.NONE))
        for source, target in moved.outcome.target_mdevs.items()
    ]
    if rows:
        table.show(("SOURCE MDEV", "", "TARGET MDEV", "TYPE"), rows)


def summary(outcome: Outcome) -> str:
    """Return what to know of a migration that went well."""
    downtime = (
        "unknown"
        if outcome.downtime_ms is None
        else f"{outcome.downtime_ms} ms"
    )
    parts = [
        f"migrated: guest {outcome.guest} in {outcome.seconds:.1f} s",
        f"downtime {downtime}",
    ]
    if outcome.bytes_moved is not None:
        parts.append(f"{wording.size(outcome.bytes_moved)} sent")
    last = outcome.last_seen
    if last is not None and last.limit_ms:
        parts.append(f"limit {last.limit_ms} ms")
    if last is not None and last.iteration:
        parts.append(f"iterations {last.iteration}")
    if last is not None and last.device_transferred:
        parts.append(f"device state {wording.size(last.device_transferred)}")
    return ", ".join(parts)


def explain(outcome: Outcome) -> None:
    """Tell on stderr why a migration did not go well, and what is left."""
    error = outcome.error
    if error is None:
        return
    output.complain(str(error), error.hint, error.code)
    step = outcome.step.value if outcome.step else "connect"
    output.say(
        f"{outcome.result}: guest "
        f"{output.one_line(outcome.guest)} at step '{step}' after "
        f"{outcome.seconds:.1f} s; {whereabouts(outcome)}"
    )
    for warning in outcome.warnings:
        output.say(f"warning: {output.one_line(warning)}")


#: Where a guest is after an error that tells it by itself, by its code.
_WHERE = {
    exception.OutcomeUnknown.code: (
        "where it runs is not known, so nothing was undone"
    ),
    exception.DefinitionUnknown.code: (
        "which host has its definition is not known"
    ),
    exception.GuestStartedMeanwhile.code: (
        "it runs on the source, and is defined on the destination alone"
    ),
    exception.GuestLost.code: "it runs on neither host",
    exception.GuestRestarted.code: (
        "it runs on the source, all else was undone"
    ),
    exception.GuestStopped.code: (
        "it was stopped on the source, all else was undone"
    ),
}


#: Where a guest is that has left the source, by what became of it.
_ARRIVED = {
    "": "it left the source: look at it on the destination",
    "changed": "it runs on the destination",
    "off": "it is shut off on the destination",
    "forgotten": "it ended on the destination",
    "gone": "it left the source, and the destination does not know it",
}


def whereabouts(outcome: Outcome) -> str:
    """Return where the guest is after a migration that did not go well."""
    if outcome.error is not None and outcome.error.code in _WHERE:
        return _WHERE[outcome.error.code]
    if isinstance(outcome.error, exception.GuestNotOnTargets):
        return _ARRIVED[outcome.error.fate]
    targets = phases.TARGETS[outcome.step or phases.Step.CONNECT]
    if targets is phases.Targets.NOTHING:
        return "nothing was changed on either host"
    if targets is phases.Targets.IN_USE:
        return "it left the source: look at it on the destination"
    if any(text.startswith("not undone") for text in outcome.warnings):
        return "it stays on the source; not all could be undone"
    return "it stays on the source, all else was undone"
