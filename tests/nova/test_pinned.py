# SPDX-License-Identifier: Apache-2.0
"""Does a cloud whose compute RPC is pinned go on as it did?

A conductor then leaves out the migration's record, and the limits.
"""

from __future__ import annotations

from typing import Any

import fixtures
from nova.compute import rpcapi

from tests.nova import base

CALL = "nova.compute.rpcapi.ComputeAPI.check_can_live_migrate_destination"
unpinned = rpcapi.ComputeAPI.check_can_live_migrate_destination


def _pinned(
    api: Any,
    context: Any,
    instance: Any,
    destination: Any,
    block_migration: Any,
    disk_over_commit: Any,
    migration: Any,
    limits: Any,
) -> Any:
    """Ask as a conductor whose RPC is pinned below 5.3."""
    return unpinned(
        api,
        context,
        instance,
        destination,
        block_migration,
        disk_over_commit,
        None,
        None,
    )


class TestPinned(base.MdevComputesTestCase):
    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch(CALL, _pinned))

    def test_guest_without_mdevs(self):
        """It is migrated."""
        server = self.boot(self._create_flavor())

        self.assertEqual("completed", self.run_migration(server))
        self.assert_state(server, "active", "destination")

    def test_guest_without_mdevs_fails(self):
        """It is rolled back (32.2 and later: with an error, as in stock)."""
        server = self.boot(self._create_flavor())
        held = self.hold(server)
        self.live_migrate(server)
        self.wait_for(held.started.is_set, "libvirt to be called")

        self.abort(server)

        self.assertIn(self.finish(server), ("cancelled", "error"))
        self.assertEqual("source", self.instance(server).host)

    def test_guest_with_mdevs(self):
        """It is refused: nothing would end its claim. It says why."""
        server = self.boot()

        self.refused(server)

        self.assertIn("compute-rpc-pinned", self.stdlog.logger.output)
        self.assert_state(server, "active", "source")
        self.assertEqual({}, self.claimed())
        self.assertEqual([], self.target_host.created)
