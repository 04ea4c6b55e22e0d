# SPDX-License-Identifier: Apache-2.0
"""Decide which mdevs of a destination to reuse and which to create.

An mdev that is promised but does not exist, be it by a claim or because a
guest that is shut off names it, takes room as if it existed.

What is defined and not active, and nobody's, is started where one would be
created: creating it is what starts it, and its definition is not ours.

A guest may have left a definition of its own on the destination, from an
earlier stay. What that holds is for this guest, and comes first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, replace

from mdev_migrate import exception, model
from mdev_migrate.core import idle, offers, pairing
from mdev_migrate.core.rooms import Avoided, Room, place

#: Of how many functions a refusal counts as one of their whole card: of one
#: while there are others to ask, of two before nobody is left.
_PATIENCE = (1, 2)


@dataclass(frozen=True, slots=True)
class AllocationPlan:
    """The target mdevs of one migration.

    :ivar reuse: they exist already.
    :ivar create: they do not; their UUIDs were minted with the plan.
    """

    reuse: tuple[model.Mdev, ...] = ()
    create: tuple[model.Mdev, ...] = ()

    @property
    def mdevs(self) -> tuple[model.Mdev, ...]:
        """Return all target mdevs."""
        return self.reuse + self.create


def the_mdev(inventory: model.Inventory, uuid: str) -> model.Mdev | None:
    """Return the one active mdev of a UUID, None if there is none.

    :raises MdevUnderTwoParents: if the host lists it more than once.
    """
    found = the_listed(inventory, uuid)
    return found if found is not None and found.active else None


def the_listed(inventory: model.Inventory, uuid: str) -> model.Mdev | None:
    """Return the one mdev of a UUID, be it only defined; None if none is.

    :raises MdevUnderTwoParents: if the host lists it more than once.
    """
    found = [mdev for mdev in inventory.mdevs if mdev.uuid == uuid]
    if len(found) > 1:
        raise exception.MdevUnderTwoParents(
            inventory.host, uuid, tuple(mdev.parent for mdev in found)
        )
    return found[0] if found else None


def _promised(
    inventory: model.Inventory, held: Iterable[model.Mdev]
) -> tuple[model.Mdev, ...]:
    """Return the mdevs that will be created by others."""
    active = {mdev.uuid for mdev in inventory.mdevs if mdev.active}
    assigned = inventory.assigned()
    defined = (mdev for mdev in inventory.mdevs if mdev.uuid in assigned)
    promised = {
        mdev.uuid: mdev
        for mdev in (*defined, *held)
        if mdev.uuid not in active
    }
    return tuple(promised.values())


def _rooms(
    inventory: model.Inventory,
    held: Collection[model.Mdev],
    avoid: Collection[Avoided],
) -> list[Room]:
    rooms = {
        parent.name: Room(parent, avoid)
        for parent in sorted(inventory.parents, key=lambda p: p.name)
    }
    for mdev in _promised(inventory, held):
        if mdev.parent in rooms:
            rooms[mdev.parent].promise(mdev.mdev_type)
    return list(rooms.values())


def crowded(
    inventory: model.Inventory,
    create: Iterable[model.Mdev],
    held: Collection[model.Mdev],
) -> frozenset[str]:
    """Return the parents without room for what is planned there.

    :param create: mdevs that do not exist yet.
    :param held: as for :func:`allocate`.
    """
    counts: dict[str, Counter[str]] = {}
    for mdev in create:
        counts.setdefault(mdev.parent, Counter())[mdev.mdev_type] += 1
    rooms = {room.name: room for room in _rooms(inventory, held, ())}
    return frozenset(
        parent
        for parent, asked in counts.items()
        if parent not in rooms or not rooms[parent].fits(asked)
    )


def _found(
    inventory: model.Inventory,
    spare: Iterable[model.Mdev],
    wanted: Iterable[model.WantedMdev],
) -> str:
    """Return in words what there is of the wanted types."""
    wanted = tuple(wanted)
    existing = Counter(mdev.mdev_type for mdev in spare)
    misnamed = offers.misnamed(inventory, wanted)

    def place_of(parent: model.Parent, kind: str) -> str:
        other = misnamed.get(Avoided(parent.name, (kind,)))
        return parent.name if other is None else f"{parent.name} ({other})"

    return "; ".join(
        f"{kind}: {existing[kind]} existing and available, "
        + "available instances "
        + ", ".join(
            f"{offer.available_instances} on {place_of(parent, kind)}"
            for parent in inventory.parents
            if (offer := parent.offer(kind)) is not None
        )
        for kind in sorted({want.mdev_type for want in wanted})
    )


@dataclass(frozen=True, slots=True)
class _Spare:
    """What is there for a guest.

    :ivar mdevs: exist, active or only defined.
    :ivar own: UUIDs of those that the guest's own definition names.
    """

    mdevs: tuple[model.Mdev, ...]
    own: frozenset[str] = frozenset()

    def on(self, parent: str) -> _Spare:
        """Return what there is on one parent."""
        mdevs = tuple(mdev for mdev in self.mdevs if mdev.parent == parent)
        return _Spare(mdevs, self.own)

    def match(
        self,
        wanted: Sequence[model.WantedMdev],
        *,
        active: bool,
        unfit: Collection[Avoided] = (),
    ) -> dict[str, model.Mdev]:
        """Return what serves: the guest's own first, then as durable ones.

        :param unfit: where a type is not what is wanted, but for those who
            chose it.
        :returns: target mdev by source mdev UUID.
        """
        strange = 1 + pairing.WORST * len(wanted)

        def rank(mdev: model.Mdev, want: model.WantedMdev) -> int | None:
            found = pairing.fit(mdev, want)
            if want.target is None and mdev.uuid in unfitting:
                return None
            if found is None or mdev.uuid in self.own:
                return found
            return found + strange

        existing = [mdev for mdev in self.mdevs if mdev.active is active]
        unfitting = {
            mdev.uuid
            for mdev in existing
            if unfit and Avoided(mdev.parent, (mdev.mdev_type,)) in unfit
        }
        return pairing.match(wanted, existing, rank)

    def misfit(
        self, plan: AllocationPlan, wanted: Sequence[model.WantedMdev]
    ) -> tuple[int, ...]:
        """Rank a plan by what it leaves, makes, and changes afterwards."""
        existing = {mdev.uuid for mdev in self.mdevs}
        targets = {mdev.uuid: mdev for mdev in plan.mdevs}
        pairs = pairing.pair_mdevs(wanted, plan.mdevs)
        return (
            -len(self.own & targets.keys()),
            len(plan.create),
            len(targets.keys() - existing),
            sum(
                pairing.misfit(targets[pairs[want.source_uuid]], want)
                for want in wanted
            ),
        )


def _spare(
    inventory: model.Inventory,
    others: model.Inventory,
    held: Collection[model.Mdev],
    unfit: Collection[Avoided],
) -> _Spare:
    """Return what may be reused.

    :param others: the inventory without the guest's own definition.
    """
    return _Spare(
        tuple(
            mdev
            for mdev in idle.nobodys(others, held)
            if Avoided(mdev.parent, (mdev.mdev_type,)) not in unfit
        ),
        idle.own(inventory, others),
    )


def _plan_on(
    rooms: Sequence[Room],
    spare: _Spare,
    wanted: Sequence[model.WantedMdev],
    mint: Callable[[], str],
) -> AllocationPlan | None:
    """Plan on some of the parents: reuse what serves, create the rest."""
    reuse = spare.match(wanted, active=True)
    lacking = [want for want in wanted if want.source_uuid not in reuse]
    places = place(Counter(want.mdev_type for want in lacking), rooms)
    if places is None:
        return None
    create: dict[str, model.Mdev] = {}
    for (parent, kind), count in Counter(places).items():
        alike = [
            want
            for want in lacking
            if want.mdev_type == kind and want.source_uuid not in create
        ]
        defined = spare.on(parent).match(alike, active=False)
        alike.sort(key=lambda want: want.source_uuid not in defined)
        for want in alike[:count]:
            mdev = defined.get(want.source_uuid)
            create[want.source_uuid] = (
                _new_mdev(want, parent, mint())
                if mdev is None
                else _started(mdev)
            )
    return AllocationPlan(
        tuple(reuse.values()),
        tuple(create[want.source_uuid] for want in lacking),
    )


def _started(defined: model.Mdev) -> model.Mdev:
    """Return what starts an mdev that is defined: created, for this guest.

    To undo it is to destroy it: the definition stays, so it is not told.
    """
    return replace(defined, active=True, persistent=False, autostart=False)


def refused_together(
    create: Sequence[model.Mdev], uuid: str, cards: Mapping[str, str]
) -> Avoided:
    """Return what to avoid after an mdev could not be created.

    That is its type with those created on its parent before it: a parent
    that serves one type at a time refuses neither alone.

    :param create: in the order in which they were to be created.
    :param uuid: of the one that could not be.
    :param cards: of the parents, by their names.
    """
    uuids = [mdev.uuid for mdev in create]
    failed = create[uuids.index(uuid)]
    made = create[: uuids.index(uuid)]
    here = [mdev for mdev in made if mdev.parent == failed.parent]
    card = cards.get(failed.parent, "")
    return Avoided(
        failed.parent,
        tuple(sorted(mdev.mdev_type for mdev in (*here, failed))),
        sum(
            card != ""
            and mdev.parent != failed.parent
            and cards.get(mdev.parent) == card
            and mdev.mdev_type == failed.mdev_type
            for mdev in made
        ),
    )


def _new_mdev(want: model.WantedMdev, parent: str, uuid: str) -> model.Mdev:
    return model.Mdev(
        uuid=uuid,
        mdev_type=want.mdev_type,
        parent=parent,
        attributes=want.attributes or (),
        persistent=want.persistent,
        autostart=want.autostart,
    )


def allocate(  # noqa: PLR0913 - facts by name
    inventory: model.Inventory,
    wanted: Sequence[model.WantedMdev],
    *,
    held: Collection[model.Mdev] = (),
    avoid: Collection[Avoided] = (),
    owner: str = "",
    mint: Callable[[], str],
) -> AllocationPlan:
    """Choose a target mdev for each wanted one.

    One parent that serves all is preferred, and of such parents the one with
    most of the guest's own, then with the fewest mdevs to create, then to
    make anew, then to define afterwards, then the first by name. If none
    does, everything that exists is reused and the rest is spread. The same
    inventory gives the same plan but for the UUIDs of new mdevs.

    :param held: mdevs in the claims of other instances.
    :param avoid: what could not be created together on a parent: neither
        that nor more than that is planned there, nor, as long as another
        card is left, on another function of its card.
    :param owner: UUID of the instance, whose definition that is shut off
        there holds its mdevs for it.
    :param mint: returns the UUID for a new mdev.
    :raises MdevTypeMissing: if the destination lacks a type.
    :raises DeviceApiMissing: if it has a type only with another device API.
    :raises MdevTypeDiffers: if its type of that id is another profile.
    :raises TargetUnusable: if a target was chosen that cannot be had.
    :raises TooFewMdevs: if it cannot provide all at once.
    """
    offers.check_types(inventory, wanted)
    plan = AllocationPlan()
    matched = _matched(inventory, wanted, held, owner)
    uuids = {mdev.uuid for mdev in inventory.mdevs}
    for want in sorted(wanted, key=lambda want: want.target not in uuids):
        if want.target is not None:
            mine = matched.get(want.source_uuid)
            theirs = (m for m in inventory.mdevs if m.active and m != mine)
            taken = (*held, *plan.mdevs, *theirs)
            chosen = _chosen(inventory, want, taken, avoid, owner, mint)
            plan = _joined(plan, chosen)
    others = [want for want in wanted if want.target is None]
    taken = (*held, *plan.mdevs)
    plan = _joined(
        plan, _allocate(inventory, others, taken, avoid, owner, mint)
    )
    counts = Counter((m.parent, m.mdev_type) for m in plan.create)
    for each in avoid:
        if all(
            counts[each.parent, kind] >= count
            for kind, count in Counter(each.kinds).items()
        ):
            raise _too_few(inventory, (), wanted)
    return plan


def _joined(one: AllocationPlan, other: AllocationPlan) -> AllocationPlan:
    return AllocationPlan(one.reuse + other.reuse, one.create + other.create)


def _matched(
    inventory: model.Inventory,
    wanted: Sequence[model.WantedMdev],
    held: Collection[model.Mdev],
    owner: str,
) -> dict[str, model.Mdev]:
    """Return what exists for those whose target was chosen.

    All are looked at together: a parent that was chosen gives nobody what
    another has chosen or alone can use.
    """
    others = [want for want in wanted if want.target is None]
    if len(others) == len(wanted):
        return {}
    spare = _spare(
        inventory,
        inventory.without_definition(owner),
        held,
        offers.unfit(inventory, wanted),
    )
    unfit = offers.unfit(inventory, others)
    return spare.match(wanted, active=True, unfit=unfit)


def _chosen(  # noqa: PLR0913, PLR0917 - those of allocate
    inventory: model.Inventory,
    want: model.WantedMdev,
    held: Collection[model.Mdev],
    avoid: Collection[Avoided],
    owner: str,
    mint: Callable[[], str],
) -> AllocationPlan:
    """Plan for a target that the user has chosen.

    An mdev that is only defined is started where it is defined.
    """
    mdevs = tuple(
        mdev
        for mdev in inventory.mdevs
        if want.target in (mdev.uuid, mdev.parent)
    )
    places = {want.target, *(m.parent for m in mdevs if not m.active)}
    parents = tuple(p for p in inventory.parents if p.name in places)
    narrowed = replace(inventory, parents=parents, mdevs=mdevs)
    try:
        return _allocate(narrowed, [want], held, avoid, owner, mint)
    # The latter, if only another could be made beside it.
    except (exception.TooFewMdevs, exception.TargetMdevMissing) as error:
        raise exception.TargetUnusable(
            inventory.host,
            want.source_uuid,
            want.mdev_type,
            want.target or "",
            tuple(inventory.not_read()),
        ) from error


def _too_few(
    inventory: model.Inventory,
    spare: Iterable[model.Mdev],
    wanted: Sequence[model.WantedMdev],
    in_the_way: Iterable[str] = (),
) -> exception.TooFewMdevs:
    return exception.TooFewMdevs(
        inventory.host,
        tuple(want.mdev_type for want in wanted),
        _found(inventory, spare, wanted),
        tuple(inventory.not_read()),
        tuple(in_the_way),
    )


def _allocate(  # noqa: PLR0913, PLR0917 - those of allocate
    inventory: model.Inventory,
    wanted: Sequence[model.WantedMdev],
    held: Collection[model.Mdev],
    avoid: Collection[Avoided],
    owner: str,
    mint: Callable[[], str],
) -> AllocationPlan:
    """Choose for those whose target does not matter; see :func:`allocate`."""
    unfit = offers.unfit(inventory, wanted)
    others = inventory.without_definition(owner)
    spare = _spare(inventory, others, held, unfit)
    for patience in _PATIENCE:
        refused = offers.refused_by_cards(inventory, avoid, patience)
        rooms = _rooms(others, held, unfit.union(avoid, refused))
        plan = _plan_in(rooms, spare, wanted, mint)
        if plan is not None:
            return plan
    active = [
        mdev
        for mdev in spare.mdevs
        if mdev.active and any(pairing.serves(mdev, want) for want in wanted)
    ]
    in_the_way = idle.in_the_way(inventory, others, held, wanted)
    raise _too_few(inventory, active, wanted, in_the_way)


def _plan_in(
    rooms: list[Room],
    spare: _Spare,
    wanted: Sequence[model.WantedMdev],
    mint: Callable[[], str],
) -> AllocationPlan | None:
    """Plan on one parent, or where that cannot be on several."""
    plans = [
        _plan_on([room], spare.on(room.name), wanted, mint) for room in rooms
    ]
    single = [plan for plan in plans if plan is not None]
    if single:
        return min(single, key=lambda plan: spare.misfit(plan, wanted))
    # Where something is defined already it is started, before others.
    defined = Counter(m.parent for m in spare.mdevs if not m.active)
    rooms.sort(key=lambda room: -defined[room.name])
    return _plan_on(rooms, spare, wanted, mint)
