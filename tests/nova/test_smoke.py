# SPDX-License-Identifier: Apache-2.0
"""Live migration of guests with mdevs, from the API to libvirt's call."""

from tests.nova import base


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
