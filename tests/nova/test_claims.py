# SPDX-License-Identifier: Apache-2.0
"""Does a claim end if those who should end it are gone?

On stock Nova 29 and 34 they do not: claims stay until nova-compute is
restarted, and what was created stays for good.
"""

from __future__ import annotations

import threading
from typing import Any

import fixtures
from nova import exception
from nova.virt.libvirt import driver as libvirt_driver

from tests.nova import base

MANAGER = "nova.compute.manager.ComputeManager."


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Stand for what a process does that is dead by then."""


class TestSourceKilled(base.MdevComputesTestCase):
    """The source's service dies at some step, and is started again."""

    def _leave(self, status: str, name: str, replacement: Any) -> str:
        """Begin a migration that comes to a step and no further."""
        server = self.boot()
        with fixtures.MonkeyPatch(name, replacement):
            self.live_migrate(server)
            self.wait_for_status(server, status)
        self.assertEqual([server], list(self.claimed()))
        self.addCleanup(self._tidy_up, self.migration(server))
        return server

    @staticmethod
    def _tidy_up(migration: Any) -> None:
        """Do what an operator does with a record that stays as it is."""
        migration.status = "error"
        migration.save()

    def _start_source(self, server: str) -> None:
        """Do what the source does with an instance when it starts."""
        self.source.manager._init_instance(self.context, self.instance(server))

    def _assert_ends(self) -> None:
        """Let the periodic task run: all that was made is undone."""
        self.destination.manager.update_available_resource(self.context)

        self.assertEqual({}, self.claimed())
        self.assertEqual({}, self.target_host.mdevs)

    def test_call_lost(self):
        """The source was never told to migrate."""
        server = self._leave("accepted", MANAGER + "live_migration", _nothing)
        self._start_source(server)

        self._assert_ends()

    def test_queued(self):
        """It died before it was the migration's turn."""
        server = self._leave(
            "queued", MANAGER + "_do_live_migration", _nothing
        )
        self._start_source(server)

        self._assert_ends()

    def test_preparing(self):
        """It died while the destination prepared itself."""
        server = self._leave(
            "queued", MANAGER + "_do_live_migration", _nothing
        )
        migration = self.migration(server)
        migration.status = "preparing"
        migration.save()
        self._start_source(server)

        self._assert_ends()

    def test_running(self):
        """It died while it migrated the guest."""
        server = self._leave(
            "running",
            "nova.virt.libvirt.driver.LibvirtDriver.live_migration",
            _nothing,
        )
        self._start_source(server)

        self._assert_ends()

    def test_gone_for_good(self):
        """It does not come back: the instance was evacuated."""
        server = self._leave(
            "running",
            "nova.virt.libvirt.driver.LibvirtDriver.live_migration",
            _nothing,
        )
        instance = self.instance(server)
        instance.host, instance.task_state = "another", None
        instance.save()

        self._assert_ends()

    def test_instance_deleted(self):
        """The instance is deleted while the source is down."""
        server = self._leave(
            "running",
            "nova.virt.libvirt.driver.LibvirtDriver.live_migration",
            _nothing,
        )
        self.instance(server).destroy()

        self._assert_ends()

    def test_still_under_way(self):
        """The claim of a source that is only slow is left alone."""
        server = self._leave(
            "queued", MANAGER + "_do_live_migration", _nothing
        )

        self.destination.manager.update_available_resource(self.context)

        self.assertEqual([server], list(self.claimed()))

    def test_rollback_lost(self):
        """The destination is not told that the migration failed."""
        server = self.boot()
        self.fail_migration(server)
        with fixtures.MonkeyPatch(
            "nova.compute.rpcapi.ComputeAPI"
            ".rollback_live_migration_at_destination",
            _nothing,
        ):
            self.run_migration(server)

        self._assert_ends()


class TestLibvirtDown(base.MdevComputesTestCase):
    def test_destination(self):
        """A destination whose libvirt is down refuses: the guest stays."""
        server = self.boot()

        def unavailable() -> None:
            raise exception.HypervisorUnavailable

        host = self.destination.driver._host
        connect, host.get_connection = host.get_connection, unavailable
        try:
            self.refused(server)
        finally:
            host.get_connection = connect

        self.assert_state(server, "active", "source")


class TestHardReboot(base.MdevComputesTestCase):
    def test_migration_meanwhile(self):
        """A guest that is rebooted keeps its mdev from a migration."""
        flavor = self.mdev_flavor()
        rebooted = self.boot(flavor, "destination")
        migrated = self.boot(flavor)
        before = self.guest_mdevs("destination", rebooted)
        rebuilding, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)
        build = libvirt_driver.LibvirtDriver._get_guest_xml

        def wait_and_build(driver: Any, *args: Any, **kwargs: Any) -> Any:
            rebuilding.set()
            self.wait_for(go_on.is_set, "the other guest's migration")
            return build(driver, *args, **kwargs)

        with fixtures.MonkeyPatch(
            "nova.virt.libvirt.driver.LibvirtDriver._get_guest_xml",
            wait_and_build,
        ):
            reboot = threading.Thread(
                target=self.hard_reboot, args=(rebooted,)
            )
            reboot.start()
            self.wait_for(rebuilding.is_set, "the guest to be destroyed")
            self.live_migrate(migrated)
            status = self.finish(migrated)
            go_on.set()
            reboot.join()

        self.assertEqual("completed", status)
        self.assertEqual(before, self.guest_mdevs("destination", rebooted))
        self.assertNotEqual(before, self.guest_mdevs("destination", migrated))


class TestCreation(base.MdevComputesTestCase):
    def test_answer_lost(self):
        """A mdev that was created, though libvirt erred, is removed."""
        server = self.boot()
        create = self.target_host.create

        def lose_answer(*args: Any, **kwargs: Any) -> str:
            create(*args, **kwargs)
            raise base.fake_host.libvirt_error("connection reset")

        self.target_host.create = lose_answer

        self.refused(server)

        self.assertEqual(1, len(self.target_host.created))
        self.assertEqual({}, self.target_host.mdevs)
