# SPDX-License-Identifier: Apache-2.0
"""Does every source mdev get a target mdev of its own, of its kind?"""

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdev_migrate import exception
from mdev_migrate.core import pairing
from tests import builders

ATTRIBUTES = (("assign_adapter", "5"),)
KINDS = st.sampled_from(["mtty-1", "mtty-2", "nvidia-11"])
ATTRIBUTE_SETS = st.sampled_from([(), ATTRIBUTES])
WANTED = st.lists(
    st.tuples(KINDS, st.none() | ATTRIBUTE_SETS), max_size=8
).map(
    lambda facts: [
        builders.want(number, kind, attributes=attributes)
        for number, (kind, attributes) in enumerate(facts, 1)
    ]
)
TARGETS = st.lists(st.tuples(KINDS, ATTRIBUTE_SETS), max_size=10).map(
    lambda facts: [
        builders.mdev(100 + number, kind, attributes=attributes)
        for number, (kind, attributes) in enumerate(facts)
    ]
)


QUEUES = (
    ("assign_adapter", "5"),
    ("assign_adapter", "6"),
    ("assign_domain", "4"),
    ("assign_domain", "4"),
)


@given(st.permutations(QUEUES))
def test_attributes_in_any_order(attributes):
    """The same queues are the same, however they are written."""
    target = builders.mdev(11, attributes=tuple(attributes))

    assert pairing.serves(target, builders.want(1, attributes=QUEUES))


@given(st.integers(0, len(QUEUES) - 1))
def test_attribute_that_is_missing(place):
    """One less is another device, even if it stands there once more."""
    fewer = QUEUES[:place] + QUEUES[place + 1 :]

    for one, other in ((QUEUES, fewer), (fewer, QUEUES)):
        target = builders.mdev(11, attributes=one)
        assert not pairing.serves(target, builders.want(1, attributes=other))


def test_pairs_in_the_order_given():
    """The first source mdev gets the first target of its type."""
    targets = [
        builders.mdev(11, "mtty-2"),
        builders.mdev(12, "mtty-1"),
        builders.mdev(13, "mtty-1"),
    ]

    pairs = pairing.pair_mdevs(
        builders.wants("mtty-1", "mtty-1", "mtty-2"), targets
    )

    assert list(pairs.items()) == [
        (builders.uuid(1), builders.uuid(12)),
        (builders.uuid(2), builders.uuid(13)),
        (builders.uuid(3), builders.uuid(11)),
    ]


def test_other_type_is_no_target():
    """A target of another type is never taken instead."""
    with pytest.raises(exception.TargetMdevMissing) as caught:
        pairing.pair_mdevs(
            builders.wants("mtty-1"), [builders.mdev(11, "mtty-2")]
        )

    assert caught.value.args == (builders.uuid(1), "mtty-1")


def test_target_is_used_once():
    """Two source mdevs never share one target."""
    with pytest.raises(exception.TargetMdevMissing):
        pairing.pair_mdevs(
            builders.wants("mtty-1", "mtty-1"), [builders.mdev(11)]
        )


@pytest.mark.parametrize(
    ("asked", "found", "serves"),
    [
        (None, (), True),
        (None, ATTRIBUTES, True),
        ((), (), True),
        ((), ATTRIBUTES, False),
        (ATTRIBUTES, (), False),
        (ATTRIBUTES, ATTRIBUTES, True),
    ],
)
def test_attributes_must_match_if_told(asked, found, serves):
    """Attributes that the source did not tell may be any."""
    target = builders.mdev(11, attributes=found)

    assert pairing.serves(target, builders.want(1, attributes=asked)) is serves


def _pair(wanted, targets):
    try:
        return pairing.pair_mdevs(wanted, targets)
    except exception.TargetMdevMissing:
        return None


@given(WANTED, TARGETS)
def test_every_pair_is_of_one_kind(wanted, targets):
    """All are paired, one to one and each with what serves it, or none."""
    pairs = _pair(wanted, targets)

    if pairs is not None:
        by_uuid = {mdev.uuid: mdev for mdev in targets}
        assert list(pairs) == [want.source_uuid for want in wanted]
        assert len(set(pairs.values())) == len(wanted)
        assert all(
            pairing.serves(by_uuid[pairs[want.source_uuid]], want)
            for want in wanted
        )


DURABLE = st.sampled_from([(False, False), (True, False), (True, True)])


