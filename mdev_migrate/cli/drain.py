# SPDX-License-Identifier: Apache-2.0
"""``drain``: move all guests of a host to others."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from mdev_migrate import exception
from mdev_migrate.cli import (
    application,
    completion,
    drain_guests,
    drain_moves,
    drain_output,
    events,
    json_output,
    metrics,
    migration_options,
    options,
    output,
    way_options,
)
from mdev_migrate.cli.session import Session, exit_code
from mdev_migrate.host import Host
from mdev_migrate.model import Step
from mdev_migrate.workflow import Destination, Options
from mdev_migrate.workflow.drain import Moved
from mdev_migrate.workflow.drain_plan import Plan, make_plan


@dataclasses.dataclass(frozen=True, slots=True)
class _Target:
    """A host that guests may go to.

    :ivar to: its URI, as this machine reaches it.
    :ivar how: the options of a migration there.
    """

    to: str
    how: Options


@click.command("drain")
@click.option(
    "--to",
    "destinations",
    metavar="URI",
    type=options.WORD,
    required=True,
    multiple=True,
    help="A host that guests may go to, as this machine reaches it; again "
    "for each.",
)
@click.option(
    "--peer-uri",
    "peer_uris",
    metavar="URI",
    type=options.WORD,
    multiple=True,
    help="The same host's libvirt, as the source's libvirt reaches it; as "
    "often as --to, in the same order. Default: the URIs of --to.",
)
@click.option(
    "--migrate-uri",
    "migrate_uris",
    metavar="URI",
    type=options.WORD,
    multiple=True,
    help="Where QEMU sends memory to, likewise. Default: libvirt chooses.",
)
@click.option(
    "--all",
    "everybody",
    is_flag=True,
    help="Move guests without mdevs, too.",
)
@click.option(
    "--shut-off",
    is_flag=True,
    help="Move the definitions of guests that are off, too, and provide "
    "their mdevs there.",
)
@click.option(
    "--only",
    metavar="GUEST",
    type=options.WORD,
    shell_complete=completion.guests,
    multiple=True,
    help="Move only this guest, by name, UUID or number; again for each.",
)
@click.option(
    "--except",
    "but",
    metavar="GUEST",
    type=options.WORD,
    shell_complete=completion.guests,
    multiple=True,
    help="Leave this guest where it is; again for each.",
)
@click.option(
    "--dry-run", is_flag=True, help="Only show where each guest would go."
)
@click.option(
    "--parallel-guests",
    metavar="N",
    type=click.IntRange(1, 16),
    default=1,
    help="Move so many guests at a time. Default: 1.",
)
@click.option(
    "--note",
    metavar="FILE",
    type=options.NewFile(),
    help="Write down where each guest came from, to bring it back with "
    "--from-drain.",
)
@click.option(
    "--from-drain",
    "origins",
    metavar="FILE",
    type=click.Path(dir_okay=False, exists=True),
    help="Move only the guests that, by such a file, came from the host of "
    "--to.",
)
@migration_options.flags
@migration_options.budget
@migration_options.limits
@way_options.way
@metrics.option
@events.option
@options.shared
@click.pass_context
def command(
    context: click.Context,
    /,
    metrics_file: str | None,
    events_file: str | None,
    **given: Any,
) -> None:
    """Move all guests with mdevs of a host to others.

    Each host is looked at once, and a plan made for all guests together.
    Then they move, one after the other; one that fails is tried on the next
    host that could take it, and left where it is if there is none. Called
    again, it goes on with those that are left.

    Ctrl-C lets what is under way go on and begins no more; a second one
    aborts it.
    """
    session = Session.of(context)
    call = _Call.read(context, given)
    with events.stream(session, events_file) as stream:
        with session.failing(_answer(session, call)):
            plan = _look(session, call)
        show_plan = functools.partial(drain_output.show_plan, plan)
        if call.dry_run:
            planned = [Moved(each) for each in plan.guests]
            session.answer(_answer(session, call, plan, planned), show_plan)
            session.end_showing(context, allowed=not plan.staying)
        if not session.settings.as_json:
            output.answer(show_plan)
        hows = {target.to: target.how for target in call.targets}
        note = drain_guests.Note(call.note)
        moves = drain_moves.Moves(session, hows, note, stream)
        moved = moves.run(plan, call.parallel)
        found = _answer(session, call, plan, moved)
        if stream is not None and not session.is_one_of_lines:
            stream.write("drained", found)
        if metrics_file is not None:
            metrics.write(metrics_file, _finished(moved))
        session.answer(found, functools.partial(drain_output.show_end, moved))
    context.exit(_exit_code(moved))


def _finished(moved: Iterable[Moved]) -> list[metrics.Finished]:
    """Return the last attempt to move each guest."""
    return [
        metrics.Finished(each.tried[-1].outcome, each.leaving.types)
        for each in moved
        if each.tried
    ]


@dataclasses.dataclass(frozen=True, slots=True)
class _Call:
    """What the command was told."""

    targets: tuple[_Target, ...]
    everybody: bool
    shut_off: bool
    only: tuple[str, ...]
    but: tuple[str, ...]
    dry_run: bool
    parallel: int
    note: str | None
    origins: str | None

    @classmethod
    def read(cls, context: click.Context, given: dict[str, Any]) -> _Call:
        """Read click's parameters.

        :raises click.UsageError: if they cannot be meant.
        """
        uris = given.pop("destinations")
        peers, addresses = (
            migration_options.one_each(uris, given.pop(name), option)
            for name, option in (
                ("peer_uris", "--peer-uri"),
                ("migrate_uris", "--migrate-uri"),
            )
        )
        if len(set(uris)) != len(uris):
            raise click.UsageError("--to: a host twice", context)
        own = {
            name: given.pop(name)
            for name in (
                *("everybody", "shut_off", "only", "but"),
                *("dry_run", "note"),
            )
        }
        parallel, origins = given.pop("parallel_guests"), given.pop("origins")
        if origins and len(uris) != 1:
            raise click.UsageError("--from-drain needs one --to", context)
        how = migration_options.read(given)
        targets = tuple(
            _Target(
                uri,
                dataclasses.replace(how, peer_uri=peer, migrate_uri=address),
            )
            for uri, peer, address in zip(uris, peers, addresses, strict=True)
        )
        return cls(targets, parallel=parallel, origins=origins, **own)


def _look(session: Session, call: _Call) -> Plan:
    """Look at all hosts and plan.

    :raises HostUnreachable: if the source is, or every destination.
    """
    places: dict[str, Destination] = {}
    unreached: dict[str, exception.MdevMigrateError] = {}
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(session.source())
        for target in call.targets:
            try:
                places[target.to] = stack.enter_context(
                    session.destination(target.to)
                )
            except exception.HostUnreachable as error:
                unreached[target.to] = error
        if not places:
            first, *others = unreached.values()
            for other in others:
                session.warn(str(other))
            raise first
        chosen = _chosen(call, source, places)
        plan = make_plan(
            source,
            places,
            {target.to: target.how for target in call.targets},
            chosen.wants,
            shut_off=call.shut_off,
            unreached=unreached,
        )
        for word, name in chosen.left(places).items():
            session.warn(f"{word!r} is on {name} already")
        return plan


def _chosen(
    call: _Call, source: Host, places: Mapping[str, Destination]
) -> drain_guests.Chosen:
    origins = None
    if call.origins is not None:
        (place,) = places.values()
        origin = place.host.facts().host_uuid
        origins = drain_guests.read_note(call.origins, origin)
    only, but = (
        drain_guests.known(source, words) for words in (call.only, call.but)
    )
    return drain_guests.Chosen(call.everybody, only, but, origins)


def _exit_code(moved: Iterable[Moved]) -> int:
    left = [each for each in moved if each.result != "migrated"]
    codes = [
        exit_code(each.tried[-1].outcome.error) for each in left if each.tried
    ]
    return max(codes, default=application.FAILED if left else application.DONE)


def _answer(
    session: Session,
    call: _Call,
    plan: Plan | None = None,
    moved: Sequence[Moved] = (),
) -> json_output.Answer:
    """Return the plan, and what became of each guest."""
    return {
        "source": session.settings.source_uri,
        "destinations": [target.to for target in call.targets],
        "dry_run": call.dry_run,
        "fits": plan is not None and not plan.staying,
        "shortage": dict(plan.shortage) if plan else {},
        "unreached": {
            name: json_output.error(error, Step.CONNECT)
            for name, error in (plan.unreached if plan else {}).items()
        },
        "off": [
            {"guest": guest.name, "instance_uuid": guest.instance_uuid}
            for guest in (plan.off if plan else ())
        ],
        "guests": [drain_output.guest_as_json(each) for each in moved],
    }
