# SPDX-License-Identifier: Apache-2.0
"""Does the search for places find what trying everything finds, cheaply?"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdev_migrate import exception, model
from mdev_migrate.core import allocation, rooms
from tests import builders

KINDS = ("t-0", "t-1", "t-2")
#: Steps of an allocation: some 50 ms, whatever the machine is busy with.
LIMIT = 200_000


def try_everything(
    demand: Mapping[str, int], rooms: Sequence[Any]
) -> list[tuple[str, str]] | None:
    """Return the first way that fits: the definition, without bounds."""
    if not any(demand.values()):
        return []
    if not rooms:
        return None
    kinds = sorted(demand)
    counts = [range(demand[kind], -1, -1) for kind in kinds]
    for share in sorted(itertools.product(*counts), key=sum, reverse=True):
        taken = dict(zip(kinds, share, strict=True))
        if not rooms[0].fits(taken):
            continue
        left = {kind: demand[kind] - taken[kind] for kind in kinds}
        rest = try_everything(left, rooms[1:])
        if rest is not None:
            here = [rooms[0].name]
            return [
                place
                for kind in kinds
                for place in itertools.product(here, [kind] * taken[kind])
            ] + rest
    return None


PARENTS = st.lists(
    st.fixed_dictionaries(
        {kind.replace("-", "_"): st.integers(0, 4) for kind in KINDS}
    ),
    max_size=3,
).map(
    lambda offers: [
        builders.parent(f"p{number}", **offer)
        for number, offer in enumerate(offers)
    ]
)
AVOIDED = st.lists(
    st.builds(
        rooms.Avoided,
        st.sampled_from(["p0", "p1", "p2"]),
        st.lists(st.sampled_from(KINDS), min_size=1, max_size=3).map(
            lambda kinds: tuple(sorted(kinds))
        ),
    ),
    max_size=3,
)
DEMANDS = st.dictionaries(st.sampled_from(KINDS), st.integers(1, 3))
HELD = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from(["p0", "p1"])),
    max_size=2,
).map(
    lambda found: [
        builders.mdev(number, kind, parent)
        for number, (kind, parent) in enumerate(found)
    ]
)


@given(PARENTS, DEMANDS, AVOIDED, HELD)
def test_the_same_as_trying_everything(parents, demand, avoided, held):
    """What is passed over would not have been chosen."""
    inventory = builders.inventory(parents)
    parents = allocation._rooms(inventory, held, avoided)

    found = rooms.place(demand, parents)

    assert found == try_everything(demand, parents)


def allocate(
    inventory: model.Inventory, *mdev_types: str
) -> allocation.AllocationPlan:
    """Allocate mdevs of these types."""
    return allocation.allocate(
        inventory, builders.wants(*mdev_types), mint=builders.minting()
    )


def counted(act: Callable[[], object]) -> int:
    """Return how many functions are called while something is done."""
    calls = itertools.count()

    def note(_frame: object, event: str, _argument: object) -> None:
        if event in {"call", "c_call"}:
            next(calls)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(before)
    return next(calls)


class Compared(str):
    """A text that counts how often it is compared with another."""

    __slots__ = ()
    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Compared.compared += 1
        return str.__eq__(self, other)


def many_parents(count: int, available: int) -> model.Inventory:
    """Return a host of which each parent offers four types."""
    return builders.inventory(
        [
            builders.parent(
                f"p{n:02}", **{f"t_{k}": available for k in "0123"}
            )
            for n in range(count)
        ]
    )


FOUR_OF_EACH = [f"t-{kind}" for kind in "0123" for _ in range(4)]


@pytest.mark.parametrize("parents", [15, 32])
@pytest.mark.parametrize("available", [2, 3, 4, 8])
def test_many_mdevs_on_many_parents(parents, available):
    """16 mdevs of 4 types are placed in few steps."""
    inventory = many_parents(parents, available)

    steps = counted(lambda: allocate(inventory, *FOUR_OF_EACH))

    assert steps < LIMIT


def test_many_mdevs_that_do_not_fit():
    """That there is no room is found out in few steps, too."""
    inventory = many_parents(15, 1)

    def refused() -> None:
        with pytest.raises(exception.TooFewMdevs):
            allocate(inventory, *FOUR_OF_EACH)

    assert counted(refused) < LIMIT


@pytest.mark.parametrize("wanted", [2, 16])
def test_many_idle_mdevs(wanted):
    """Every idle mdev is compared with few others, however many there are."""
    number = 3_000
    mdevs = [
        model.Mdev(Compared(builders.uuid(n)), "t-0", f"p{n % 32:02}")
        for n in range(number)
    ]
    inventory = builders.inventory(many_parents(32, 1).parents, mdevs)
    Compared.compared = 0

    steps = counted(lambda: allocate(inventory, *["t-0"] * wanted))

    assert Compared.compared < 100 * number
    assert steps < LIMIT


def test_many_idle_mdevs_of_many_kinds():
    """16 mdevs that all differ are chosen for in few steps, too."""
    mdevs = [
        model.Mdev(builders.uuid(n), f"t-{n % 4}", "p00") for n in range(3_000)
    ]
    inventory = builders.inventory(many_parents(1, 1).parents, mdevs)
    wanted = [
        builders.want(number, kind, type_name=f"{number}")
        for number, kind in enumerate(FOUR_OF_EACH, 1)
    ]

    steps = counted(
        lambda: allocation.allocate(inventory, wanted, mint=builders.minting())
    )

    assert steps < 2 * LIMIT
