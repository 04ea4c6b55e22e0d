# SPDX-License-Identifier: Apache-2.0
"""Decide which mdevs of a destination to reuse and which to create.

The types of a parent share its room, but libvirt reports for each type
only how many more the parent would create *if it created nothing else*.
:class:`_Room` makes the least demanding sense of these numbers: the type
with the most available instances takes one unit each, another type as many
whole units as explain its number. A vendor whose rule is stricter (one type
a parent, say) refuses the creation; the caller then plans again and
``avoid``\\ s on that parent what could not be had together.

An mdev that is promised but does not exist, be it by a claim or because a
guest that is shut off names it, takes room as if it existed.

What is defined and not active, and nobody's, is started where one would be
created: creating it is what starts it, and its definition is not ours.

A guest may have left a definition of its own on the destination, from an
earlier stay. What that holds is for this guest, and comes first.
"""

from __future__ import annotations

import functools
import math
import operator
from collections import Counter
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, replace
from fractions import Fraction

from mdev_migrate import exception, model
from mdev_migrate.core import pairing

#: What a plan must not create together on a parent: parent, mdev types.
Avoided = tuple[str, tuple[str, ...]]
#: How many mdevs of each type a parent is to take, in the types' order.
_Share = tuple[int, ...]


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


class _Room:
    """What one parent can still take.

    Counted in parts of a unit small enough for whole numbers.
    """

    def __init__(
        self, parent: model.Parent, avoid: Collection[Avoided]
    ) -> None:
        self.name = parent.name
        self._avoid = [
            Counter(kinds) for name, kinds in avoid if name == parent.name
        ]
        units = _units(
            {
                offered.mdev_type: offered.available_instances
                for offered in parent.types
                if offered.available_instances > 0
            }
        )
        parts = math.lcm(*(size.denominator for size in units.values()))
        self._sizes = {kind: int(size * parts) for kind, size in units.items()}
        self._left = parts * max(
            (offered.available_instances for offered in parent.types),
            default=0,
        )

    def promise(self, mdev_type: str) -> None:
        """Take room for an mdev that somebody else was promised."""
        self._left -= self._sizes.get(mdev_type, 0)

    def most(self, mdev_type: str) -> int:
        """Return how many mdevs of a type would fit in alone, at most."""
        size = self._sizes.get(mdev_type)
        return 0 if size is None else max(self._left // size, 0)

    def fits(self, counts: Mapping[str, int]) -> bool:
        """Tell whether so many mdevs of each type fit in together."""
        asked = {kind: count for kind, count in counts.items() if count}
        if not asked.keys() <= self._sizes.keys():
            return False
        if any(together <= Counter(asked) for together in self._avoid):
            return False
        sizes = (self._sizes[kind] * count for kind, count in asked.items())
        return not asked or sum(sizes) <= self._left


def _units(available: Mapping[str, int]) -> dict[str, Fraction]:
    """Return how many units of its parent's room each type takes.

    :param available: instances of each type, none of them 0.
    """
    total = max(available.values(), default=0)
    units = {}
    for kind, count in available.items():
        whole = total // (count + 1) + 1
        fits = total // whole == count
        units[kind] = Fraction(whole) if fits else Fraction(total, count)
    return units


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
) -> list[_Room]:
    rooms = {
        parent.name: _Room(parent, avoid)
        for parent in sorted(inventory.parents, key=lambda p: p.name)
    }
    for mdev in _promised(inventory, held):
        if mdev.parent in rooms:
            rooms[mdev.parent].promise(mdev.mdev_type)
    return list(rooms.values())


def available_mdevs(
    inventory: model.Inventory, held: Collection[model.Mdev]
) -> tuple[model.Mdev, ...]:
    """Return the mdevs that exist and that nobody holds.

    None, if the guests are not all known: whoever cannot be read may hold
    any of them.

    :param held: mdevs in the claims of other instances.
    """
    return tuple(m for m in _nobodys(inventory, held) if m.active)


