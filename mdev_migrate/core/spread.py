# SPDX-License-Identifier: Apache-2.0
"""Which guest of a host goes to which of several others?

All guests are planned together, as each takes room from those after it. Those
that are hard to place come first: who may go to few hosts, and whose types
are scarce. Where a guest finds mdevs that exist already it is preferred to
where they must be created. No order is right for all: a few are tried, also
the easy ones first, and the one that places the most guests wins. It may be
that another order would have placed one more; none that does not fit is ever
placed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from mdev_migrate import exception, model
from mdev_migrate.core import allocation


@dataclass(frozen=True, slots=True)
class Leaving:
    """A guest that is to leave.

    :ivar guest: its UUID.
    :ivar wanted: what its mdevs ask of their targets.
    :ivar allowed: the hosts that it may go to, the preferred first.
    :ivar memory_kib: what it takes of a host's memory; None if that cannot
        be told.
    """

    guest: str
    wanted: tuple[model.WantedMdev, ...]
    allowed: tuple[str, ...]
    memory_kib: int | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """A host that guests may go to.

    :ivar held: mdevs in the claims of others.
    :ivar memory_kib: what it has left for guests; None if it did not say.
    """

    inventory: model.Inventory
    held: tuple[model.Mdev, ...] = ()
    memory_kib: int | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a guest goes, and onto what."""

    destination: str
    plan: allocation.AllocationPlan


@dataclass(slots=True)
class Spread:
    """Where the guests go.

    :ivar placed: by guest.
    :ivar lacking: why a guest fits nowhere, by guest and host.
    :ivar crowded: guests among these that lack mdevs on some host.
    """

    placed: dict[str, Placement] = field(default_factory=dict)
    lacking: dict[str, dict[str, str]] = field(default_factory=dict)
    crowded: set[str] = field(default_factory=set)

    @property
    def created(self) -> int:
        """Return how many mdevs have to be created."""
        return sum(len(each.plan.create) for each in self.placed.values())


#: What is known of a host while guests are placed: how many mdevs would have
#: to be created there, how many guests it has got, its place in the order.
_Choice = tuple[int, int, int]
#: The orders that are tried; the lowest host is taken.
_ORDERS: tuple[Callable[[_Choice], tuple[int, ...]], ...] = (
    lambda choice: choice,
    lambda choice: (choice[2],),
    lambda choice: (choice[1], choice[0], choice[2]),
)


def spread(
    leaving: Sequence[Leaving],
    destinations: Mapping[str, Destination],
    mint: Callable[[], str],
) -> Spread:
    """Place guests on hosts, as many as can be found to fit.

    :param destinations: by the names that ``leaving`` uses.
    :param mint: returns a UUID for a new mdev.
    """
    hardest_first = _hardest_first(leaving, destinations)
    tries = (
        _try(guests, destinations, mint, order, rank)
        for guests in (hardest_first, hardest_first[::-1])
        for order in _ORDERS
        for rank in (1, -1)
    )
    best: Spread | None = None
    for found in tries:
        if best is None or (len(found.placed), -found.created) > (
            len(best.placed),
            -best.created,
        ):
            best = found
        if not best.lacking:
            break
    return best or Spread()


def _hardest_first(
    leaving: Sequence[Leaving], destinations: Mapping[str, Destination]
) -> list[Leaving]:
    room: Counter[str] = Counter()
    for each in destinations.values():
        for parent in each.inventory.parents:
            for offered in parent.types:
                room[offered.mdev_type] += offered.available_instances
        room.update(mdev.mdev_type for mdev in each.inventory.mdevs)

    def demand(each: Leaving) -> float:
        kinds = (want.mdev_type for want in each.wanted)
        return sum(1 / max(room[kind], 1) for kind in kinds)

    return sorted(
        leaving,
        key=lambda each: (len(each.allowed), -demand(each), each.guest),
    )


def _try(
    ordered: Collection[Leaving],
    destinations: Mapping[str, Destination],
    mint: Callable[[], str],
    order: Callable[[_Choice], tuple[int, ...]],
    rank: int,
) -> Spread:
    """Place one guest after the other.

    :param rank: 1 for hosts as they are preferred, -1 for the other way.
    """
    found = Spread()
    promised = {name: list(each.held) for name, each in destinations.items()}
    guests: Counter[str] = Counter()
    memory = {name: each.memory_kib for name, each in destinations.items()}
    for each in ordered:
        fitting: dict[str, allocation.AllocationPlan] = {}
        lacking: dict[str, str] = {}
        crowded = False
        for name in each.allowed:
            left_kib = memory[name]
            if left_kib is not None and (each.memory_kib or 0) > left_kib:
                lacking[name] = _no_memory(each, left_kib)
                continue
            try:
                fitting[name] = allocation.allocate(
                    destinations[name].inventory,
                    each.wanted,
                    held=promised[name],
                    owner=each.guest,
                    mint=mint,
                )
            except exception.PreCheckError as error:
                lacking[name] = str(error)
                crowded = True
        if not fitting:
            if crowded:
                found.crowded.add(each.guest)
            found.lacking[each.guest] = lacking
            continue
        places = {name: at for at, name in enumerate(each.allowed)}
        chosen = min(
            fitting,
            key=lambda name: order(
                (
                    len(fitting[name].create),
                    guests[name],
                    rank * places[name],
                )
            ),
        )
        found.placed[each.guest] = Placement(chosen, fitting[chosen])
        promised[chosen] += fitting[chosen].mdevs
        guests[chosen] += 1
        left_kib = memory[chosen]
        if left_kib is not None:
            memory[chosen] = left_kib - (each.memory_kib or 0)
    return found


def _no_memory(leaving: Leaving, left_kib: int) -> str:
    needed_mib = (leaving.memory_kib or 0) // 1024
    return (
        f"it needs {needed_mib} MiB of memory, and {left_kib // 1024} MiB "
        "are left there"
    )


def shortage(leaving: Sequence[Leaving], found: Spread) -> dict[str, int]:
    """Return how many mdevs of each type have no place.

    Not those of guests that may go nowhere, whatever room there is, nor of
    those that lack nothing but memory.
    """
    counts: Counter[str] = Counter()
    for each in leaving:
        if each.guest in found.crowded:
            counts.update(want.mdev_type for want in each.wanted)
    return dict(counts)
