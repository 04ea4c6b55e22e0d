# SPDX-License-Identifier: Apache-2.0
"""Live migration of guests with mdevs, from the API to libvirt's call."""

from tests.nova import base
from tests.nova.fake_host import PARENTS, TYPE_A, TYPE_B


class TestLiveMigration(base.MdevComputesTestCase):
    def test_guest_with_one_mdev(self):
        """A guest arrives with a mdev of the destination's."""
        server = self.boot()

        status = self.run_migration(server)

        self.assertEqual("completed", status)
        self.assert_state(server, "active", "destination")
        mdevs = self.guest_mdevs("destination", server)
        self.assertEqual(self.target_host.created, mdevs)
        self.assertEqual({}, self.claimed())

    def test_guest_with_three_mdevs(self):
        """A guest arrives with as many mdevs as it had."""
        server = self.boot(self.mdev_flavor(mdevs=3))

        status = self.run_migration(server)

        self.assertEqual("completed", status)
        mdevs = self.guest_mdevs("destination", server)
        self.assertEqual(set(self.target_host.created), set(mdevs))
        self.assertEqual(3, len(mdevs))

    def test_failed_migration(self):
        """A guest whose migration failed stays where it was, with its mdev."""
        server = self.boot()
        before = self.guest_mdevs("source", server)
        self.fail_migration(server)

        status = self.run_migration(server)

        self.assertEqual("failed", status)
        self.assertEqual(before, self.guest_mdevs("source", server))
        self.assertEqual({}, self.claimed())

    def test_unshared_instance_path(self):
        """The same without shared storage, to the end."""
        self.unshare_instance_path()
        server = self.boot()

        self.assertEqual("completed", self.run_migration(server))
        self.assert_state(server, "active", "destination")

    def test_unshared_instance_path_failed(self):
        """The destination gives up its claim without shared storage too."""
        self.unshare_instance_path()
        server = self.boot()
        self.fail_migration(server)

        self.run_migration(server)

        self.assertEqual({}, self.claimed())

    def test_shared_instance_directory_survives(self):
        """The source leaves the directory that the guest still runs from."""
        deleted = []
        self._patch(
            "nova.virt.libvirt.driver.LibvirtDriver._is_shared_block_storage",
            lambda *args: True,
        )
        self._patch(
            "nova.virt.libvirt.driver.LibvirtDriver.delete_instance_files",
            lambda driver, instance: deleted.append(instance.uuid),
        )
        server = self.boot()

        self.assertEqual("completed", self.run_migration(server))
        self.assertEqual([], deleted)

    def test_abort(self):
        """An aborted migration leaves the guest and nothing claimed."""
        server = self.boot()
        held = self.hold(server)
        self.live_migrate(server)
        self.wait_for_status(server, "running")
        self.wait_for(held.started.is_set, "libvirt to be called")

        self.abort(server)

        self.assertEqual("cancelled", self.finish(server))
        self.assert_state(server, "active", "source")
        self.assertEqual({}, self.claimed())

    def test_claimed_during_migration(self):
        """While the guest is on its way its target mdev is claimed."""
        server = self.boot()
        held = self.hold(server)
        self.live_migrate(server)
        self.wait_for(held.started.is_set, "libvirt to be called")

        self.assertEqual({server: held.target_mdevs}, self.claimed())
        held.go_on.set()
        self.assertEqual("completed", self.finish(server))

    def test_queue(self):
        """Migrations wait for each other and all arrive."""
        flavor = self.mdev_flavor()
        servers = [self.boot(flavor) for _ in range(3)]
        for server in servers:
            self.live_migrate(server)

        for server in servers:
            self.assertEqual("completed", self.finish(server))
        mdevs = [self.guest_mdevs("destination", one) for one in servers]
        self.assertEqual(3, len({mdev for (mdev,) in mdevs}))

    def test_hard_reboot_afterwards(self):
        """The guest keeps its mdev in a hard reboot on its new host."""
        server = self.boot()
        self.run_migration(server)
        before = self.guest_mdevs("destination", server)

        self.hard_reboot(server)

        self.assertEqual(before, self.guest_mdevs("destination", server))


class TestSeveralParents(base.MdevComputesTestCase):
    parents = 3

    def setUp(self):
        super().setUp()
        if base.RELEASE < 33:
            self.skipTest("mdevs of several parents need Nova 33")

    def test_two_types(self):
        """Each mdev is paired with one of its type."""
        server = self.boot(self.parents_flavor(TYPE_A, TYPE_B))

        self.assertEqual("completed", self.run_migration(server))
        types = [
            self.target_host.mdevs[mdev].mdev_type
            for mdev in self.guest_mdevs("destination", server)
        ]
        self.assertEqual({TYPE_A, TYPE_B}, set(types))

    def test_two_parents_of_a_type(self):
        """A mdev on each of two parents arrives on two parents."""
        server = self.boot(self.parents_flavor(TYPE_A, TYPE_A))

        self.assertEqual("completed", self.run_migration(server))
        parents = {
            self.target_host.mdevs[mdev].parent_name
            for mdev in self.guest_mdevs("destination", server)
        }
        self.assertEqual({PARENTS[0], PARENTS[2]}, parents)