def _nobodys(
    inventory: model.Inventory, held: Collection[model.Mdev]
) -> Iterator[model.Mdev]:
    """Yield the mdevs that are listed once, and that nobody holds."""
    if any(each.kind == "guest" for each in inventory.unreadable):
        return
    taken = {mdev.uuid for mdev in held} | inventory.assigned().keys()
    listed = Counter(mdev.uuid for mdev in inventory.mdevs)
    for mdev in sorted(inventory.mdevs, key=lambda m: (m.parent, m.uuid)):
        if mdev.uuid not in taken and listed[mdev.uuid] == 1:
            yield mdev


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


def check_types(
    inventory: model.Inventory, wanted: Iterable[model.WantedMdev]
) -> None:
    """Refuse types that the destination lacks or offers differently.

    :raises MdevTypeMissing: if no parent offers a type.
    :raises DeviceApiMissing: if the parents that do have another device
        API than the guest's hostdev asks for.
    """
    for want in wanted:
        offers = [parent.offer(want.mdev_type) for parent in inventory.parents]
        apis = {offer.device_api for offer in offers if offer is not None}
        if not apis:
            raise exception.MdevTypeMissing(
                inventory.host,
                want.mdev_type,
                frozenset(
                    offered.mdev_type
                    for parent in inventory.parents
                    for offered in parent.types
                ),
            )
        if want.device_api is not None and want.device_api not in apis:
            raise exception.DeviceApiMissing(
                inventory.host,
                want.mdev_type,
                frozenset(apis),
                want.device_api,
            )


def _unfit(
    inventory: model.Inventory, wanted: Iterable[model.WantedMdev]
) -> frozenset[Avoided]:
    """Return where a type has a device API that no hostdev asks for."""
    apis: dict[str, set[str | None]] = {}
    for want in wanted:
        apis.setdefault(want.mdev_type, set()).add(want.device_api)
    return frozenset(
        (parent.name, (offered.mdev_type,))
        for parent in inventory.parents
        for offered in parent.types
        if offered.mdev_type in apis
        and not {None, offered.device_api} & apis[offered.mdev_type]
    )


def _found(
    inventory: model.Inventory,
    spare: Iterable[model.Mdev],
    wanted: Iterable[model.WantedMdev],
) -> str:
    """Return in words what there is of the wanted types."""
    existing = Counter(mdev.mdev_type for mdev in spare)
    return "; ".join(
        f"{kind}: {existing[kind]} existing and available, "
        + "available instances "
        + ", ".join(
            f"{offer.available_instances} on {parent.name}"
            for parent in inventory.parents
            if (offer := parent.offer(kind)) is not None
        )
        for kind in sorted({want.mdev_type for want in wanted})
    )


def _fitting(
    room: _Room, kinds: Sequence[str], demand: Mapping[str, int]
) -> dict[_Share, None]:
    """Return what a room could take of a demand, in order, most first."""
    found: list[_Share] = [()]
    for kind in kinds:
        found = [
            share
            for shorter in found
            for count in range(demand[kind] + 1)
            if room.fits(
                dict(zip(kinds, share := (*shorter, count), strict=False))
            )
        ]
    found.sort(key=lambda share: (sum(share), share), reverse=True)
    return dict.fromkeys(found)


def _reach(rooms: Sequence[_Room], kinds: Sequence[str]) -> list[_Share]:
    """Return a bound of what rooms can take, from each on to the last.

    :returns: for each kind alone, and at last of all kinds.
    """
    reach = [(0,) * (len(kinds) + 1)]
    for room in reversed(rooms):
        alone = [room.most(kind) for kind in kinds]
        most = (*alone, max(alone, default=0))
        reach.append(tuple(map(sum, zip(most, reach[-1], strict=True))))
    return reach[::-1]


