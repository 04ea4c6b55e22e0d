# SPDX-License-Identifier: Apache-2.0
"""Is what exists reused, what lacks created, and nothing promised twice?"""

import dataclasses

import pytest

from mdev_migrate import exception
from mdev_migrate.core import allocation, idle
from mdev_migrate.core.rooms import Avoided
from tests import builders

ATTRIBUTES = (("assign_adapter", "5"),)


def _allocate(inventory, wanted, **facts):
    return allocation.allocate(
        inventory, wanted, mint=builders.minting(), **facts
    )


def _refused(inventory, wanted, **facts):
    """Tell whether there is no room."""
    try:
        _allocate(inventory, wanted, **facts)
    except exception.TooFewMdevs:
        return True
    return False


class TestTheMdev:
    """Finding the mdev of a UUID."""

    def test_active(self):
        """An mdev that exists is found by its UUID."""
        found = builders.inventory(mdevs=[builders.mdev(1), builders.mdev(2)])

        mdev = allocation.the_mdev(found, builders.uuid(2))

        assert mdev == builders.mdev(2)

    @pytest.mark.parametrize("mdevs", [[], [builders.mdev(1, active=False)]])
    def test_not_active(self, mdevs):
        """One that is unknown or only defined does not exist."""
        found = builders.inventory(mdevs=mdevs)

        assert allocation.the_mdev(found, builders.uuid(1)) is None

    def test_two_parents(self):
        """A UUID under two parents could be either: refused."""
        twice = [builders.mdev(1), builders.mdev(1, parent="other")]

        with pytest.raises(exception.MdevUnderTwoParents):
            allocation.the_mdev(
                builders.inventory(mdevs=twice), builders.uuid(1)
            )


class TestAvailableMdevs:
    """Which mdevs nobody holds."""

    def test_order(self):
        """They are told by parent and UUID, however the host lists them."""
        mdevs = [
            builders.mdev(3, parent="b"),
            builders.mdev(2, parent="a"),
            builders.mdev(1, parent="b"),
        ]

        found = idle.available_mdevs(builders.inventory(mdevs=mdevs), [])

        assert found == (mdevs[1], mdevs[2], mdevs[0])

    @pytest.mark.parametrize("active", [True, False])
    def test_assigned(self, active):
        """A guest's mdev is not available, even if it is shut off."""
        guest = builders.guest("other", 1, active=active)
        found = builders.inventory(mdevs=[builders.mdev(1)], guests=[guest])

        assert idle.available_mdevs(found, []) == ()

    def test_claimed(self):
        """An mdev in a claim is not available."""
        found = builders.inventory(mdevs=[builders.mdev(1), builders.mdev(2)])

        available = idle.available_mdevs(found, [builders.mdev(1)])

        assert available == (builders.mdev(2),)

    def test_defined_only(self):
        """An mdev that does not exist now is not available."""
        found = builders.inventory(mdevs=[builders.mdev(1, active=False)])

        assert idle.available_mdevs(found, []) == ()

    def test_under_two_parents(self):
        """A UUID that stands there twice is given to nobody."""
        twice = [builders.mdev(1), builders.mdev(1, parent="b", active=False)]

        found = idle.available_mdevs(builders.inventory(mdevs=twice), [])

        assert found == ()


