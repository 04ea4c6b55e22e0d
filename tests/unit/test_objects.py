# SPDX-License-Identifier: Apache-2.0
"""Is the wire object what Nova 29 sends, and is it read with care?"""

import hashlib

import pytest
from oslo_versionedobjects import base
from oslo_versionedobjects import exception as ovo_exception

from mdev_migrate import exception
from mdev_migrate.compute import objects
from tests import builders
from tests.migrate_data import LibvirtLiveMigrateData

ONE, TWO = builders.uuid(1), builders.uuid(2)
TYPES = {ONE: "nvidia-11"}
TARGETS = {ONE: TWO}


def _full():
    return LibvirtLiveMigrateData(
        dst_supports_mdev_live_migration=True,
        source_mdev_types=TYPES,
        target_mdevs=TARGETS,
    )


class TestWire:
    """What goes over the wire, and what comes back."""

    def test_fingerprint(self):
        """Fields and their types are part of the version: change both.

        Made as oslo.versionedobjects makes it: from the fields, and from
        the remotable methods, of which there are none.
        """
        facts = (
            sorted(LibvirtLiveMigrateData.fields.items()),
            [],
        )
        digest = hashlib.md5(repr(facts).encode(), usedforsecurity=False)

        assert (
            f"{LibvirtLiveMigrateData.VERSION}-{digest.hexdigest()}"
            == "1.11-16b8a60395414339b958e711b5e80a3f"
        )

    def test_primitive(self):
        """Name, namespace, version and fields are Nova's."""
        primitive = _full().obj_to_primitive()

        assert sorted(primitive.pop("nova_object.changes")) == sorted(
            objects.MDEV_FIELDS
        )
        assert primitive == {
            "nova_object.name": "LibvirtLiveMigrateData",
            "nova_object.namespace": "nova",
            "nova_object.version": "1.11",
            "nova_object.data": {
                "dst_supports_mdev_live_migration": True,
                "source_mdev_types": TYPES,
                "target_mdevs": TARGETS,
            },
        }

    def test_there_and_back(self):
        """What was sent is what is read."""
        sent = _full().obj_to_primitive()

        read = LibvirtLiveMigrateData.obj_from_primitive(sent)

        again = read.obj_to_primitive()
        for primitive in (sent, again):
            # A set: oslo.versionedobjects sorts it from 3.0 on.
            primitive["nova_object.changes"].sort()
        assert type(read) is LibvirtLiveMigrateData
        assert again == sent

    @pytest.mark.parametrize("version", ["1.10", "1.9", "1.0"])
    def test_older_peer(self, version):
        """It gets none of the fields, whatever it would do with them."""
        primitive = _full().obj_to_primitive(target_version=version)

        assert primitive["nova_object.version"] == version
        assert primitive["nova_object.data"] == {}

    @pytest.mark.parametrize("version", ["1.11", "1.12", "1.14", "2.0"])
    def test_fields_stay(self, version):
        """1.11 and later know them; versions are numbers, not texts."""
        primitive = dict(objects.MDEV_FIELDS)

        objects.drop_mdev_fields(primitive, version)

        assert primitive == objects.MDEV_FIELDS

    @pytest.mark.parametrize("version", ["1.10", "1.9"])
    def test_older_primitive(self, version):
        """It is read, keeps its version, and says nothing of mdevs."""
        sent = LibvirtLiveMigrateData().obj_to_primitive()
        sent["nova_object.version"] = version

        read = LibvirtLiveMigrateData.obj_from_primitive(sent)

        assert version == read.VERSION
        assert objects.received_source_mdev_types(read) is None

    @pytest.mark.parametrize("version", ["1.12", "1.100", "2.0"])
    def test_newer_primitive(self, version):
        """Who reads it must ask for an older one."""
        sent = _full().obj_to_primitive()
        sent["nova_object.version"] = version

        with pytest.raises(ovo_exception.IncompatibleObjectVersion):
            LibvirtLiveMigrateData.obj_from_primitive(sent)

    def test_another_object(self):
        """An object of another name is not taken for one of ours."""
        sent = _full().obj_to_primitive()
        sent["nova_object.name"] = "HyperVLiveMigrateData"

        with pytest.raises(ovo_exception.UnsupportedObjectError):
            LibvirtLiveMigrateData.obj_from_primitive(sent)

    def test_registry(self):
        """It is one for the process, and Nova's own class has its place."""
        known = base.VersionedObjectRegistry.obj_classes()

        assert "LibvirtLiveMigrateData" not in known


class TestMembership:
    """Missing and empty are not the same."""

    def test_nothing_set(self):
        """An unset field is no member, and reading it is an error."""
        data = LibvirtLiveMigrateData()

        assert [name for name in objects.MDEV_FIELDS if name in data] == []
        with pytest.raises(NotImplementedError):
            _ = data.target_mdevs

    def test_empty(self):
        """A set field is one, however empty."""
        data = LibvirtLiveMigrateData(source_mdev_types={})

        assert "source_mdev_types" in data
        assert objects.received_source_mdev_types(data) == {}

    @pytest.mark.parametrize(
        ("facts", "said"),
        [
            ({}, False),
            ({"dst_supports_mdev_live_migration": False}, False),
            ({"dst_supports_mdev_live_migration": True}, True),
        ],
    )
    def test_destination_supports(self, facts, said):
        """Only what was said counts."""
        data = LibvirtLiveMigrateData(**facts)

        assert objects.destination_supports(data) is said


class TestReceived:
    """What a peer sent is checked when it is taken out."""

    def test_as_sent(self):
        """Types and targets by source mdev."""
        assert objects.received_source_mdev_types(_full()) == TYPES
        assert objects.received_target_mdevs(_full()) == TARGETS

    def test_nothing(self):
        """A guest without mdevs has neither."""
        data = LibvirtLiveMigrateData()

        assert objects.received_target_mdevs(data) == {}

    @pytest.mark.parametrize(
        "facts",
        [
            {"source_mdev_types": TYPES},
            {"source_mdev_types": TYPES, "target_mdevs": {}},
            {"source_mdev_types": TYPES, "target_mdevs": {TWO: ONE}},
            {"source_mdev_types": TYPES, "target_mdevs": {ONE: "x"}},
            {"target_mdevs": TARGETS},
        ],
    )
    def test_not_one_for_each(self, facts):
        """One target for each source mdev, or nothing goes on."""
        data = LibvirtLiveMigrateData(**facts)

        with pytest.raises(exception.MigrateDataInvalid):
            objects.received_target_mdevs(data)
