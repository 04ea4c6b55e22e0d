# SPDX-License-Identifier: Apache-2.0
"""``migrate``: move a guest, listening, and able to be stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import click

from mdev_migrate import exception
from mdev_migrate.cli import (
    json_output,
    migration_options,
    options,
    output,
    progress,
    recover,
    signals,
    table,
)
from mdev_migrate.cli.places import Places
from mdev_migrate.cli.session import Session, exit_code
from mdev_migrate.core import phases
from mdev_migrate.host import Host
from mdev_migrate.workflow import GuestMigration, Options, Outcome


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


@click.command("migrate")
@migration_options.journey
@migration_options.budget
@migration_options.limits
@options.shared
@click.pass_context
def command(
    context: click.Context, /, guest: str, to: str, **how: Any
) -> None:
    """Live-migrate a guest to another host.

    GUEST is a name or UUID. Ctrl-C, SIGTERM or a hang-up aborts the
    migration and waits until all is undone. A guest without mdevs is
    migrated too.
    """
    session = Session.of(context)
    moved = answer(session, guest, to, migration_options.read(how))
    context.exit(exit_code(moved.outcome.error))


def answer(session: Session, guest: str, to: str, how: Options) -> Moved:
    """Migrate a guest and answer with how that ended."""
    try:
        with session.hosts(to) as hosts:
            moved = _migrate(session, hosts, guest, how)
    except exception.MdevMigrateError as error:
        outcome = Outcome(guest, error=error, step=session.step)
        moved = Moved(outcome)
    session.answer(
        as_json(moved),
        lambda: show(
            moved,
            verbose=session.settings.verbose,
        ),
    )
    return moved


def _migrate(
    session: Session, hosts: Places, guest: str, how: Options
) -> Moved:
    """Migrate a guest, telling how it goes."""
    settings = session.settings
    lines = progress.teller()
    quiet = settings.as_json and not settings.verbose
    observer = progress.observer(lines, quiet=quiet)
    try:
        left = recover.settle_left(session, hosts, guest)
        for text in left:
            observer.warn(text)
        types = _types(hosts.source)
        with signals.stopping(lines.say) as stop:
            outcome = GuestMigration(
                hosts.source,
                hosts.destination,
                guest,
                how,
                observer=observer,
                stop=stop,
                note=hosts.owners.note(
                    guest, hosts.source.uri, hosts.destination.host.uri
                ),
                may_replace=hosts.owners.may_replace,
                source_claims=hosts.source_claims,
            ).run()
        outcome.warnings[:0] = left
    finally:
        lines.end()
    pairs = outcome.target_mdevs
    there = _types(hosts.destination.host) if pairs else {}
    return Moved(outcome, _pick(types, pairs), _pick(there, pairs.values()))


def _types(host: Host) -> dict[str, str]:
    """Return the type of each mdev of a host; of none if it does not say.

    Only shown: what makes a host silent is the migration's to report.
    """
    with contextlib.suppress(exception.MdevMigrateError):
        inventory = host.inventory()
        return {mdev.uuid: mdev.mdev_type for mdev in inventory.mdevs}
    return {}


def _pick(types: dict[str, str], uuids: Iterable[str]) -> dict[str, str]:
    return {uuid: types[uuid] for uuid in uuids if uuid in types}


def as_json(moved: Moved) -> json_output.Answer:
    """Return how a migration ended."""
    outcome = moved.outcome
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
        "warnings": outcome.warnings,
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
        for text in summary(outcome):
            output.line(text, "green")
    else:
        explain(outcome)
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


def summary(outcome: Outcome) -> Iterator[str]:
    """Yield what to know of a migration that went well."""
    downtime = (
        "unknown"
        if outcome.downtime_ms is None
        else f"{outcome.downtime_ms} ms"
    )
    yield (
        f"migrated: guest {outcome.guest} in {outcome.seconds:.1f} s, "
        f"downtime {downtime}, {progress.size(outcome.bytes_moved)} sent"
    )


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


def whereabouts(outcome: Outcome) -> str:
    """Return where the guest is after a migration that did not go well."""
    if isinstance(outcome.error, exception.OutcomeUnknown):
        return "where it runs is not known, so nothing was undone"
    if isinstance(outcome.error, exception.GuestLost):
        return "it is active on neither host"
    targets = phases.TABLE[outcome.step or phases.Step.CONNECT].targets
    if targets is phases.Targets.NOTHING:
        return "nothing was changed on either host"
    if targets is phases.Targets.IN_USE:
        return "it left the source: look at it on the destination"
    if any(text.startswith("not undone") for text in outcome.warnings):
        return "it stays on the source; not all could be undone"
    return "it stays on the source, all else was undone"