class TestReuse:
    """Existing mdevs are preferred to new ones."""

    def test_existing_mdev(self):
        """One that is available and of the type is reused."""
        found = builders.inventory([builders.mtty(23)], [builders.mdev(11)])

        plan = _allocate(found, builders.wants("mtty-1"))

        assert plan == allocation.AllocationPlan(reuse=(builders.mdev(11),))

    def test_rest_is_created(self):
        """What lacks is created with the UUIDs that are minted."""
        found = builders.inventory([builders.mtty(23)], [builders.mdev(11)])

        plan = _allocate(found, builders.wants("mtty-1", "mtty-1", "mtty-2"))

        assert plan == allocation.AllocationPlan(
            reuse=(builders.mdev(11),),
            create=(
                builders.mdev(0xF00, "mtty-1"),
                builders.mdev(0xF01, "mtty-2"),
            ),
        )

    def test_other_attributes(self):
        """An mdev that is set up otherwise is left alone."""
        found = builders.inventory([builders.mtty(23)], [builders.mdev(11)])

        plan = _allocate(found, [builders.want(1, attributes=ATTRIBUTES)])

        assert (plan.reuse, plan.create[0].attributes) == ((), ATTRIBUTES)

    @pytest.mark.parametrize("taken", ["claim", "guest", "off", "defined"])
    def test_taken(self, taken):
        """What a guest or a claim holds, or is only defined, is not."""
        mdev = builders.mdev(11, active=taken != "defined")
        guests = {
            "guest": [builders.guest("other", 11)],
            "off": [builders.guest("other", 11, active=False)],
        }.get(taken, [])
        held = [mdev] if taken == "claim" else []
        found = builders.inventory([builders.mtty(23)], [mdev], guests)

        plan = _allocate(found, builders.wants("mtty-1"), held=held)

        assert plan.reuse == ()

    def test_on_a_full_parent(self):
        """An existing mdev needs no room."""
        found = builders.inventory([builders.mtty(0)], [builders.mdev(11)])

        plan = _allocate(found, builders.wants("mtty-1"))

        assert plan.create == ()

    def test_avoided_types_may_be_reused(self):
        """Only the creation failed: what exists is as good as before."""
        found = builders.inventory([builders.mtty()], [builders.mdev(11)])

        plan = _allocate(
            found,
            builders.wants("mtty-1"),
            avoid=[Avoided(builders.MTTY, ("mtty-1",))],
        )

        assert plan.reuse == (builders.mdev(11),)

    def test_of_another_device_api(self):
        """An mdev that the guest's hostdev cannot use is not reused."""
        found = builders.inventory(
            [
                builders.parent("a", "vfio-ccw", t=0),
                builders.parent("b", "vfio-pci", t=1),
            ],
            [builders.mdev(11, "t", "a")],
        )

        plan = _allocate(found, [builders.want(1, "t", device_api="vfio-pci")])

        assert [mdev.parent for mdev in plan.mdevs] == ["b"]


