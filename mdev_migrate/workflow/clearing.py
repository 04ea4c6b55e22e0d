# SPDX-License-Identifier: Apache-2.0
"""Remove mdevs that were made for guests which have left their host.

A migration that creates target mdevs has them remembered when the guest has
arrived. Once the host knows that guest no more, because it was migrated on
or undefined, those of them that nobody else has taken are removed: under a
claim of its own, so that nobody is promised one meanwhile, and so that a
removal that is interrupted is finished by the next recovery. What is defined
to survive a reboot stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mdev_migrate import exception, model
from mdev_migrate.core import allocation, claims, phases
from mdev_migrate.host import Host
from mdev_migrate.service import MdevMigration


@dataclass(frozen=True, slots=True)
class Cleared:
    """What became of the mdevs made for guests that have left.

    :ivar removed: instance UUID by UUID of an mdev that is gone now, or
        would be.
    :ivar problems: what could not be removed.
    """

    removed: Mapping[str, str]
    problems: tuple[exception.MdevMigrateError, ...] = ()


def clear(
    place: MdevMigration[Host],
    note: claims.Note,
    instance_uuid: str | None = None,
    *,
    dry_run: bool = False,
) -> Cleared:
    """Remove the mdevs made for guests that a host knows no more.

    :param place: the host, with the claims on its mdevs.
    :param note: what the claims say that this is done under.
    :param instance_uuid: only those made for this instance.
    :param dry_run: only say what would be removed.
    :raises HostError: if the host cannot be asked.
    :raises LedgerError: if the claims cannot be read or kept.
    """
    made = place.claims.made()
    if instance_uuid is not None:
        made = {
            u: owner for u, owner in made.items() if owner == instance_uuid
        }
    if not made:
        return Cleared({})
    inventory = place.host.inventory()
    removed: dict[str, str] = {}
    problems: list[exception.MdevMigrateError] = []
    for owner, mdevs in _left(inventory, made).items():
        found = () if dry_run else _remove(place, note, owner, mdevs)
        problems += found
        if not found:
            removed |= {mdev.uuid: owner for mdev in mdevs}
    if not dry_run:
        listed = {mdev.uuid for mdev in inventory.mdevs}
        place.claims.forget(removed.keys() | (made.keys() - listed))
    return Cleared(removed, tuple(problems))


def _left(
    inventory: model.Inventory, made: Mapping[str, str]
) -> dict[str, list[model.Mdev]]:
    """Return what is there of guests that are not, by instance UUID."""
    known = {guest.instance_uuid for guest in inventory.guests}
    assigned = inventory.assigned()
    left: dict[str, list[model.Mdev]] = {}
    for mdev in inventory.mdevs:
        owner = made.get(mdev.uuid)
        if owner is None or owner in known:
            continue
        if mdev.uuid not in assigned and not mdev.persistent:
            left.setdefault(owner, []).append(mdev)
    return left


def _remove(
    place: MdevMigration[Host],
    note: claims.Note,
    instance_uuid: str,
    mdevs: Iterable[model.Mdev],
) -> tuple[exception.MdevMigrateError, ...]:
    """Remove mdevs under a claim; return what was in the way."""
    plan = allocation.AllocationPlan(create=tuple(mdevs))

    def choose(held: tuple[model.Mdev, ...]) -> allocation.AllocationPlan:
        taken = {mdev.uuid for mdev in held} & {m.uuid for m in plan.create}
        if taken:
            raise exception.ClaimHeld(instance_uuid, "another migration")
        return plan

    try:
        with place.claims.claim(
            instance_uuid,
            choose,
            note,
            claims.refuse_unfinished,
            step=phases.Step.CREATE,
        ):
            pass
    except exception.ClaimHeld as error:
        return (error,)
    problems = place.roll_back(
        instance_uuid, phases.Step.CREATE, plan, note=note
    )
    if problems:
        place.claims.leave(instance_uuid, note)
    return problems


def clear_behind(
    place: MdevMigration[Host], note: claims.Note, instance_uuid: str
) -> Iterator[str]:
    """Clear a host that a guest has just left; yield what went wrong."""
    try:
        problems = clear(place, note, instance_uuid).problems
    except exception.MdevMigrateError as error:
        problems = (error,)
    for problem in problems:
        yield f"not removed from the source: {problem}"