def _fullest(fitting: Collection[_Share], left: _Share) -> Iterator[_Share]:
    """Yield the shares of what is left to which nothing can be added."""
    for share in fitting:
        if all(map(operator.le, share, left)) and not any(
            count < wanted
            and (*share[:place], count + 1, *share[place + 1 :]) in fitting
            for place, (count, wanted) in enumerate(
                zip(share, left, strict=True)
            )
        ):
            yield share


def _place(
    demand: Mapping[str, int], rooms: Sequence[_Room]
) -> list[tuple[str, str]] | None:
    """Return parent and type of each mdev to create, None if no way fits.

    Goes from room to room, taking as much as fits first. A share that more
    could be added to need not be tried: what fits without the addition fits
    with it, for that much less is left to the other rooms. ``hopeless``
    remembers what is known not to fit into the rooms that are left.
    """
    kinds = sorted(demand)
    reach = _reach(rooms, kinds)
    hopeless = set()

    @functools.cache
    def fitting(index: int) -> dict[_Share, None]:
        return _fitting(rooms[index], kinds, demand)

    def fill(index: int, left: _Share) -> list[tuple[str, str]] | None:
        if not any(left):
            return []
        beyond = any(map(operator.gt, (*left, sum(left)), reach[index]))
        if beyond or (index, left) in hopeless:
            return None
        for share in _fullest(fitting(index), left):
            rest = fill(index + 1, tuple(map(operator.sub, left, share)))
            if rest is not None:
                return [
                    (rooms[index].name, kind)
                    for kind, count in zip(kinds, share, strict=True)
                    for _ in range(count)
                ] + rest
        hopeless.add((index, left))
        return None

    return fill(0, tuple(demand[kind] for kind in kinds))


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

    def best(
        self,
        want: model.WantedMdev,
        used: Collection[str],
        *,
        active: bool,
        parent: str | None = None,
    ) -> model.Mdev | None:
        """Return what serves best: the guest's own, then what is as durable.

        :param used: UUIDs of what is planned with already.
        """
        serving = (
            mdev
            for mdev in self.mdevs
            if mdev.active is active
            and mdev.uuid not in used
            and parent in (None, mdev.parent)
            and pairing.serves(mdev, want)
        )
        return min(
            serving,
            key=lambda m: (m.uuid not in self.own, pairing.misfit(m, want)),
            default=None,
        )

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


def _plan_on(
    rooms: Sequence[_Room],
    spare: _Spare,
    wanted: Sequence[model.WantedMdev],
    mint: Callable[[], str],
) -> AllocationPlan | None:
    """Plan on some of the parents: reuse what serves, create the rest."""
    reuse: dict[str, model.Mdev] = {}
    lacking = []
    for want in sorted(wanted, key=lambda want: not want.persistent):
        mdev = spare.best(want, reuse, active=True)
        if mdev is None:
            lacking.append(want)
        else:
            reuse[mdev.uuid] = mdev
    places = _place(Counter(want.mdev_type for want in lacking), rooms)
    if places is None:
        return None
    create: dict[str, model.Mdev] = {}
    for want in lacking:
        place = next(p for p in places if p[1] == want.mdev_type)
        places.remove(place)
        defined = spare.best(want, create, active=False, parent=place[0])
        mdev = (
            _new_mdev(want, place[0], mint())
            if defined is None
            else _started(defined)
        )
        create[mdev.uuid] = mdev
    return AllocationPlan(tuple(reuse.values()), tuple(create.values()))


def _started(defined: model.Mdev) -> model.Mdev:
    """Return what starts an mdev that is defined: created, for this guest.

    To undo it is to destroy it: the definition stays, so it is not told.
    """
    return replace(defined, active=True, persistent=False, autostart=False)