def _facts(durable, attributes):
    return {
        "persistent": durable[0],
        "autostart": durable[1],
        "attributes": attributes,
    }


MDEVS = (builders.uuid(100), builders.uuid(101))
CHOICES = st.none() | st.sampled_from([*MDEVS, builders.MTTY, "other"])
PICKY = st.lists(
    st.tuples(st.builds(_facts, DURABLE, st.none() | ATTRIBUTE_SETS), CHOICES),
    max_size=4,
).map(
    lambda found: [
        builders.want(number, target=target, **facts)
        for number, (facts, target) in enumerate(found, 1)
    ]
)
VARIED = st.lists(
    st.tuples(
        st.builds(_facts, DURABLE, ATTRIBUTE_SETS),
        st.sampled_from([builders.MTTY, "other"]),
    ),
    max_size=5,
).map(
    lambda found: [
        builders.mdev(100 + number, parent=parent, **facts)
        for number, (facts, parent) in enumerate(found)
    ]
)


def _best(wanted, targets):
    """Return by trying everything how many are served, and how well.

    First counted are those who chose an mdev, then those who chose a parent,
    then all, then their ranks.
    """
    spare = [*targets, *(None for _ in wanted)]
    found = []
    for order in itertools.permutations(spare, len(wanted)):
        served = [
            (want, pairing.misfit(mdev, want))
            for want, mdev in zip(wanted, order, strict=True)
            if mdev is not None and pairing.serves(mdev, want)
        ]
        found.append(_value(served))
    return max(found)


def _value(served):
    return (
        sum(want.target in MDEVS for want, _ in served),
        sum(want.target in {builders.MTTY, "other"} for want, _ in served),
        len(served),
        -sum(rank for _, rank in served),
    )


@given(PICKY, VARIED)
def test_the_best_of_all_pairings(wanted, targets):
    """As many are served as can be, and as well as can be."""
    matched = pairing.match(wanted, targets)

    served = [
        (want, pairing.fit(matched[want.source_uuid], want))
        for want in wanted
        if want.source_uuid in matched
    ]
    assert len({mdev.uuid for mdev in matched.values()}) == len(matched)
    assert None not in dict(served).values()
    assert _value(served) == _best(wanted, targets)


def test_what_serves_any_leaves_the_only_one():
    """Who takes any attributes does not take those that another needs."""
    wanted = [
        builders.want(1, attributes=None),
        builders.want(2, attributes=ATTRIBUTES),
    ]
    targets = [
        builders.mdev(11, attributes=ATTRIBUTES),
        builders.mdev(12),
    ]

    assert pairing.pair_mdevs(wanted, targets) == {
        builders.uuid(1): builders.uuid(12),
        builders.uuid(2): builders.uuid(11),
    }


@given(WANTED, TARGETS)
def test_same_input_same_pairs(wanted, targets):
    """A retry pairs as the first try did."""
    assert _pair(wanted, targets) == _pair(wanted, targets)


@given(WANTED, TARGETS)
def test_enough_of_every_kind_is_enough(wanted, targets):
    """With types only, an error means that there truly are too few."""
    wanted = [
        builders.want(number, want.mdev_type)
        for number, want in enumerate(wanted)
    ]
    needed = Counter(want.mdev_type for want in wanted)
    found = Counter(mdev.mdev_type for mdev in targets)

    pairs = _pair(wanted, targets)

    assert (pairs is not None) == (needed <= found)


@pytest.mark.parametrize(
    ("name", "one", "other", "same"),
    [
        ("assign_adapter", "5", "0x5", True),
        ("assign_adapter", "0x05", "0X5", True),
        ("assign_domain", "0xAB", "0xab", True),
        ("assign_domain", "171", "0xab", True),
        ("assign_control_domain", "0", "0x0", True),
        # An octal number, as the kernel reads it.
        ("assign_adapter", "010", "8", True),
        ("assign_adapter", "010", "10", False),
        # The kernel refuses these: they are no numbers.
        ("assign_adapter", "08", "8", False),
        ("assign_adapter", "-5", "5", False),
        ("assign_adapter", "\u0665", "5", False),
        # What other attributes say is the driver's to know.
        ("frame_rate", "0x5", "5", False),
    ],
)
def test_numbers_of_vfio_ap(name, one, other, same):
    """They are the same however they are spelt; nothing else is."""
    target = builders.mdev(11, attributes=((name, one),))
    want = builders.want(1, attributes=((name, other),))

    assert pairing.serves(target, want) == same
