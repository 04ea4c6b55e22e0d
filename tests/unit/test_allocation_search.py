# SPDX-License-Identifier: Apache-2.0
"""Does the search for places find what trying everything finds, in time?"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdev_migrate import exception
from mdev_migrate.core import allocation
from tests import builders

KINDS = ("t-0", "t-1", "t-2")
#: Far more than it takes, far less than it took without bounds.
LIMIT_S = 5.0


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
    st.tuples(
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
    rooms = allocation._rooms(inventory, held, avoided)

    found = allocation._place(demand, rooms)

    assert found == try_everything(demand, rooms)


@pytest.mark.parametrize("available", [1, 2])
def test_many_mdevs_on_many_parents(available):
    """16 mdevs of 4 types, for which 15 parents have room or not."""
    parents = [
        builders.parent(f"p{n:02}", **{f"t_{k}": available for k in range(4)})
        for n in range(15)
    ]
    wanted = builders.wants(*(f"t-{k}" for k in range(4) for _ in range(4)))
    started = time.monotonic()

    try:
        plan = allocation.allocate(
            builders.inventory(parents), wanted, mint=builders.minting()
        )
        found = len(plan.create)
    except exception.TooFewMdevs:
        found = 0

    assert found == {1: 0, 2: 16}[available]
    assert time.monotonic() - started < LIMIT_S
