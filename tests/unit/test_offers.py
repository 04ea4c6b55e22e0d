# SPDX-License-Identifier: Apache-2.0
"""Is a type what it is called, and a refusal one of the whole card?"""

from __future__ import annotations

import dataclasses

import pytest

from mdev_migrate import exception, model
from mdev_migrate.core import allocation, offers
from mdev_migrate.core.rooms import Avoided
from tests import builders


def _parent(
    name: str, called: str, *, card: str = "", room: int = 1
) -> model.Parent:
    """Return a parent whose type ``t`` is called something."""
    return model.Parent(
        name, (model.MdevType("t", "vfio-pci", room, called),), card
    )


def _want(called: str, number: int = 1, **facts: object) -> model.WantedMdev:
    return builders.want(number, "t", type_name=called, **facts)


def _plan(parents, *wanted, mdevs=(), **facts) -> allocation.AllocationPlan:
    return allocation.allocate(
        builders.inventory(parents, mdevs),
        wanted,
        mint=builders.minting(),
        **facts,
    )


class TestCheckTypes:
    """Whether the destination has the types at all."""

    def test_offered(self):
        """A type is there though no instance is available."""
        found = builders.inventory([builders.mtty(0)])

        offers.check_types(found, builders.wants("mtty-1", "mtty-2"))

    def test_missing(self):
        """The error names what all parents offer."""
        found = builders.inventory([builders.mtty(), builders.parent(nv=1)])

        with pytest.raises(exception.MdevTypeMissing) as caught:
            offers.check_types(found, builders.wants("nvidia-11"))

        assert caught.value.offered == {"mtty-1", "mtty-2", "nv"}

    def test_no_parent(self):
        """A host without parents offers nothing."""
        with pytest.raises(exception.MdevTypeMissing, match="offer: none"):
            offers.check_types(builders.inventory(), builders.wants("mtty-1"))

    def test_other_device_api(self):
        """The guest's hostdev would not start with another device API."""
        found = builders.inventory([builders.parent("a", "vfio-ccw", t=1)])

        with pytest.raises(exception.DeviceApiMissing) as caught:
            offers.check_types(
                found, [builders.want(1, "t", device_api="vfio-pci")]
            )

        facts = ("host-b", "t", {"vfio-ccw"}, "vfio-pci", ())
        assert caught.value.args == facts

    def test_device_api_not_told(self):
        """A source that told none may get any."""
        found = builders.inventory([builders.parent("a", "vfio-ccw", t=1)])

        offers.check_types(found, builders.wants("t"))


class TestNames:
    """Types of one id that are called differently."""

    @pytest.mark.parametrize(
        "there", ["T4-1Q", "GRID T4-1Q", "NVIDIA T4-1Q", "grid  t4-1q", ""]
    )
    def test_same_profile(self, there):
        """A brand, spaces and capitals do not make another profile."""
        plan = _plan([_parent("a", there)], _want("GRID T4-1Q"))

        assert [mdev.parent for mdev in plan.create] == ["a"]

    @pytest.mark.parametrize("there", ["GRID T4-2Q", "GRID T4-1B", "T4-1Q2"])
    def test_another_profile(self, there):
        """The same number of another profile is refused, naming both."""
        with pytest.raises(exception.MdevTypeDiffers) as caught:
            _plan([_parent("a", there)], _want("GRID T4-1Q"))

        assert caught.value.args[2:] == ({there}, "GRID T4-1Q", ())

    def test_another_profile_that_exists(self):
        """Nor is an mdev of it reused."""
        with pytest.raises(exception.MdevTypeDiffers):
            _plan(
                [_parent("a", "GRID T4-2Q")],
                _want("GRID T4-1Q"),
                mdevs=[builders.mdev(11, "t", "a")],
            )

    def test_not_told_by_the_source(self):
        """What the source does not call by name may be called anything."""
        plan = _plan([_parent("a", "x"), _parent("b", "")], _want(""))

        assert plan.create[0].parent == "a"

    @pytest.mark.parametrize(
        ("others", "chosen"),
        [("GRID T4-2Q", "b"), ("NVIDIA T4-1Q", "b"), ("", "b")],
    )
    def test_equal_name_is_preferred(self, others, chosen):
        """Of several parents, whose name for it is equal."""
        parents = [
            _parent("a", others, room=9),
            _parent("b", "GRID T4-1Q"),
            _parent("c", others, room=9),
        ]

        plan = _plan(
            parents,
            _want("GRID T4-1Q"),
            mdevs=[builders.mdev(11, "t", "a"), builders.mdev(12, "t", "c")],
        )

        assert [mdev.parent for mdev in plan.mdevs] == [chosen]

    def test_equal_name_and_another_device_api(self):
        """Neither half of what is wanted is enough."""
        other = dataclasses.replace(
            _parent("b", "GRID T4-1Q").types[0], device_api="vfio-ccw"
        )

        with pytest.raises(exception.MdevTypeDiffers):
            _plan(
                [_parent("a", "GRID T4-2Q"), model.Parent("b", (other,))],
                _want("GRID T4-1Q", device_api="vfio-pci"),
            )

    def test_chosen_target(self):
        """Who names the parent knows what it is called, and is told."""
        parents = [_parent("a", "GRID T4-2Q")]
        wanted = _want("GRID T4-1Q", target="a")

        plan = _plan(parents, wanted)
        said = list(offers.renamed(builders.inventory(parents), [wanted]))

        assert plan.create[0].parent == "a"
        assert len(said) == 1
        assert "'GRID T4-1Q' on the source and 'GRID T4-2Q' on" in said[0]

    def test_renamed_is_said_once(self):
        """However many mdevs of the type the guest has."""
        parents = [_parent("a", "NVIDIA T4-1Q"), _parent("b", "NVIDIA T4-1Q")]
        wanted = [_want("GRID T4-1Q"), _want("GRID T4-1Q", 2)]

        said = list(offers.renamed(builders.inventory(parents), wanted))

        assert len(said) == 1

    def test_nothing_to_say(self):
        """Of equal names, and where neither side has one."""
        parents = [_parent("a", "GRID T4-1Q"), _parent("b", "")]
        wanted = [_want("GRID T4-1Q"), _want("", 2)]

        assert not list(offers.renamed(builders.inventory(parents), wanted))


