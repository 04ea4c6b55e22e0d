# SPDX-License-Identifier: Apache-2.0
"""``recover``: settle what commands that were killed have left."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import click

from mdev_migrate import exception, ledger
from mdev_migrate.cli import (
    application,
    claims,
    json_output,
    options,
    output,
)
from mdev_migrate.cli.places import Places
from mdev_migrate.cli.session import Session
from mdev_migrate.core.claims import Note
from mdev_migrate.host import Host
from mdev_migrate.service import MdevMigration
from mdev_migrate.workflow import Cleared, Recovered, Recovery, clear

#: Seconds: how long a command tries to remove an mdev that is busy, which
#: an earlier one has left of the guest at hand.
_BUSY_S = 2.0


@click.command("recover")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only say what would be done.",
)
@click.option(
    "--abort",
    is_flag=True,
    help="Abort migrations that still go on without the command that began "
    "them. Without it they are waited for, for a minute.",
)
@click.option(
    "--source-gone",
    is_flag=True,
    help="A source that cannot be reached is off for good: a guest that is "
    "not on this host is not anywhere.",
)
@options.shared
@click.pass_context
def command(
    context: click.Context, /, *, dry_run: bool, abort: bool, source_gone: bool
) -> None:
    """Finish or undo what commands that were killed have left on a host.

    The host of --connect is the destination of those migrations. A guest
    that has arrived keeps its mdevs; for one that has not, what was made is
    removed. What cannot be told, or is still under way, is kept.
    """
    session = Session.of(context)
    empty = as_json(session.settings.source_uri, dry_run=dry_run)
    with (
        session.failing(empty),
        session.place(looking=dry_run) as (place, owners),
    ):
        host = place.host.facts().name
        recovery = Recovery(
            place,
            session.environment.opener,
            owners,
            abort=abort,
            source_gone=source_gone,
        )
        settled = recovery.run(dry_run=dry_run)
        note = Note() if dry_run else _note(place, owners)
        cleared = clear(place, note, dry_run=dry_run)
    session.answer(
        as_json(host, settled, cleared, dry_run=dry_run),
        lambda: show(host, settled, cleared, dry_run=dry_run),
    )
    kept = [each for each in settled if each.action == "kept"]
    left = bool(kept or cleared.problems)
    context.exit(application.FAILED if left else application.DONE)


def as_json(
    host: str,
    settled: Iterable[Recovered] = (),
    cleared: Cleared | None = None,
    *,
    dry_run: bool,
) -> json_output.Answer:
    """Return what became of the claims that were left."""
    cleared = cleared or Cleared({})
    return {
        "host": host,
        "dry_run": dry_run,
        "claims": [
            claims.claim(each.claim)
            | {"action": each.action, "reason": each.reason}
            for each in settled
        ],
        "removed": dict(cleared.removed),
        "problems": [str(problem) for problem in cleared.problems],
    }


def show(
    host: str,
    settled: Iterable[Recovered],
    cleared: Cleared,
    *,
    dry_run: bool,
) -> None:
    """Show what became of the claims that were left."""
    texts = [each.text for each in settled] + list(describe(cleared))
    for text in texts:
        output.line(f"would be {text}" if dry_run else text)
    if not texts:
        output.line(f"nothing was left on {host}")


def describe(cleared: Cleared) -> Iterator[str]:
    """Yield in words what became of mdevs made for guests that left."""
    for uuid, instance_uuid in cleared.removed.items():
        yield (
            f"removed: mdev {uuid}, made for guest {instance_uuid}, which is "
            "not on this host any more"
        )
    for problem in cleared.problems:
        yield f"kept: {problem}"


def settle_left(session: Session, hosts: Places, guest: str) -> list[str]:
    """Settle what commands that were killed left on the destination.

    What they left of other guests and takes waiting is kept, for 'recover'.

    :param guest: the name or UUID of the guest at hand.
    :returns: what became of it, in words.
    """
    place = _hurried(hosts.destination, _BUSY_S)
    recovery = Recovery(place, session.environment.opener, hosts.owners)
    texts = []
    try:
        if not (place.claims.all() or place.claims.made()):
            return []
        abandoned = recovery.abandoned()
        own = hosts.source.find_guest(guest).instance_uuid if abandoned else ""
        for claim in abandoned:
            wait = claim.instance_uuid == own
            texts.append(recovery.settle(claim, wait=wait).text)
        note = _note(place, hosts.owners)
        texts += describe(clear(_hurried(place, 0.0), note))
    except exception.MdevMigrateError as error:
        texts.append(f"what others left could not be settled: {error}")
    return texts


def _hurried(place: MdevMigration[Host], busy_s: float) -> MdevMigration[Host]:
    """Return a host that waits for no migration, nor long for an mdev."""
    limits = dataclasses.replace(
        place.limits, settle_s=0.0, busy_s=min(busy_s, place.limits.busy_s)
    )
    return MdevMigration(place.host, place.claims, limits=limits)


def _note(place: MdevMigration[Host], owners: ledger.Owners) -> Note:
    """Return what a claim says that mdevs are removed under."""
    return owners.note("", place.host.uri, place.host.uri)
