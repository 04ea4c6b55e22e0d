# SPDX-License-Identifier: Apache-2.0
"""Is what a peer sent checked before anybody uses it?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdev_migrate import exception
from mdev_migrate.core import wire
from tests import builders

ONE, TWO, THREE, FOUR = map(builders.uuid, (0xA1, 0xA2, 0xA3, 0xA4))
SOURCES = {ONE: "mtty-1", TWO: "nvidia-11"}
NOT_MAPPINGS = [None, [], "x", 1, [(ONE, "mtty-1")], True]
NOT_UUIDS = [None, 1, "", "x", ONE.replace("-", ""), f"{ONE}\n", b"x", (1,)]
NOT_TYPES = [
    None,
    5,
    True,
    1.5,
    ("mtty-1",),
    b"mtty-1",
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "a b",
    "-rf",
    "a\n",
    "a;b",
    "a" * 129,
    "\u00fc",
]


class TestSourceMdevTypes:
    """What the source sends."""

    def test_as_sent(self):
        """UUIDs and types in the order sent; the UUIDs in lower case."""
        sent = {TWO.upper(): "nvidia-11", ONE: "i915-GVTg_V5_4"}

        found = wire.check_source_mdev_types(sent)

        assert list(found.items()) == [
            (TWO, "nvidia-11"),
            (ONE, "i915-GVTg_V5_4"),
        ]

    @pytest.mark.parametrize("sent", NOT_MAPPINGS)
    def test_not_a_mapping(self, sent):
        """Anything else is refused."""
        with pytest.raises(exception.MigrateDataInvalid, match="mapping"):
            wire.check_source_mdev_types(sent)

    @pytest.mark.parametrize("key", NOT_UUIDS)
    def test_not_a_uuid(self, key):
        """It would reach libvirt, and a path in sysfs."""
        with pytest.raises(exception.MigrateDataInvalid, match="not a UUID"):
            wire.check_source_mdev_types({key: "mtty-1"})

    @pytest.mark.parametrize("kind", NOT_TYPES)
    def test_not_a_type(self, kind):
        """It would reach libvirt, and a path in sysfs."""
        with pytest.raises(exception.MigrateDataInvalid, match="mdev type"):
            wire.check_source_mdev_types({ONE: kind})

    def test_uuid_twice(self):
        """Two spellings of one UUID are one mdev, told twice."""
        with pytest.raises(exception.MigrateDataInvalid, match="twice"):
            wire.check_source_mdev_types({ONE: "a", ONE.upper(): "b"})


class TestTargetMdevs:
    """What the destination sends."""

    def test_as_sent(self):
        """One target for each source mdev, in lower case."""
        sent = {ONE: THREE.upper(), TWO.upper(): FOUR}

        found = wire.check_target_mdevs(sent, SOURCES)

        assert found == {ONE: THREE, TWO: FOUR}

    @pytest.mark.parametrize("sent", NOT_MAPPINGS)
    def test_not_a_mapping(self, sent):
        """Anything else is refused."""
        with pytest.raises(exception.MigrateDataInvalid, match="mapping"):
            wire.check_target_mdevs(sent, SOURCES)

    @pytest.mark.parametrize("text", NOT_UUIDS)
    def test_not_a_uuid(self, text):
        """Neither as a source nor as a target."""
        for sent in ({ONE: THREE, TWO: text}, {ONE: THREE, text: FOUR}):
            with pytest.raises(exception.MigrateDataInvalid, match="UUID"):
                wire.check_target_mdevs(sent, SOURCES)

    @pytest.mark.parametrize(
        "sent", [{}, {ONE: THREE}, {ONE: THREE, TWO: FOUR, THREE: ONE}]
    )
    def test_other_source_mdevs(self, sent):
        """Exactly those that were asked for."""
        with pytest.raises(exception.MigrateDataInvalid, match="asked for"):
            wire.check_target_mdevs(sent, SOURCES)

    def test_shared_target(self):
        """Two source mdevs never share a target."""
        with pytest.raises(exception.MigrateDataInvalid, match="same target"):
            wire.check_target_mdevs({ONE: THREE, TWO: THREE.upper()}, SOURCES)

    def test_source_uuid_twice(self):
        """Two spellings of one source mdev are refused, not merged."""
        sent = {ONE: THREE, TWO: FOUR, TWO.upper(): builders.uuid(0xA5)}

        with pytest.raises(exception.MigrateDataInvalid):
            wire.check_target_mdevs(sent, SOURCES)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=50)
    | st.uuids().map(str),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=50) | st.uuids().map(str), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_source_mdev_types(sent):
    """Only our own error comes out, or a clean mapping."""
    try:
        found = wire.check_source_mdev_types(sent)
    except exception.MigrateDataInvalid as error:
        assert len(str(error)) < 300  # noqa: PT017 - any text will do
    else:
        assert wire.check_source_mdev_types(found) == found


@given(JSON)
def test_any_target_mdevs(sent):
    """Only our own error comes out, or a clean mapping."""
    try:
        found = wire.check_target_mdevs(sent, SOURCES)
    except exception.MigrateDataInvalid as error:
        assert str(error)  # noqa: PT017 - any text will do
    else:
        assert found.keys() == SOURCES.keys()
