# SPDX-License-Identifier: Apache-2.0
"""Is a plan creatable, and is what fits not refused?

The truth is kept by an exact model of a parent whose smallest type takes one
unit; the rules see only what libvirt reports of it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdev_migrate import exception, model, testing
from mdev_migrate.core import allocation
from tests import builders


@dataclasses.dataclass(frozen=True)
class Exact:
    """A parent whose types draw on whole units.

    :ivar units: what one mdev of each type takes.
    """

    name: str
    total: int
    units: Mapping[str, int]

    def left(self, existing: Iterable[str]) -> int:
        return self.total - sum(self.units[kind] for kind in existing)

    def report(self, existing: Sequence[str]) -> model.Parent:
        left = self.left(existing)
        return model.Parent(
            self.name,
            tuple(
                model.MdevType(kind, "vfio-pci", max(0, left) // units)
                for kind, units in self.units.items()
            ),
        )


#: Sizes that can always be told from the numbers.
SMALL = (1, 2)
#: Sizes that read as fewer units when little room is left.
ANY = (1, 2, 3, 4, 6)
KINDS = ("t1", "t2", "t3")


@st.composite
def exact_parents(draw, sizes=ANY, totals=(11, 12, 24)):
    """Make one to three parents of whole units, with the same types."""
    sizes = draw(st.lists(st.sampled_from(sizes), min_size=2, max_size=2))
    units = dict(zip(KINDS, [1, *sizes], strict=True))
    return [
        Exact(f"p{number}", draw(st.sampled_from(totals)), units)
        for number in range(draw(st.integers(1, 3)))
    ]


WANTED = st.lists(st.sampled_from(KINDS), max_size=8).map(
    lambda kinds: builders.wants(*kinds)
)


def _plan(inventory, wanted, **facts):
    try:
        return allocation.allocate(
            inventory, wanted, mint=builders.minting(), **facts
        )
    except exception.TooFewMdevs:
        return None


def _inventory(parents, mdevs=(), guests=()):
    return builders.inventory(
        [
            parent.report(
                [m.mdev_type for m in mdevs if m.parent == parent.name]
            )
            for parent in parents
        ],
        mdevs,
        guests,
    )


@given(exact_parents(SMALL), WANTED)
def test_plans_are_creatable(parents, wanted):
    """With types of one and of two units, no parent is overdrawn."""
    plan = _plan(_inventory(parents), wanted)

    for parent in parents if plan else ():
        made = [m.mdev_type for m in plan.create if m.parent == parent.name]
        assert parent.left(made) >= 0


@given(exact_parents(), WANTED)
def test_what_fits_is_not_refused(parents, wanted):
    """A search over all ways to place them finds none that was missed."""
    plan = _plan(_inventory(parents), wanted[:5])

    if plan is None:
        kinds = [want.mdev_type for want in wanted[:5]]
        assert not any(
            all(
                parent.left(
                    kind
                    for kind, place in zip(kinds, places, strict=True)
                    if place == index
                )
                >= 0
                for index, parent in enumerate(parents)
            )
            for places in itertools.product(
                range(len(parents)), repeat=len(kinds)
            )
        )


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=4),
    st.lists(st.integers(0, 30), min_size=4, max_size=4),
    st.integers(0, 40),
)
def test_one_type_fits_as_often_as_reported(available, others, count):
    """Whatever a parent reports of other types, its numbers are believed."""
    found = builders.inventory(
        builders.parent(f"p{number}", t=instances, u=other)
        for number, (instances, other) in enumerate(
            zip(available, others, strict=False)
        )
    )

    plan = _plan(found, builders.wants(*["t"] * count))

    assert (plan is not None) == (count <= sum(available))


@st.composite
def _hosts(draw):
    """Make an inventory with mdevs that guests, claims or nobody holds."""
    parents = draw(exact_parents())
    mdevs, guests, held = [], [], []
    for number in range(draw(st.integers(0, 6))):
        parent = draw(st.sampled_from(parents))
        mdev = builders.mdev(
            number,
            draw(st.sampled_from(KINDS)),
            parent.name,
            active=draw(st.booleans()),
        )
        mdevs.append(mdev)
        holder = draw(st.sampled_from(["nobody", "guest", "off", "claim"]))
        if holder in ("guest", "off"):
            guests.append(
                builders.guest(f"g{number}", number, active=holder == "guest")
            )
        elif holder == "claim":
            held.append(mdev)
    for number in range(draw(st.integers(0, 3))):
        parent = draw(st.sampled_from(parents))
        held.append(
            builders.mdev(
                50 + number, draw(st.sampled_from(KINDS)), parent.name
            )
        )
    active = [mdev for mdev in mdevs if mdev.active]
    found = dataclasses.replace(
        _inventory(parents, active, guests), mdevs=tuple(mdevs)
    )
    return found, held


@given(_hosts(), WANTED)
def test_nothing_that_is_held_is_planned(host, wanted):
    """No mdev of a guest or claim, none twice, all of the types wanted."""
    found, held = host

    plan = _plan(found, wanted, held=held)

    if plan is not None:
        taken = {mdev.uuid for mdev in held} | found.assigned().keys()
        uuids = [mdev.uuid for mdev in plan.mdevs]
        existing = {mdev.uuid for mdev in found.mdevs if mdev.active}
        assert taken.isdisjoint(uuids)
        assert len(set(uuids)) == len(uuids) == len(wanted)
        assert existing.issuperset(mdev.uuid for mdev in plan.reuse)
        assert Counter(mdev.mdev_type for mdev in plan.mdevs) == Counter(
            want.mdev_type for want in wanted
        )


@given(_hosts(), WANTED)
def test_same_host_same_plan(host, wanted):
    """Planning again gives the same, in whatever order the host lists."""
    found, held = host
    other = dataclasses.replace(
        found, parents=found.parents[::-1], mdevs=found.mdevs[::-1]
    )

    plans = [_plan(each, wanted, held=held) for each in (found, found, other)]

    assert plans[0] == plans[1] == plans[2]


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 24))
def test_plan_is_created_on_a_simulated_parent(ones, twos, taken):
    """On libvirt's side each mdev of a plan can be created in turn."""
    parent = testing.MttyParent()
    existing = ["mtty-1"] * taken
    found = builders.inventory(
        [
            builders.parent(
                parent.name,
                mtty_1=parent.available("mtty-1", existing),
                mtty_2=parent.available("mtty-2", existing),
            )
        ]
    )

    plan = _plan(found, builders.wants(*["mtty-1"] * ones, *["mtty-2"] * twos))

    assert (plan is not None) == (ones + 2 * twos + taken <= 24)
    for mdev in plan.create if plan else ():
        assert parent.available(mdev.mdev_type, existing) > 0
        existing.append(mdev.mdev_type)


