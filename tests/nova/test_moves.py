# SPDX-License-Identifier: Apache-2.0
"""Do Nova's other moves of guests with mdevs go on beside a claim?

While one guest is on its way, another comes to the same host, or is made
anew there, by each other means that Nova has. It must get mdevs of its own,
as on stock releases.
"""

from __future__ import annotations

import contextlib

from nova import objects

from tests.nova import base
from tests.nova.fake_host import TYPE_B


class TestBesideAClaim(base.MdevComputesTestCase):
    def setUp(self):
        super().setUp()
        # Disks are nobody's business here, and there are none.
        self._patch("os.rename", lambda *args: None)
        # The driver takes its host's name from the configuration.
        self.flags(host="source")
        flavor = self.mdev_flavor()
        self.leaving = self.boot(flavor)
        self.other = self.boot(flavor)
        self.server = self.api.get_server(self.other)

    def _leave(self) -> None:
        """Let a guest begin to leave; its target mdev is claimed."""
        self.held = self.hold(self.leaving)
        self.live_migrate(self.leaving)
        self.wait_for(self.held.started.is_set, "libvirt to be called")

    def _assert_apart(self, host: str, mdevs: int = 1) -> None:
        """The other guest has its own; the one on its way arrives."""
        if not base.STOCK:
            self.assertEqual([self.leaving], list(self.claimed()))
        own = self.guest_mdevs(host, self.other)
        self.assertEqual(mdevs, len(own))
        self.assertEqual([], self.guest_mdevs("destination", self.leaving))
        self.assertTrue(set(own).isdisjoint(self.held.target_mdevs))

        self._assert_arrives()
        self.assertEqual(own, self.guest_mdevs(host, self.other))

    def _assert_arrives(self) -> None:
        """The one on its way comes to its target mdevs."""
        self.held.go_on.set()

        self.assertEqual("completed", self.finish(self.leaving))
        self.assertEqual(
            self.held.target_mdevs,
            self.guest_mdevs("destination", self.leaving),
        )
        self.assertEqual({}, self.claimed())

    def _come(self) -> None:
        """Bring the other guest to the destination first."""
        self.assertEqual("completed", self.run_migration(self.other))

    def test_cold_migration(self):
        """It is migrated cold to the destination, and that is confirmed."""
        self._leave()
        self._migrate_server(self.server, host="destination")
        self._confirm_resize(self.server)

        self._assert_apart("destination")

    def test_cold_migration_reverted(self):
        """It goes back."""
        self._leave()
        self._migrate_server(self.server, host="destination")
        self.api.post_server_action(self.other, {"revertResize": None})
        self._wait_for_state_change(self.server, "ACTIVE")

        self._assert_apart("source")

    def test_resize(self):
        """It gets another mdev, of another type."""
        flavor = self.mdev_flavor(mdev_type=TYPE_B)
        self._leave()
        self._resize_server(self.server, flavor)
        self._confirm_resize(self.server)
        host = self.instance(self.other).host

        self._assert_apart(host)
        mdev = self.hosts[host].mdevs[self.guest_mdevs(host, self.other)[0]]
        self.assertEqual(TYPE_B, mdev.mdev_type)

    def test_evacuation(self):
        """Its host is given up, and it is built anew, as far as stock can.

        Placement then has allocations of both hosts, and stock Nova takes
        the first provider that it finds, or all: it may be the other host's.
        """
        self._leave()
        service = objects.Service.get_by_compute_host(self.context, "source")
        self.api.put_service_force_down(service.uuid, True)
        with contextlib.suppress(base.ApiError):
            self.api.post_server_action(
                self.other, {"evacuate": {"host": "destination"}}
            )
        self.wait_for(
            lambda: self.instance(self.other).task_state is None,
            "the evacuation to end",
        )
        self.api.put_service_force_down(service.uuid, False)

        if self.instance(self.other).host == "destination":
            self._assert_apart("destination")
        else:
            self._assert_arrives()

    def test_shelving(self):
        """It is shelved, and comes back."""
        self._come()
        self._leave()
        self._shelve_server(self.server)
        # Only one of the hosts is to be had.
        service = objects.Service.get_by_compute_host(self.context, "source")
        self.api.put_service(service.uuid, {"status": "disabled"})
        self._unshelve_server(self.server)

        self._assert_apart("destination")

    def test_rebuilding(self):
        """It is rebuilt where it is."""
        self._come()
        self._leave()
        self._rebuild_server(self.server, base.IMAGE)

        self._assert_apart("destination")

    def test_hard_reboot(self):
        """It is made anew with the mdev that it had."""
        self._come()
        self._leave()
        before = self.guest_mdevs("destination", self.other)
        self.hard_reboot(self.other)

        self.assertEqual(before, self.guest_mdevs("destination", self.other))
        self._assert_apart("destination")

    def test_stop_and_start(self):
        """It is shut off, which keeps its mdev, and started."""
        self._come()
        self._leave()
        before = self.guest_mdevs("destination", self.other)
        self._stop_server(self.server)
        self._start_server(self.server)

        self.assertEqual(before, self.guest_mdevs("destination", self.other))
        self._assert_apart("destination")

    def test_deletion(self):
        """It is deleted: the claim of the one on its way stays."""
        self._come()
        self._leave()
        self._delete_server(self.server)

        self._assert_apart("destination", mdevs=0)