class TestCreate:
    """What new mdevs are and where they are put."""

    def test_as_the_source_mdev(self):
        """Attributes, persistence and autostart are the source mdev's."""
        want = builders.want(
            1, attributes=ATTRIBUTES, persistent=True, autostart=True
        )

        plan = _allocate(builders.inventory([builders.mtty()]), [want])

        assert plan.create == (
            builders.mdev(
                0xF00, attributes=ATTRIBUTES, persistent=True, autostart=True
            ),
        )

    def test_nothing_wanted(self):
        """A guest without mdevs needs no parent."""
        plan = _allocate(builders.inventory(), [])

        assert plan == allocation.AllocationPlan()

    def test_nothing_wanted_with_parents(self):
        """Nor does it take anything from those there are."""
        found = builders.inventory([builders.mtty(0)], [builders.mdev(11)])

        assert _allocate(found, []) == allocation.AllocationPlan()

    def test_parent_that_serves_all(self):
        """One parent for all is preferred to the first with room for one."""
        found = builders.inventory(
            [builders.parent("a", t=1), builders.parent("b", t=2)]
        )

        plan = _allocate(found, builders.wants("t", "t"))

        assert [mdev.parent for mdev in plan.create] == ["b", "b"]

    def test_parent_that_serves_all_with_the_fewest_to_create(self):
        """Of two that do, the one with more to reuse."""
        found = builders.inventory(
            [builders.parent("a", t=9), builders.parent("b", t=9)],
            [builders.mdev(11, "t", "b")],
        )

        plan = _allocate(found, builders.wants("t", "t"))

        assert [mdev.parent for mdev in plan.mdevs] == ["b", "b"]

    def test_spread(self):
        """If no parent serves all, they are spread, everything reused."""
        found = builders.inventory(
            [builders.parent("a", t=1), builders.parent("b", t=1)],
            [builders.mdev(11, "t", "b")],
        )

        plan = _allocate(found, builders.wants("t", "t", "t"))

        assert [(m.uuid[:8], m.parent) for m in plan.mdevs] == [
            ("0000000b", "b"),
            ("00000f00", "a"),
            ("00000f01", "b"),
        ]

    def test_spread_that_greed_would_miss(self):
        """A parent is left to the type that has no other."""
        found = builders.inventory(
            [builders.parent("a", t=1, u=1), builders.parent("b", t=1)]
        )

        plan = _allocate(found, builders.wants("t", "u"))

        assert {m.mdev_type: m.parent for m in plan.create} == {
            "t": "b",
            "u": "a",
        }

    def test_hopeless_searches_end(self):
        """Many parents that are just too few are refused in little time."""
        parents = [builders.parent(f"p{n}", t=1, u=1, v=1) for n in range(14)]
        wanted = builders.wants(*["t"] * 5, *["u"] * 5, *["v"] * 5)

        assert _refused(builders.inventory(parents), wanted)

    def test_order_of_the_inventory_does_not_matter(self):
        """However the host lists its parents, the plan is the same."""
        parents = [builders.parent("b", t=2), builders.parent("a", t=2)]
        mdevs = [builders.mdev(12, "t", "b"), builders.mdev(11, "t", "a")]
        wanted = builders.wants("t", "t")

        plans = [
            _allocate(builders.inventory(parents, mdevs), wanted),
            _allocate(builders.inventory(parents[::-1], mdevs[::-1]), wanted),
        ]

        assert plans[0] == plans[1]

    def test_avoided(self):
        """A parent that refused a type is not asked for it again."""
        found = builders.inventory(
            [builders.parent("a", t=9), builders.parent("b", t=9)]
        )

        plan = _allocate(
            found, builders.wants("t"), avoid=[Avoided("a", ("t",))]
        )

        assert plan.create[0].parent == "b"

    @pytest.mark.parametrize(
        ("kinds", "refused"),
        [
            (("t",), False),
            (("u",), False),
            (("t", "u"), True),
            (("t", "t", "u"), True),
            (("t", "t", "t"), False),
        ],
    )
    def test_avoided_together(self, kinds, refused):
        """What could not be had together can be had alone."""
        found = builders.inventory([builders.parent("a", t=9, u=9)])

        avoid = [Avoided("a", ("t", "u"))]

        assert _refused(found, builders.wants(*kinds), avoid=avoid) is refused

    def test_refused_together(self):
        """The type that failed, with what was created there before it."""
        create = [
            builders.mdev(1, "u", "a"),
            builders.mdev(2, "t", "b"),
            builders.mdev(3, "t", "a"),
            builders.mdev(4, "v", "a"),
        ]

        avoided = allocation.refused_together(create, builders.uuid(3), {})

        assert avoided == Avoided("a", ("t", "u"))

    def test_all_avoided(self):
        """If all refused, there is no room."""
        found = builders.inventory([builders.mtty()])

        assert _refused(
            found,
            builders.wants("mtty-1"),
            avoid=[Avoided("mtty_mtty", ("mtty-1",))],
        )

    def test_too_few(self):
        """The error says what was needed and what there is."""
        found = builders.inventory([builders.mtty(1)], [builders.mdev(11)])

        with pytest.raises(exception.TooFewMdevs) as caught:
            _allocate(found, builders.wants("mtty-1", "mtty-1", "mtty-2"))

        assert caught.value.needed == ("mtty-1", "mtty-1", "mtty-2")
        assert caught.value.found == (
            "mtty-1: 1 existing and available, available instances 1 on "
            "mtty_mtty; mtty-2: 0 existing and available, available "
            "instances 0 on mtty_mtty"
        )

    @pytest.mark.parametrize("holder", ["nobody", "itself", "other", "claim"])
    def test_what_takes_the_room(self, holder):
        """What nobody has is named: another type, or other attributes."""
        mdevs = [
            builders.mdev(11, "mtty-2"),
            builders.mdev(12, attributes=(("a", "1"),)),
        ]
        old = builders.guest("vm", 11, 12, active=False, running=False)
        other = builders.guest("o", 11, 12, instance_uuid=builders.uuid(9))
        claim = builders.claim(
            *map(builders.target, mdevs), instance_uuid=builders.uuid(9)
        )
        found = builders.inventory(
            [builders.mtty(0)],
            mdevs,
            {"itself": (old,), "other": (other,)}.get(holder, ()),
            (claim,) if holder == "claim" else (),
        )
        want = dataclasses.replace(builders.wants("mtty-1")[0], attributes=())

        with pytest.raises(exception.TooFewMdevs) as caught:
            _allocate(found, [want], owner=builders.INSTANCE)

        named = [words.partition(" ") for words in caught.value.idle]
        own = ", of the guest's own old definition" * (holder == "itself")
        assert [(uuid, words) for uuid, _, words in named] == [
            (builders.uuid(11), f"(mtty-2 on mtty_mtty{own})"),
            (
                builders.uuid(12),
                f"(mtty-1 with other attributes on mtty_mtty{own})",
            ),
        ] * (holder in {"nobody", "itself"})
        assert "mtty-1: 0 existing and available" in caught.value.found

    def test_unknown_type(self):
        """A type that no parent offers is refused by its own error."""
        with pytest.raises(exception.MdevTypeMissing):
            _allocate(
                builders.inventory([builders.mtty()]), builders.wants("t")
            )


