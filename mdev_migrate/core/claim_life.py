# SPDX-License-Identifier: Apache-2.0
"""The life of a claim: one table, which everybody asks.

A claim is made (:class:`Verdict` says whether it stands beside others that
were made at the same time), moves from step to step as its migration does,
and ends. What its end is depends on three things only: whether the guest may
have been sent, whether somebody still works on it, and where the guest is
(:data:`ENDS`); and for each target mdev on who has it (:data:`DEEDS`). Its
owner asks when his migration failed, a recovery when he is gone, and the
next migration of the same guest: the answer is the same.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace

from mdev_migrate import exception, model
from mdev_migrate.core import allocation, whereabouts
from mdev_migrate.core.whereabouts import Whereabouts
from mdev_migrate.model import Step

#: The steps of a claim, in order: it may still give way; it stands; its
#: mdevs are there, which a command writes before it moves the definition of
#: a guest that is off; the guest may be sent.
STEPS = (Step.CLAIM, Step.CREATE, Step.PREPARE, Step.MIGRATE)


class Owner(enum.Enum):
    """What is known of the owner of a claim."""

    WORKS = "works on it"
    GONE = "is gone"
    OVER = "has left it: its migration is over"


class End(enum.Enum):
    """What becomes of a claim."""

    KEEP = "keep it"
    UNDO = "remove what was created, release it"
    RECYCLE = "remove what was created, recycle what is reused, release it"
    HAND_OVER = "leave the guest what it runs on, undo the rest, release it"


#: Where a guest is; None is not known, or not asked.
Found = Whereabouts | None
_ANYWHERE: tuple[Found, ...] = (*Whereabouts, None)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of :data:`ENDS`.

    :ivar sent: the guest may have been sent.
    """

    sent: bool
    owners: tuple[Owner, ...]
    found: tuple[Found, ...]
    end: End


_NOBODY = (Owner.GONE, Owner.OVER)
ENDS = (
    Row(False, (Owner.WORKS,), _ANYWHERE, End.KEEP),
    Row(False, _NOBODY, _ANYWHERE, End.UNDO),
    Row(True, (Owner.WORKS,), _ANYWHERE, End.KEEP),
    Row(True, _NOBODY, (Whereabouts.ARRIVED,), End.HAND_OVER),
    Row(
        True,
        _NOBODY,
        (Whereabouts.STAYED, Whereabouts.NOWHERE),
        End.RECYCLE,
    ),
    Row(True, _NOBODY, (Whereabouts.MOVING, None), End.KEEP),
)


class Holder(enum.Enum):
    """Who has a target mdev."""

    NOBODY = "nobody"
    GUEST = "the guest, for good"
    INCOMING = "the guest's incoming half"
    OTHER = "another guest, or another's claim"
    PROCESS = "a process that libvirt does not know"


class Deed(enum.Enum):
    """What to do with a target mdev."""

    LEAVE = "leave it"
    REMOVE = "remove it"
    RECYCLE = "destroy it, create it again"


_OURS = (Holder.NOBODY, Holder.INCOMING)
#: By end of the claim, whether the mdev was created for it, and holder.
DEEDS = {
    (end, created, holder): (
        Deed.LEAVE
        if end is End.KEEP
        else Deed.REMOVE
        if created and holder in (*_OURS, Holder.PROCESS)
        else Deed.RECYCLE
        if not created and holder in _OURS and end is not End.UNDO
        else Deed.LEAVE
    )
    for end in End
    for created in (True, False)
    for holder in Holder
}


def may_be_sent(step: Step) -> bool:
    """Tell whether a guest may have been sent by a step.

    :raises ClaimMoveIllegal: if no claim is ever at that step.
    """
    return _place(step) == STEPS.index(Step.MIGRATE)


def _place(step: Step) -> int:
    if step not in STEPS:
        raise exception.ClaimMoveIllegal(f"step '{step.value}'", "be")
    return STEPS.index(step)


def advanced(claim: model.Claim, step: Step) -> model.Claim:
    """Return a claim at a later step.

    :raises ClaimMoveIllegal: if that step is not later, or no claim's.
    """
    if claim.over or _place(step) <= _place(claim.step):
        raise exception.ClaimMoveIllegal(
            f"step '{claim.step.value}'{' that is over' * claim.over}",
            f"come to step '{step.value}'",
        )
    return replace(claim, step=step)


def end(claim: model.Claim, owner: Owner, found: Found = None) -> End:
    """Return what becomes of a claim.

    :param found: where its guest is; only asked once it may be sent.
    """
    sent = may_be_sent(claim.step)
    return next(
        row.end
        for row in ENDS
        if row.sent is sent and owner in row.owners and found in row.found
    )


