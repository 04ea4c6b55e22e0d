# SPDX-License-Identifier: Apache-2.0
"""Do guests that leave together fit where they are sent?"""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mdev_migrate import model
from mdev_migrate.core import allocation, spread
from mdev_migrate.core.spread import Destination, Leaving
from tests import builders

KINDS = ("mtty-1", "mtty-2")


def _minted():
    return map(builders.uuid, itertools.count(0x9000)).__next__


def _destination(name, ports, mdevs=(), held=()):
    inventory = model.Inventory(name, (builders.mtty(ports),), tuple(mdevs))
    return Destination(inventory, tuple(held))


def _leaving(name, kinds, *allowed):
    return Leaving(name, builders.wants(*kinds), allowed)


def _where(found):
    return {
        guest: placement.destination
        for guest, placement in found.placed.items()
    }


@st.composite
def scenes(draw):
    """Draw some hosts with little room, and guests that want some of it."""
    names = [f"gpu-{n}" for n in range(draw(st.integers(1, 3)))]
    numbers = itertools.count(1)
    destinations = {}
    for name in names:
        kinds = draw(st.lists(st.sampled_from(KINDS), max_size=3))
        mdevs = [builders.mdev(next(numbers), kind) for kind in kinds]
        held = draw(st.integers(0, len(mdevs)))
        ports = draw(st.integers(0, 8))
        destinations[name] = _destination(name, ports, mdevs, mdevs[:held])
    leaving = [
        _leaving(
            f"vm-{n}",
            draw(st.lists(st.sampled_from(KINDS), max_size=3)),
            *draw(st.permutations(names))[: draw(st.integers(0, len(names)))],
        )
        for n in range(draw(st.integers(0, 6)))
    ]
    return leaving, destinations


@given(scenes())
def test_what_is_placed_fits_together(scene):
    """No mdev is promised twice, and no parent gets more than it has."""
    leaving, destinations = scene

    found = spread.spread(leaving, destinations, _minted())

    assert found.placed.keys() | found.lacking.keys() == {
        each.guest for each in leaving
    }
    assert not found.placed.keys() & found.lacking.keys()
    allowed = {each.guest: each for each in leaving}
    for name, destination in destinations.items():
        plans = [
            placement.plan
            for guest, placement in found.placed.items()
            if placement.destination == name
        ]
        mdevs = [mdev for plan in plans for mdev in plan.mdevs]
        created = [mdev for plan in plans for mdev in plan.create]
        assert max(Counter(m.uuid for m in mdevs).values(), default=1) == 1
        assert not {m.uuid for m in mdevs} & {m.uuid for m in destination.held}
        assert not allocation.crowded(
            destination.inventory, created, destination.held
        )
    for guest, placement in found.placed.items():
        assert placement.destination in allowed[guest].allowed
        assert Counter(m.mdev_type for m in placement.plan.mdevs) == Counter(
            want.mdev_type for want in allowed[guest].wanted
        )


@given(scenes())
def test_who_stays_has_a_reason_for_each_host(scene):
    """Nothing is left out in silence, and the shortage adds up."""
    leaving, destinations = scene

    found = spread.spread(leaving, destinations, _minted())

    for each in leaving:
        if each.guest in found.lacking:
            assert found.lacking[each.guest].keys() == set(each.allowed)
    short = spread.shortage(leaving, found)
    assert sum(short.values()) == sum(
        len(each.wanted)
        for each in leaving
        if each.allowed and each.guest in found.lacking
    )


@given(scenes())
def test_there_is_always_room_for_one(scene):
    """Somebody stays only if the hosts have not room for all of them."""
    leaving, destinations = scene
    roomy = {name: _destination(name, 24 * 40) for name in destinations}

    found = spread.spread(leaving, roomy, _minted())

    assert found.lacking.keys() == {
        each.guest for each in leaving if not each.allowed
    }


def test_hard_cases_come_first():
    """Who may go to one host only gets it before others take the room."""
    leaving = [
        _leaving("any", ["mtty-1"], "gpu-1", "gpu-2"),
        _leaving("picky", ["mtty-1"], "gpu-1"),
    ]
    hosts = {name: _destination(name, 1) for name in ("gpu-1", "gpu-2")}

    found = spread.spread(leaving, hosts, _minted())

    assert _where(found) == {"picky": "gpu-1", "any": "gpu-2"}


def test_what_exists_is_preferred():
    """A host that has the mdev already is taken, whatever its place."""
    hosts = {
        "gpu-1": _destination("gpu-1", 24),
        "gpu-2": _destination("gpu-2", 24, [builders.mdev(7)]),
    }

    found = spread.spread(
        [_leaving("vm", ["mtty-1"], "gpu-1", "gpu-2")], hosts, _minted()
    )

    assert _where(found) == {"vm": "gpu-2"}
    assert found.placed["vm"].plan.reuse == (builders.mdev(7),)


def test_guests_without_mdevs_are_shared_out():
    """They take no room, and yet do not all go to the first host."""
    leaving = [_leaving(f"vm-{n}", [], "gpu-1", "gpu-2") for n in range(4)]
    hosts = {name: _destination(name, 0) for name in ("gpu-1", "gpu-2")}

    found = spread.spread(leaving, hosts, _minted())

    assert Counter(_where(found).values()) == {"gpu-1": 2, "gpu-2": 2}


def test_small_ones_leave_room_for_a_large_one():
    """Where the first order fails, another one is tried."""
    leaving = [
        _leaving("large", ["mtty-2", "mtty-2"], "gpu-1", "gpu-2"),
        *(
            _leaving(f"small-{n}", ["mtty-1"], "gpu-1", "gpu-2")
            for n in range(4)
        ),
    ]
    hosts = {name: _destination(name, 4) for name in ("gpu-1", "gpu-2")}

    found = spread.spread(leaving, hosts, _minted())

    assert not found.lacking


def test_a_large_one_leaves_room_for_small_ones():
    """Two guests that can leave are better than one that is hard to place."""
    leaving = [
        _leaving("large", ["mtty-2"], "gpu-1"),
        *(_leaving(f"small-{n}", ["mtty-1"], "gpu-1") for n in range(2)),
    ]

    found = spread.spread(
        leaving, {"gpu-1": _destination("gpu-1", 2)}, _minted()
    )

    assert found.placed.keys() == {"small-0", "small-1"}


def test_says_what_is_short():
    """What had to be freed is counted by type."""
    leaving = [_leaving("vm", ["mtty-1", "mtty-2"], "gpu-1")]

    found = spread.spread(
        leaving, {"gpu-1": _destination("gpu-1", 2)}, _minted()
    )

    assert spread.shortage(leaving, found) == {"mtty-1": 1, "mtty-2": 1}
    assert "gpu-1" in found.lacking["vm"]["gpu-1"]


def test_own_definition_on_a_full_host():
    """What an earlier stay left there is held for its guest alone."""
    own = builders.guest(
        "vm", 1, instance_uuid=builders.instance(1), active=False
    )
    inventory = model.Inventory(
        "gpu-1", (builders.mtty(0),), (builders.mdev(1),), (own,)
    )
    leaving = [
        _leaving(builders.instance(number), ["mtty-1"], "gpu-1")
        for number in (2, 1)
    ]

    found = spread.spread(
        leaving, {"gpu-1": Destination(inventory)}, _minted()
    )

    assert _where(found) == {builders.instance(1): "gpu-1"}
