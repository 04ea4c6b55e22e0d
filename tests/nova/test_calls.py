# SPDX-License-Identifier: Apache-2.0
"""How often a migration asks libvirt, beside stock Nova in one run."""

from __future__ import annotations

import collections
import os
import re
import uuid

from nova.virt.libvirt import driver as libvirt_driver

from tests.nova import base, call_counter
from tests.nova.fake_host import TYPE_A, TYPE_B

#: Tells the calls, too, as a row of the table in the documentation.
TELL = os.environ.get("MDEV_MIGRATE_TELL_CALLS") == "1"
SOURCE = "check_can_live_migrate_source"
#: The destination's check has two parts.
DESTINATION = (
    "check_can_live_migrate_destination",
    "check_source_migrate_data_at_dest",
)
PREPARE = "pre_live_migration"


def _both(calls: collections.Counter[str]) -> int:
    return sum(calls[name] for name in DESTINATION)


class _Crowd(base.MdevComputesTestCase):
    """Two hosts with as many parents, mdevs and guests each.

    Placement knows one parent of the flavor's type, and one of another: it
    takes long to fill.
    """

    #: How many of each.
    many = 4
    room = {TYPE_A: 256, TYPE_B: 256}  # noqa: RUF012

    @property
    def names(self) -> list[str]:
        """The parents of each host."""
        return [f"pci_0000_81_{slot:02x}_0" for slot in range(self.many)]

    def setUp(self) -> None:
        self.parents = self.many
        self.parent_types = dict.fromkeys(self.names, TYPE_A)
        self._patch("tests.nova.base.PARENTS", tuple(self.names))
        super().setUp()
        self.counter = self.useFixture(
            call_counter.CallCounter(libvirt_driver.VGPU_RESOURCE_SEMAPHORE)
        )

    def configure_types(self, parent_types: dict[str, str]) -> None:
        """Configure two of the parents."""
        super().configure_types(
            {self.names[0]: parent_types[self.names[0]], self.names[1]: TYPE_B}
        )

    def set_trait(self, name: str, parent: str, *mdev_types: str) -> None:
        """Mark the parent of the flavor's type."""
        if parent == self.names[0]:
            super().set_trait(name, parent, *mdev_types)

    def _flavor(self, mdevs: int = 1) -> str:
        trait = f"trait:{base.type_trait(TYPE_A)}"
        extra = {"resources:VGPU": str(mdevs), trait: "required"}
        return str(self._create_flavor(disk=0, ephemeral=0, extra_spec=extra))

    def _fill(self, server: str) -> None:
        """Give each host as many guests with mdevs as parents."""
        source = self.hosts["source"].connection
        xml = source.lookupByUUIDString(server).XMLDesc(0)
        held = self.guest_mdevs("source", server)
        for host in self.hosts.values():
            for number in range(self.many):
                guest = xml.replace(server, str(uuid.uuid4()))
                for mdev in held:
                    new = host.create(self.names[0], TYPE_A)
                    guest = guest.replace(mdev, new)
                guest = re.sub(
                    "<name>[^<]*</name>", f"<name>g{number}</name>", guest
                )
                host.connection.defineXML(guest).create()

    def _measure(self, server: str) -> collections.Counter[str]:
        for service in self.computes.values():
            self.counter.watch(service.driver)
        self.counter.reset()
        self.assertEqual("completed", self.run_migration(server))
        return self.counter.by_hook

    def _leave(self, server: str) -> None:
        """Make the destination what it was before a server came."""
        mdevs = self.guest_mdevs("destination", server)
        domain = self.target_host.connection.lookupByUUIDString(server)
        domain.destroy()
        domain.undefine()
        for mdev in mdevs:
            del self.target_host.mdevs[mdev]

    def _check_bounds(self, mdevs: int = 1) -> None:
        """Migrate with the mixin and with stock, and compare.

        :param mdevs: how many each guest has.
        """
        flavor = self._flavor(mdevs)
        ours, theirs = self.boot(flavor), self.boot(flavor)
        self._fill(ours)
        mixin = self._measure(ours)
        self.assertEqual(0, self.counter.guests_under_lock)
        # Whatever the host's size: our own look, and stock's.
        self.assertLessEqual(mixin[SOURCE], 11 + 4 * mdevs, mixin)
        self.assertLessEqual(mixin[PREPARE], 3 + mdevs, mixin)
        if base.RELEASE < 29:
            return  # Stock Nova migrates no mdevs.
        self._leave(ours)
        self._patch(
            "nova.virt.libvirt.LibvirtDriver", libvirt_driver.LibvirtDriver
        )
        for host in ("source", "destination"):
            self.restart(host)
        stock = self._measure(theirs)
        self.assertLessEqual(mixin.total(), stock.total(), (mixin, stock))
        self.assertLessEqual(_both(mixin), _both(stock), (mixin, stock))
        if TELL:
            pairs = [
                (mixin[SOURCE], stock[SOURCE]),
                (_both(mixin), _both(stock)),
                (mixin[PREPARE], stock[PREPARE]),
                (mixin.total(), stock.total()),
            ]
            row = "  ".join(f"{ours} / {theirs}" for ours, theirs in pairs)
            print(f"\n{self.many}  {row}")  # noqa: T201 - it was asked for


class TestFour(_Crowd):
    def test_calls(self):
        """Few calls on a small host."""
        self._check_bounds()

    def test_several_mdevs(self):
        """Each of a guest's mdevs costs one call to prepare."""
        self._check_bounds(mdevs=4)

    def test_boot(self):
        """A boot, too, reads no guest under Nova's lock."""
        flavor = self._flavor()
        self._fill(self.boot(flavor))
        self.counter.reset()

        self.boot(flavor)

        self.assertEqual(0, self.counter.guests_under_lock)


class TestThirtyTwo(_Crowd):
    many = 32

    def test_calls(self):
        """Few calls on a large host."""
        self._check_bounds()


class TestHundredAndTwentyEight(_Crowd):
    many = 128

    def test_calls(self):
        """Few calls on a very large host."""
        self._check_bounds()