def holder(
    claim: model.Claim,
    mdev_uuid: str,
    inventory: model.Inventory,
    *,
    arrived: bool,
) -> Holder:
    """Return who has a target mdev, as far as the host knows.

    :param arrived: the guest has; otherwise one that is active is its
        incoming half, about to be killed.
    """
    guest = inventory.assigned().get(mdev_uuid)
    others = {mdev.uuid for mdev in inventory.claims.held(claim)}
    if mdev_uuid in others:
        return Holder.OTHER
    if guest is None:
        return Holder.NOBODY
    if guest.instance_uuid != claim.instance_uuid:
        return Holder.OTHER
    if arrived or not guest.active or whereabouts.has_come(guest):
        return Holder.GUEST
    return Holder.INCOMING


def deeds(
    claim: model.Claim,
    end: End,
    inventory: model.Inventory,
    busy: Iterable[str] = (),
) -> dict[str, Deed]:
    """Return what to do with each target mdev, by its UUID.

    :param busy: UUIDs of mdevs that stayed busy although no guest has them.
    """
    told = {}
    arrived = end is End.HAND_OVER
    domains = [target.domain_uuid for target in claim.targets]
    inventory = inventory.without_definition(*domains)
    # A definition that the guest had left there names what was there before.
    before = inventory.without_definition(claim.instance_uuid)
    for target in claim.targets:
        uuid = target.mdev.uuid
        seen = inventory if target.created or arrived else before
        has = holder(claim, uuid, seen, arrived=arrived)
        if has is Holder.NOBODY and uuid in set(busy):
            has = Holder.PROCESS
        told[uuid] = DEEDS[end, target.created, has]
    return told


def is_taken_over(claim: model.Claim, claims: model.Claims) -> bool:
    """Tell whether somebody else ends a claim, for whom its owner leaves it.

    Nova's claims end by their migration, whoever asks.

    :param claim: as whoever asks knows it: his own is not over.
    """
    if claim.over or claim.migration:
        return False
    return any(c.over for c in claims.all if c.token == claim.token)


def may_recycle(
    claim: model.Claim, target: model.Target, claims: model.Claims
) -> bool:
    """Tell whether a reused mdev of a claim that ends may be recycled.

    Another may end the same claim, and then it may be given to others.

    :param claims: read after it was seen that nobody has the mdev open.
    """
    if target.mdev.uuid in {mdev.uuid for mdev in claims.held(claim)}:
        return False
    # An owner need not find his claim: somebody may have undefined it.
    there = (each.token for each in claims.all)
    return not claim.over or claim.token in there


#: What libvirt and QEMU say of an mdev that a guest cannot be given.
_TAKEN = ("in use", "busy", "not found")


def named_as_taken(reason: str, uuids: Iterable[str]) -> frozenset[str]:
    """Return the mdevs that an error says somebody else has, or removed.

    :param reason: in libvirt's words, which may hold QEMU's.
    """
    words = reason.lower()
    if not any(each in words for each in _TAKEN):
        return frozenset()
    return frozenset(uuid for uuid in uuids if uuid in words)


# Made at the same time ---------------------------------------------------


class Verdict(enum.Enum):
    """What to do with a claim that was just made, beside all others."""

    STANDS = "it stands"
    WAIT = "another must give way first"
    GIVE_WAY = "another was first"


def judge(mine: model.Claim, inventory: model.Inventory) -> Verdict:
    """Judge a claim of step CLAIM by what is on the host, itself included.

    No two claims are ever made of one mdev that exists: their domains would
    have one name. But two may be for the same guest, or create more on a
    parent than it has room for, when both looked before either was there.
    So each looks once more, and comes to the next step only if it stands.
    First are those that have, and of those at step CLAIM the ones with
    smaller tokens. A claim that fits in with them, and not with all, waits:
    one of the others may have looked before it was there.

    :param inventory: looked at after the claim was made.
    """
    # What a definition holds that the guest has left there is its own.
    inventory = inventory.without_definition(mine.instance_uuid)
    assigned = inventory.assigned()
    if any(target.mdev.uuid in assigned for target in mine.targets):
        return Verdict.GIVE_WAY
    listed = {mdev.uuid for mdev in inventory.mdevs}
    if any(t.mdev.uuid not in listed for t in mine.targets if not t.created):
        # It was removed since it was chosen.
        return Verdict.GIVE_WAY
    others = [c for c in inventory.claims.all if c.token != mine.token]
    before = [c for c in others if _is_before(c, mine)]
    if not _fits(mine, before, inventory):
        return Verdict.GIVE_WAY
    if not _fits(mine, others, inventory):
        return Verdict.WAIT
    return Verdict.STANDS


def _is_before(claim: model.Claim, mine: model.Claim) -> bool:
    return claim.step is not Step.CLAIM or claim.token < mine.token


def _fits(
    mine: model.Claim, others: list[model.Claim], inventory: model.Inventory
) -> bool:
    """Tell whether a claim can stand beside others."""
    if any(c.instance_uuid == mine.instance_uuid for c in others):
        return False
    held = [mdev for claim in others for mdev in claim.mdevs]
    create = [t.mdev for t in mine.targets if t.created]
    return not allocation.crowded(inventory, create, held)
