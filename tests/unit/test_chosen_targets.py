# SPDX-License-Identifier: Apache-2.0
"""Does who chooses a target get it, and nobody else it?"""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdev_migrate import exception, model
from mdev_migrate.core import allocation, pairing, precheck
from mdev_migrate.core.rooms import Avoided
from tests import builders

OTHER = "mtty_other"


def _mint():
    return map(builders.uuid, itertools.count(0x9000)).__next__


def _inventory(*mdevs, ports=(24, 24)):
    parents = (
        builders.mtty(ports[0]),
        builders.mtty(ports[1], OTHER),
    )
    return model.Inventory("gpu-2", parents, mdevs)


def _pairs(inventory, *wanted, **more):
    plan = allocation.allocate(inventory, wanted, mint=_mint(), **more)
    return plan, pairing.pair_mdevs(wanted, plan.mdevs)


def test_an_mdev():
    """It is taken, though another comes first; the rest is as ever."""
    inventory = _inventory(*map(builders.mdev, (5, 6, 7)))
    wants = (builders.want(1), builders.want(2, target=builders.uuid(5)))

    _, pairs = _pairs(inventory, *wants)

    assert pairs == {
        builders.uuid(1): builders.uuid(6),
        builders.uuid(2): builders.uuid(5),
    }
    assert list(pairs) == [builders.uuid(1), builders.uuid(2)]


def test_a_parent():
    """A new one is made there, though the first parent has room."""
    plan, pairs = _pairs(_inventory(), builders.want(1, target=OTHER))

    (mdev,) = plan.create
    assert mdev.parent == OTHER
    assert pairs == {builders.uuid(1): mdev.uuid}


def test_a_parent_with_an_mdev():
    """What exists on the chosen parent is reused."""
    spare = builders.mdev(5, parent=OTHER)

    plan, _ = _pairs(
        _inventory(builders.mdev(4), spare), builders.want(1, target=OTHER)
    )

    assert plan == allocation.AllocationPlan(reuse=(spare,))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("ports", [2, 1])
def test_an_mdev_that_is_only_defined(turned, ports):
    """It is started, and a parent that was chosen leaves it alone."""
    defined = builders.mdev(5, active=False, persistent=True)
    wants = [
        builders.want(1, target=builders.MTTY),
        builders.want(2, target=builders.uuid(5)),
    ]
    if turned:
        wants.reverse()
    inventory = _inventory(defined, ports=(ports, 0))

    if ports == 1:
        with pytest.raises(exception.TargetUnusable):
            _pairs(inventory, *wants)
        return
    plan, _ = _pairs(inventory, *wants)

    assert plan.reuse == ()
    assert {mdev.uuid for mdev in plan.create} > {builders.uuid(5)}


def test_an_mdev_that_is_only_defined_and_another_kind():
    """None is made in its place."""
    defined = builders.mdev(5, "mtty-2", active=False, persistent=True)

    with pytest.raises(exception.TargetUnusable, match=builders.uuid(5)):
        _pairs(_inventory(defined), builders.want(1, target=builders.uuid(5)))


@pytest.mark.parametrize("turned", [False, True])
def test_a_parent_and_an_mdev_on_it(turned):
    """Who chose the parent leaves the other the mdev that he chose."""
    wants = [
        builders.want(1, target=builders.MTTY),
        builders.want(2, target=builders.uuid(5)),
    ]
    if turned:
        wants.reverse()

    plan, pairs = _pairs(
        _inventory(builders.mdev(5), builders.mdev(6), ports=(0, 0)), *wants
    )

    assert plan.create == ()
    assert pairs == {
        builders.uuid(1): builders.uuid(6),
        builders.uuid(2): builders.uuid(5),
    }


@pytest.mark.parametrize("turned", [False, True])
def test_a_parent_whose_only_mdev_was_chosen(turned):
    """On the parent another can be made, the mdev only be had."""
    wants = [
        builders.want(1, target=builders.MTTY),
        builders.want(2, target=builders.uuid(5)),
    ]
    if turned:
        wants.reverse()

    plan, pairs = _pairs(_inventory(builders.mdev(5)), *wants)

    assert len(plan.create) == 1
    assert pairs[builders.uuid(2)] == builders.uuid(5)