class TestSharedRoom:
    """The types of a parent share its room."""

    @pytest.mark.parametrize(
        ("ports", "ones", "twos", "fits"),
        [
            (24, 24, 0, True),
            (24, 25, 0, False),
            (24, 0, 12, True),
            (24, 0, 13, False),
            (24, 22, 1, True),
            (24, 23, 1, False),
            (24, 2, 11, True),
            (24, 1, 12, False),
            (21, 21, 0, True),
            (21, 1, 10, True),
            (21, 2, 10, False),
            (21, 19, 1, True),
            (21, 20, 1, False),
            (1, 1, 0, True),
            (0, 1, 0, False),
        ],
    )
    def test_ports_of_mtty(self, ports, ones, twos, fits):
        """A port is promised once, be it as one or as half of two."""
        found = builders.inventory([builders.mtty(ports)])
        wanted = builders.wants(*["mtty-1"] * ones, *["mtty-2"] * twos)

        assert _refused(found, wanted) is not fits

    @pytest.mark.parametrize(("held", "fits"), [(11, True), (12, False)])
    def test_claims_that_are_not_created_yet(self, held, fits):
        """They take room as if they existed."""
        found = builders.inventory([builders.mtty()])
        claimed = [builders.mdev(50 + n, "mtty-2") for n in range(held)]

        refused = _refused(found, builders.wants("mtty-2"), held=claimed)

        assert refused is not fits

    def test_claims_that_are_created(self):
        """They are counted once: the parent reports less already."""
        mdevs = [builders.mdev(50 + n, "mtty-2") for n in range(11)]
        found = builders.inventory([builders.mtty(2)], mdevs)

        assert not _refused(found, builders.wants("mtty-2"), held=mdevs)

    def test_claims_on_a_parent_that_is_gone(self):
        """They take no room anywhere else."""
        found = builders.inventory([builders.mtty(1)])
        gone = builders.mdev(50, parent="gone")

        assert not _refused(found, builders.wants("mtty-1"), held=[gone])

    def test_claims_of_a_type_that_has_no_room(self):
        """They cannot be counted, and take none."""
        found = builders.inventory([builders.mtty(1)])
        claimed = builders.mdev(50, "mtty-2")

        assert not _refused(found, builders.wants("mtty-1"), held=[claimed])

    @pytest.mark.parametrize("active", [True, False])
    def test_mdevs_of_guests_that_are_shut_off(self, active):
        """A defined mdev of a defined guest will need its room again."""
        off = builders.guest("off", 50, active=False, running=False)
        defined = builders.mdev(50, active=active, persistent=True)
        found = builders.inventory([builders.mtty(1)], [defined], [off])

        refused = _refused(found, builders.wants("mtty-1"))

        assert refused is not active

    def test_defined_mdev_that_no_guest_names(self):
        """It takes no room: nobody was promised it."""
        defined = builders.mdev(50, active=False, persistent=True)
        found = builders.inventory([builders.mtty(1)], [defined])

        assert not _refused(found, builders.wants("mtty-1"))

    def test_parent_that_serves_another_type(self):
        """A homogeneous parent reports no instance of it: skipped."""
        found = builders.inventory(
            [builders.parent("a", t=3, u=0), builders.parent("b", t=4, u=2)]
        )

        plan = _allocate(found, builders.wants("u"))

        assert plan.create[0].parent == "b"

    def test_number_that_no_whole_units_explain(self):
        """All that a parent reports of one type can be had."""
        found = builders.inventory([builders.parent("a", t=6, u=4)])

        refused = [_refused(found, builders.wants(*["u"] * n)) for n in (4, 5)]

        assert refused == [False, True]


def test_plan_lists_reused_mdevs_first():
    """All targets of a plan, in the order of reuse and creation."""
    plan = allocation.AllocationPlan((builders.mdev(1),), (builders.mdev(2),))

    assert plan.mdevs == (builders.mdev(1), builders.mdev(2))


def test_own_definition_and_a_claim_on_its_mdev():
    """What somebody was promised is not the guest's any more."""
    own = builders.guest("vm", 11, active=False, running=False)
    found = builders.inventory([builders.mtty(23)], [builders.mdev(11)], [own])
    facts = {"owner": own.instance_uuid}

    assert _allocate(found, builders.wants("mtty-1"), **facts).reuse
    held = _allocate(
        found, builders.wants("mtty-1"), held=[builders.mdev(11)], **facts
    )
    assert not held.reuse


def test_inventory_is_not_changed():
    """Planning decides on values and leaves them as they were."""
    found = builders.inventory([builders.mtty()], [builders.mdev(11)])
    copy = dataclasses.replace(found)

    _allocate(found, builders.wants("mtty-1", "mtty-2"))

    assert found == copy