class TestCards:
    """Functions of a card that share a limit."""

    #: Three functions of card A, two of card B.
    PARENTS = (
        _parent("a1", "", card="A"),
        _parent("a2", "", card="A"),
        _parent("a3", "", card="A"),
        _parent("b1", "", card="B"),
        _parent("b2", "", card="B"),
    )

    @pytest.mark.parametrize(
        ("avoid", "parent"),
        [
            ([], "a1"),
            ([Avoided("a1", ("t",))], "b1"),
            ([Avoided("a1", ("t",)), Avoided("b1", ("t",))], "a2"),
            (
                [
                    Avoided("a1", ("t",)),
                    Avoided("b1", ("t",)),
                    Avoided("a2", ("t",)),
                ],
                "b2",
            ),
        ],
    )
    def test_next_to_be_asked(self, avoid, parent):
        """Another card comes before a second function of the same."""
        plan = _plan(self.PARENTS, _want(""), avoid=avoid)

        assert [mdev.parent for mdev in plan.create] == [parent]

    def test_given_up(self):
        """Two functions of each card are enough to know."""
        avoid = [Avoided(name, ("t",)) for name in ("a1", "a2", "b1", "b2")]

        with pytest.raises(exception.TooFewMdevs):
            _plan(self.PARENTS, _want(""), avoid=avoid)

    def test_card_that_served_some(self):
        """What it has served before it refused it may serve again."""
        avoid = [Avoided("a2", ("t",), beside=1)]

        plan = _plan(self.PARENTS[:4], _want(""), _want("", 2), avoid=avoid)

        assert [mdev.parent for mdev in plan.create] == ["a1", "b1"]

    def test_refusal_beside_others(self):
        """What was created on the card before is counted, by its type."""
        create = [
            builders.mdev(1, "t", "a1"),
            builders.mdev(2, "u", "a2"),
            builders.mdev(3, "t", "b1"),
            builders.mdev(4, "t", "a3"),
        ]
        cards = {parent.name: parent.card for parent in self.PARENTS}

        avoided = allocation.refused_together(create, builders.uuid(4), cards)

        assert avoided == Avoided("a3", ("t",), beside=1)

    def test_function_that_somebody_else_took(self):
        """It has no room left, which says nothing of its card."""
        parents = [_parent("a1", "", card="A", room=0), *self.PARENTS[1:]]

        plan = _plan(parents, _want(""), avoid=[Avoided("a1", ("t",))])

        assert plan.create[0].parent == "a2"

    def test_alone(self):
        """Parents without a card are each for themselves."""
        parents = [_parent("a", ""), _parent("b", ""), _parent("c", "")]

        plan = _plan(
            parents,
            _want(""),
            avoid=[Avoided("a", ("t",)), Avoided("b", ("t",))],
        )

        assert plan.create[0].parent == "c"

    def test_chosen_function(self):
        """Who names a function gets it, whatever another one refused."""
        plan = _plan(
            self.PARENTS,
            _want("", target="a2"),
            avoid=[Avoided("a1", ("t",))],
        )

        assert plan.create[0].parent == "a2"