class TestKnownLimits:
    """Where the numbers that libvirt reports do not tell the truth.

    Each is undone and planned around, or refused: never promised twice.
    """

    def test_type_that_fills_a_parent_is_taken_for_little_more_than_half(self):
        """One of 24 units reads as 13: too much is promised."""
        exact = Exact("p", 24, {"t1": 1, "t2": 24})

        plan = _plan(_inventory([exact]), builders.wants("t2", *["t1"] * 11))

        assert exact.left(mdev.mdev_type for mdev in plan.create) < 0

    @pytest.mark.parametrize(
        ("total", "units", "ones", "many"),
        [(12, 6, 1, 2), (24, 8, 10, 2), (3, 3, 1, 1)],
    )
    def test_types_of_many_units_read_as_fewer(self, total, units, ones, many):
        """The fewest units that explain the number are assumed."""
        exact = Exact("p", total, {"t1": 1, "t2": units})
        wanted = builders.wants(*["t1"] * ones, *["t2"] * many)

        plan = _plan(_inventory([exact]), wanted)

        assert exact.left(mdev.mdev_type for mdev in plan.create) < 0

    def test_units_without_a_type_of_one(self):
        """Of 13 units, 2 x 2 and 3 x 3 fit, and are refused."""
        exact = Exact("p", 13, {"t2": 2, "t3": 3})
        wanted = builders.wants("t2", "t2", "t3", "t3", "t3")

        plan = _plan(_inventory([exact]), wanted)

        assert exact.left(want.mdev_type for want in wanted) == 0
        assert plan is None


@pytest.mark.parametrize("many", [100, 400])
def test_many_virtual_functions(many):
    """A host with hundreds of parents, most of them full, is planned on."""
    parents = [
        builders.parent(f"p{number:04}", t=int(number >= many - 2))
        for number in range(many)
    ]

    plan = _plan(builders.inventory(parents), builders.wants("t", "t"))

    assert len({mdev.parent for mdev in plan.create}) == 2