def refused_together(create: Sequence[model.Mdev], uuid: str) -> Avoided:
    """Return what to avoid after an mdev could not be created.

    That is its type with those created on its parent before it: a parent
    that serves one type at a time refuses neither alone.

    :param create: in the order in which they were to be created.
    :param uuid: of the one that could not be.
    """
    uuids = [mdev.uuid for mdev in create]
    failed = create[uuids.index(uuid)]
    tried = create[: uuids.index(uuid) + 1]
    return failed.parent, tuple(
        sorted(m.mdev_type for m in tried if m.parent == failed.parent)
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
        that nor more than that is planned there.
    :param owner: UUID of the instance, whose definition that is shut off
        there holds its mdevs for it.
    :param mint: returns the UUID for a new mdev.
    :raises MdevTypeMissing: if the destination lacks a type.
    :raises DeviceApiMissing: if it has a type only with another device API.
    :raises TargetUnusable: if a target was chosen that cannot be had.
    :raises TooFewMdevs: if it cannot provide all at once.
    """
    check_types(inventory, wanted)
    plan = AllocationPlan()
    for want in wanted:
        if want.target is not None:
            taken = (*held, *plan.mdevs)
            chosen = _chosen(inventory, want, taken, avoid, owner, mint)
            plan = _joined(plan, chosen)
    others = [want for want in wanted if want.target is None]
    taken = (*held, *plan.mdevs)
    plan = _joined(
        plan, _allocate(inventory, others, taken, avoid, owner, mint)
    )
    counts = Counter((m.parent, m.mdev_type) for m in plan.create)
    for parent, kinds in avoid:
        if all(
            counts[parent, kind] >= count
            for kind, count in Counter(kinds).items()
        ):
            raise _too_few(inventory, (), wanted)
    return plan


def _joined(one: AllocationPlan, other: AllocationPlan) -> AllocationPlan:
    return AllocationPlan(one.reuse + other.reuse, one.create + other.create)


def _chosen(  # noqa: PLR0913, PLR0917 - those of allocate
    inventory: model.Inventory,
    want: model.WantedMdev,
    held: Collection[model.Mdev],
    avoid: Collection[Avoided],
    owner: str,
    mint: Callable[[], str],
) -> AllocationPlan:
    """Plan for a target that the user has chosen."""
    narrowed = replace(
        inventory,
        parents=tuple(p for p in inventory.parents if p.name == want.target),
        mdevs=tuple(
            mdev
            for mdev in inventory.mdevs
            if want.target in (mdev.uuid, mdev.parent)
        ),
    )
    try:
        return _allocate(narrowed, [want], held, avoid, owner, mint)
    except exception.TooFewMdevs as error:
        raise exception.TargetUnusable(
            inventory.host,
            want.source_uuid,
            want.mdev_type,
            want.target or "",
        ) from error


def _too_few(
    inventory: model.Inventory,
    spare: Iterable[model.Mdev],
    wanted: Sequence[model.WantedMdev],
) -> exception.TooFewMdevs:
    return exception.TooFewMdevs(
        inventory.host,
        tuple(want.mdev_type for want in wanted),
        _found(inventory, spare, wanted),
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
    unfit = _unfit(inventory, wanted)
    others = inventory.without_definition(owner)
    spare = _Spare(
        tuple(
            mdev
            for mdev in _nobodys(others, held)
            if (mdev.parent, (mdev.mdev_type,)) not in unfit
        ),
        frozenset(inventory.assigned()) - frozenset(others.assigned()),
    )
    rooms = _rooms(others, held, unfit.union(avoid))
    plans = [
        _plan_on([room], spare.on(room.name), wanted, mint) for room in rooms
    ]
    single = [plan for plan in plans if plan is not None]
    if single:
        return min(single, key=lambda plan: spare.misfit(plan, wanted))
    # Where something is defined already it is started, before others.
    defined = Counter(m.parent for m in spare.mdevs if not m.active)
    rooms.sort(key=lambda room: -defined[room.name])
    spread = _plan_on(rooms, spare, wanted, mint)
    if spread is None:
        active = [mdev for mdev in spare.mdevs if mdev.active]
        raise _too_few(inventory, active, wanted)
    return spread
