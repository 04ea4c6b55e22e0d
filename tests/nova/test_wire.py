# SPDX-License-Identifier: Apache-2.0
"""Migrate data between releases, with the mixin here and without there.

What stock releases send is kept in ``golden``; see ``wire_samples``.
"""

from __future__ import annotations

from typing import Any

from nova import test
from nova.objects import base, migrate_data
from oslo_versionedobjects import exception as ovo_exception
from oslo_versionedobjects import fixture

import mdev_migrate.nova
from mdev_migrate.compute import objects
from tests.nova import wire_samples

mdev_migrate.nova.install()

#: Nova 29's own: what peers of other releases compare.
FINGERPRINT = "1.11-c535fa68cab55cc451e49996f1380ccc"


def read(primitive: dict[str, Any]) -> Any:
    """Return the object that this side makes of a primitive."""
    return base.NovaObject.obj_from_primitive(primitive)


def number(primitive: dict[str, Any]) -> tuple[int, ...]:
    """Return the version that a primitive is labelled with."""
    label = primitive["nova_object.version"]
    return tuple(int(part) for part in label.split("."))


class TestExtendedObject(test.NoDBTestCase):
    """Where the stock object did not know mdevs, ours is upstream's."""

    def test_fingerprint(self) -> None:
        """Version 1.11 has the fingerprint that Nova 29 gave it."""
        if migrate_data.LibvirtLiveMigrateData.VERSION != "1.11":
            self.skipTest("this release's object is newer than 1.11")
        checker = fixture.ObjectVersionChecker(
            {"LibvirtLiveMigrateData": [migrate_data.LibvirtLiveMigrateData]}
        )

        found = checker.get_hashes()

        self.assertEqual(FINGERPRINT, found["LibvirtLiveMigrateData"])

    def test_installed_twice(self) -> None:
        """A second installation changes nothing."""
        before = migrate_data.LibvirtLiveMigrateData.obj_to_primitive

        mdev_migrate.nova.install()

        self.assertIs(
            before, migrate_data.LibvirtLiveMigrateData.obj_to_primitive
        )

    def test_one_class_of_the_name(self) -> None:
        """The registry has one class, and it is the one Nova refers to."""
        found = base.NovaObjectRegistry.obj_classes()

        self.assertEqual(
            [migrate_data.LibvirtLiveMigrateData],
            found["LibvirtLiveMigrateData"],
        )

    def test_names_of_the_fields(self) -> None:
        """The three fields are there, whoever brought them."""
        self.assertLessEqual(
            objects.MDEV_FIELDS.keys(),
            migrate_data.LibvirtLiveMigrateData.fields.keys(),
        )


class TestSent(test.NoDBTestCase):
    """What this side sends is what stock releases know."""

    def test_guest_without_mdevs(self) -> None:
        """It travels as stock's own object would, no newer than 1.10.

        Where stock's is newer than 1.11, its label is left alone.
        """
        found = wire_samples.primitive(wire_samples.plain())

        if migrate_data.LibvirtLiveMigrateData.VERSION == "1.11":
            expected = wire_samples.golden("28.3.1")["plain"]
            known = ("1.10", "1.11")
        else:
            expected = wire_samples.golden("34.0.0")["plain"]
            known = (migrate_data.LibvirtLiveMigrateData.VERSION,)
        self.assertIn(found.pop("nova_object.version"), known)
        expected.pop("nova_object.version")
        self.assertEqual(expected, found)

    def test_as_upstream(self) -> None:
        """For a guest with mdevs it sends, as 1.11, what Nova 29 sends."""
        found = wire_samples.primitive(wire_samples.with_mdevs(), "1.11")

        self.assertEqual(wire_samples.golden("29.4.0")["mdevs"], found)

    def test_backported(self) -> None:
        """Backported to 1.10 it is the stock 1.10 object."""
        found = wire_samples.primitive(wire_samples.with_mdevs(), "1.10")

        self.assertEqual(wire_samples.golden("28.3.1")["plain"], found)


class TestReceived(test.NoDBTestCase):
    """What stock releases send is understood."""

    def test_from_29(self) -> None:
        """Nova 29's object is read, and sent on as it came."""
        sent = wire_samples.golden("29.4.0")["mdevs"]

        found = read(sent)

        self.assertEqual(
            wire_samples.MDEVS["target_mdevs"], found.target_mdevs
        )
        self.assertEqual(sent, wire_samples.primitive(found, "1.11"))

    def test_from_34_through_a_conductor(self) -> None:
        """Nova 34's object, which a conductor backported, is read."""
        sent = wire_samples.golden("34.0.0")["mdevs as 1.11"]

        found = read(sent)

        self.assertEqual(
            wire_samples.MDEVS["source_mdev_types"], found.source_mdev_types
        )
        self.assertTrue(objects.destination_supports(found))

    def test_from_34_directly(self) -> None:
        """A newer object asks for a backport, or is known as it is."""
        sent = wire_samples.golden("34.0.0")["mdevs"]
        ours = migrate_data.LibvirtLiveMigrateData.VERSION
        if number(sent) > tuple(int(part) for part in ours.split(".")):
            self.assertRaises(
                ovo_exception.IncompatibleObjectVersion, read, sent
            )
        else:
            self.assertTrue(objects.destination_supports(read(sent)))

    def test_from_28(self) -> None:
        """A stock 28's object is read, and says nothing of mdevs."""
        found = read(wire_samples.golden("28.3.1")["plain"])

        self.assertFalse(objects.destination_supports(found))
        self.assertIsNone(objects.received_source_mdev_types(found))
        self.assertEqual("1.10", found.VERSION)

    def test_from_28_and_back(self) -> None:
        """It goes back as version 1.10, which that peer knows."""
        found = read(wire_samples.golden("28.3.1")["plain"])

        self.assertEqual((1, 10), number(wire_samples.primitive(found)))
