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

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mdev_migrate import exception, model
from mdev_migrate.core import allocation, claims, phases
from mdev_migrate.host import Host
from mdev_migrate.service import MdevMigration, all_denied


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
    left = _left(inventory, made, place.claims.all())
    for owner, mdevs in left.items():
        done, found = (
            (mdevs, ()) if dry_run else _remove(place, note, owner, mdevs)
        )
        removed |= {mdev.uuid: owner for mdev in done}
        problems += found
    if not dry_run:
        place.claims.forget(removed.keys() | _gone(inventory, made))
    return Cleared(removed, tuple(problems))


def _left(
    inventory: model.Inventory,
    made: Mapping[str, str],
    claimed: Mapping[str, claims.Claim],
) -> dict[str, tuple[model.Mdev, ...]]:
    """Return what is there of guests that are not, by instance UUID.

    What a claim is about is left to whoever made that, or will settle it.
    """
    busy = _known(inventory) | claimed.keys()
    taken = set(inventory.assigned()) | {
        mdev.uuid for claim in claimed.values() for mdev in claim.plan.mdevs
    }
    left: dict[str, tuple[model.Mdev, ...]] = {}
    for mdev in inventory.mdevs:
        owner = made.get(mdev.uuid)
        if owner is None or owner in busy:
            continue
        if mdev.uuid not in taken and not mdev.persistent:
            left[owner] = (*left.get(owner, ()), mdev)
    return left


def _known(inventory: model.Inventory) -> set[str]:
    return {guest.instance_uuid for guest in inventory.guests}


def _gone(inventory: model.Inventory, made: Mapping[str, str]) -> set[str]:
    """Return what is not there, nor the guest that it was made for.

    A host may list an mdev late: that of a guest that is there will be.
    """
    listed = {mdev.uuid for mdev in inventory.mdevs}
    known = _known(inventory)
    return {
        uuid
        for uuid, owner in made.items()
        if uuid not in listed and owner not in known
    }


def _remove(
    place: MdevMigration[Host],
    note: claims.Note,
    instance_uuid: str,
    mdevs: tuple[model.Mdev, ...],
) -> tuple[tuple[model.Mdev, ...], tuple[exception.MdevMigrateError, ...]]:
    """Remove mdevs under a claim; return which, and what was in the way."""

    def choose(held: tuple[model.Mdev, ...]) -> allocation.AllocationPlan:
        taken = {mdev.uuid for mdev in held}
        free = (mdev for mdev in mdevs if mdev.uuid not in taken)
        return allocation.AllocationPlan(create=tuple(free))

    step = phases.Step.CREATE
    refuse = claims.refuse_unfinished
    try:
        with place.claims.claim(
            instance_uuid, choose, note, refuse, step=step
        ) as plan:
            pass
    except exception.ClaimHeld:
        return (), ()
    problems = place.roll_back(instance_uuid, step, plan, note=note)
    if not problems:
        return plan.create, ()
    if all_denied(problems):
        # What is left is as it was, and others may have a use for it.
        place.claims.release(instance_uuid, note)
    else:
        place.claims.leave(instance_uuid, note)
    return (), problems


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