@pytest.mark.parametrize("turned", [False, True])
def test_a_parent_with_what_another_alone_can_use(turned):
    """Who chose a parent takes any; who did not needs the one."""
    special = (("frl", "1"),)
    wants = [
        builders.want(1, target=builders.MTTY),
        builders.want(2, attributes=special),
    ]
    if turned:
        wants.reverse()

    _, pairs = _pairs(
        _inventory(
            builders.mdev(5, attributes=special),
            builders.mdev(6),
            ports=(0, 0),
        ),
        *wants,
    )

    assert pairs == {
        builders.uuid(1): builders.uuid(6),
        builders.uuid(2): builders.uuid(5),
    }


def test_a_parent_with_what_another_can_use_by_its_name_alone():
    """What is called otherwise serves only who has chosen it."""
    special = (("frl", "1"),)
    parents = [
        model.Parent(name, (model.MdevType("t", "vfio-pci", 0, called),))
        for name, called in (("p1", "Y"), ("p2", "X"))
    ]
    mdevs = [
        builders.mdev(5, "t", "p1", attributes=special),
        builders.mdev(6, "t", "p2", attributes=special),
        builders.mdev(7, "t", "p2"),
    ]

    _, pairs = _pairs(
        builders.inventory(parents, mdevs),
        builders.want(1, "t", target="p2", type_name="X"),
        builders.want(2, "t", attributes=special, type_name="X"),
    )

    assert pairs == {
        builders.uuid(1): builders.uuid(7),
        builders.uuid(2): builders.uuid(6),
    }


@pytest.mark.parametrize(
    "target",
    [
        builders.uuid(9),  # Nobody knows it.
        builders.uuid(5),  # Claimed by somebody else.
        builders.uuid(6),  # Of another type.
        OTHER,  # Full.
        "pci_0000_06_00_0",  # No such parent.
    ],
)
def test_what_cannot_be_had(target):
    """It is refused by name, whatever else there is."""
    held = builders.mdev(5)
    inventory = _inventory(
        held, builders.mdev(6, "mtty-2"), builders.mdev(7), ports=(24, 0)
    )

    with pytest.raises(exception.TargetUnusable, match=target):
        _pairs(inventory, builders.want(1, target=target), held=[held])


def test_what_was_refused_is_not_tried_again():
    """A parent that refused both types together is not asked once more."""
    wants = (
        builders.want(1, target=OTHER),
        builders.want(2, "mtty-2", target=OTHER),
    )

    with pytest.raises(exception.TooFewMdevs):
        _pairs(
            _inventory(), *wants, avoid=[Avoided(OTHER, ("mtty-1", "mtty-2"))]
        )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["mtty-1", "mtty-2"]),
            st.sampled_from([None, builders.MTTY, OTHER, *range(5)]),
        ),
        max_size=5,
    ),
    st.lists(st.sampled_from(["mtty-1", "mtty-2"]), max_size=5),
    st.tuples(st.integers(0, 6), st.integers(0, 6)),
)
def test_whatever_is_chosen(wishes, existing, ports):
    """Each choice is kept, or the whole is refused; no mdev serves twice."""
    mdevs = [
        builders.mdev(0x100 + n, kind, builders.MTTY if n % 2 else OTHER)
        for n, kind in enumerate(existing)
    ]
    wanted = [
        builders.want(
            n,
            kind,
            target=(
                builders.uuid(0x100 + wish) if isinstance(wish, int) else wish
            ),
        )
        for n, (kind, wish) in enumerate(wishes)
    ]
    inventory = _inventory(*mdevs, ports=ports)

    try:
        plan, pairs = _pairs(inventory, *wanted)
    except exception.PreCheckError:
        return

    there = {mdev.uuid: mdev for mdev in plan.mdevs}
    assert len(there) == len(set(pairs.values())) == len(wanted)
    for want in wanted:
        mdev = there[pairs[want.source_uuid]]
        assert mdev.mdev_type == want.mdev_type
        assert want.target in (None, mdev.uuid, mdev.parent)
    assert not allocation.crowded(inventory, plan.create, ())
    assert Counter(mdev.uuid for mdev in plan.reuse).keys() <= {
        mdev.uuid for mdev in mdevs
    }


def test_choice_for_an_mdev_that_is_not_the_guests():
    """A slip of the pen is not passed over."""
    with pytest.raises(exception.OptionInvalid):
        precheck.with_targets(builders.wants("mtty-1"), {"other": OTHER})
