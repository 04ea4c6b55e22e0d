# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with mdevs in stock Nova 29 and later, done right.

Every test here says what must be, so it fails on some stock release; the
releases are named where not all of 29 to 34 are meant.
"""

from __future__ import annotations

import threading
import unittest
from typing import Any

import fixtures
from nova import exception
from nova.compute import rpcapi
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.virt.libvirt import driver as libvirt_driver

from tests.nova import base
from tests.nova.fake_host import PARENTS, TYPE_A, TYPE_B


class TestRaces(base.MdevComputesTestCase):
    """Two that want a mdev at the same time get two."""

    def setUp(self) -> None:
        super().setUp()
        self.useFixture(
            fixtures.MonkeyPatch(
                "tests.nova.fake_host._NodeMdevs.get_all_devices",
                self._slow(base.fake_host._NodeMdevs.get_all_devices),
            )
        )

    @staticmethod
    def _slow(listing: Any) -> Any:
        def slow(mdevs: Any) -> Any:
            listed = listing(mdevs)
            base.time.sleep(0.05)
            return listed

        return slow

    def test_two_migrations(self):
        """Two guests that are checked at once get different mdevs."""
        self.target_host.create(PARENTS[0], TYPE_A)
        self.target_host.create(PARENTS[0], TYPE_A)
        flavor = self.mdev_flavor()
        servers = [self.boot(flavor), self.boot(flavor)]
        threads = [
            threading.Thread(target=self.live_migrate, args=(server,))
            for server in servers
        ]

        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        self.assertEqual(
            ["completed"] * 2, [self.finish(server) for server in servers]
        )
        targets = [
            mdev
            for migration in self.libvirt_migrations.calls
            for mdev in migration.target_mdevs
        ]
        self.assertEqual(2, len(set(targets)), targets)

    @unittest.skipIf(base.STOCK, "asks for the mixin's answer")
    def test_two_checks(self):
        """One guest that is checked twice at once is answered alike.

        Whichever answer is used, the other check has not removed it.
        """
        server = self.boot()
        answers: list[Any] = []
        check = rpcapi.ComputeAPI.check_can_live_migrate_destination

        def check_twice(*args: Any, **kwargs: Any) -> Any:
            def ask() -> None:
                answers.append(check(*args, **kwargs))

            threads = [threading.Thread(target=ask) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return answers[0]

        with fixtures.MonkeyPatch(
            "nova.compute.rpcapi.ComputeAPI"
            ".check_can_live_migrate_destination",
            check_twice,
        ):
            status = self.run_migration(server)

        self.assertEqual("completed", status)
        first, second = (answer.target_mdevs for answer in answers)
        self.assertEqual(first, second)
        self.assertEqual(list(first.values()), self.target_host.created)
        self.assertEqual(
            list(first.values()), self.guest_mdevs("destination", server)
        )

    def test_boot_and_migration(self):
        """A guest being booted keeps a migration off its mdev."""
        self.target_host.create(PARENTS[0], TYPE_A)
        flavor = self.mdev_flavor()
        server = self.boot(flavor)
        building, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)
        build = libvirt_driver.LibvirtDriver._get_guest_xml

        def wait_and_build(driver: Any, *args: Any, **kwargs: Any) -> Any:
            building.set()
            self.wait_for(go_on.is_set, "the other guest's check")
            return build(driver, *args, **kwargs)

        with fixtures.MonkeyPatch(
            "nova.virt.libvirt.driver.LibvirtDriver._get_guest_xml",
            wait_and_build,
        ):
            boot = threading.Thread(
                target=self.boot,
                args=(flavor, "destination"),
                kwargs={"name": "booted", "wait": False},
            )
            boot.start()
            self.wait_for(building.is_set, "the boot to choose its mdev")
            self.live_migrate(server)
            migrated = self.finish(server)
            go_on.set()
            boot.join()
        booted = self.api.get_servers(search_opts={"name": "booted"})[0]
        self._wait_for_state_change(booted, "ACTIVE")

        self.assertEqual("completed", migrated)
        mdevs = self.target_host.domain_mdevs()
        self.assertTrue(
            set(mdevs[server]).isdisjoint(mdevs[booted["id"]]), mdevs
        )


class TestLeakedClaims(base.MdevComputesTestCase):
    """A claim ends with its migration: the next guest can have the room."""

    destination_room = {TYPE_A: 1, TYPE_B: 1}  # noqa: RUF012

    def _fail_port_binding(self) -> Any:
        def refuse(task: Any, *args: Any) -> None:
            raise exception.MigrationPreCheckError(reason="no binding")

        return fixtures.MonkeyPatch(
            "nova.conductor.tasks.live_migrate.LiveMigrationTask"
            "._bind_ports_on_destination",
            refuse,
        )

    def test_port_binding_failed(self):
        """The claim goes when the ports cannot be bound afterwards."""
        flavor = self.mdev_flavor()
        first, second = self.boot(flavor), self.boot(flavor)
        with self._fail_port_binding():
            self.refused(first)

        self.assertEqual("completed", self.run_migration(second))

    def test_post_migration_failed(self):
        """The claim goes when the guest arrived and its network failed."""

        def fail(driver: Any, *args: Any) -> None:
            raise exception.NovaException("no interface")

        flavor = self.mdev_flavor()
        first, second = self.boot(flavor), self.boot(flavor)
        with fixtures.MonkeyPatch(
            "nova.virt.libvirt.driver.LibvirtDriver._reattach_instance_vifs",
            fail,
        ):
            self.run_migration(first)
        self._delete_server({"id": first})

        self.assertEqual("completed", self.run_migration(second))

    def test_hard_reboot_after_leak(self):
        """A hard reboot gives the guest its own mdevs and no claimed one."""
        self.hosts["destination"].room[PARENTS[0]][TYPE_A] = 2
        self.destination.manager.update_available_resource(self.context)
        server = self.boot()
        with self._fail_port_binding():
            self.refused(server)
        self.cold_migrate(server, "source", "destination")
        before = self.guest_mdevs("destination", server)

        self.hard_reboot(server)

        self.assertEqual(1, len(before))
        self.assertEqual(before, self.guest_mdevs("destination", server))


class TestQueuedAbort(base.MdevComputesTestCase):
    destination_room = {TYPE_A: 2, TYPE_B: 2}  # noqa: RUF012

    def test_abort_while_queued(self):
        """The claim goes when its migration is aborted in the queue."""
        flavor = self.mdev_flavor()
        running, queued, third = (self.boot(flavor) for _ in range(3))
        held = self.hold(running)
        self.live_migrate(running)
        self.wait_for(held.started.is_set, "libvirt to be called")
        self.live_migrate(queued)
        self.wait_for_status(queued, "queued")
        self.abort(queued)
        held.go_on.set()

        self.assertEqual("cancelled", self.finish(queued))
        self.assertEqual("completed", self.finish(running))
        self.assertEqual("completed", self.run_migration(third))


class TestRestart(base.MdevComputesTestCase):
    def test_destination_restarted_during_migration(self):
        """The target mdevs stay claimed when the destination restarts."""
        flavor = self.mdev_flavor()
        server = self.boot(flavor)
        held = self.hold(server)
        self.live_migrate(server)
        self.wait_for(held.started.is_set, "libvirt to be called")

        self.restart("destination")
        other = self.boot(flavor, host="destination")
        held.go_on.set()
        status = self.finish(server)

        self.assertEqual("completed", status)
        mdevs = self.target_host.domain_mdevs()
        self.assertTrue(set(mdevs[server]).isdisjoint(mdevs[other]), mdevs)


class TestCheckFailures(base.MdevComputesTestCase):
    """What fails in the check refuses the migration: the guest runs on."""

    def test_placement_unreachable(self):
        """Unknown allocations refuse (to 32: guest in ERROR)."""
        self.target_host.create(PARENTS[0], TYPE_A)
        server = self.boot()

        with self.placement_unreachable():
            self.refused(server)

        self.assert_state(server, "active", "source")
        self.assertEqual([], self.libvirt_migrations.calls)

    def test_mdev_creation_fails(self):
        """A mdev that cannot be created refuses."""
        server = self.boot()
        self.target_host.fail_create = OSError(28, "No space left on device")

        self.refused(server)

        self.assert_state(server, "active", "source")

    def test_second_mdev_creation_fails(self):
        """What was created before the failure is removed."""
        server = self.boot(self.mdev_flavor(mdevs=2))
        create = self.target_host.create

        def create_one(*args: Any, **kwargs: Any) -> str:
            if self.target_host.created:
                raise OSError(28, "No space left on device")
            return create(*args, **kwargs)

        self.target_host.create = create_one

        self.refused(server)

        self.assert_state(server, "active", "source")
        self.assertEqual({}, self.target_host.mdevs)

    def test_parent_of_another_type(self):
        """A parent of another type refuses, and nothing is created."""
        self.set_trait("destination", PARENTS[0])
        self.set_trait("destination", PARENTS[1], TYPE_A)
        server = self.boot()

        self.refused(server)

        self.assert_state(server, "active", "source")
        self.assertEqual([], self.target_host.created)

    def test_no_source_mdev_listed(self):
        """A guest whose mdev libvirt does not list is not migrated."""
        server = self.boot()
        for mdev in self.hosts["source"].mdevs.values():
            mdev.hidden_for = 1_000

        self.refused(server)

        self.assertEqual([], self.libvirt_migrations.calls)

    def test_one_source_mdev_listed(self):
        """A guest with one of two mdevs listed is not migrated."""
        server = self.boot(self.mdev_flavor(mdevs=2))
        next(iter(self.hosts["source"].mdevs.values())).hidden_for = 1_000

        self.refused(server)

        self.assertEqual([], self.libvirt_migrations.calls)

    def test_new_mdev_listed_late(self):
        """A mdev that libvirt lists a moment later is good enough."""
        self.target_host.hide_new_mdevs_for = 1
        server = self.boot()

        self.assertEqual("completed", self.run_migration(server))


class TestFailedMigration(base.MdevComputesTestCase):
    def test_guest_stays_active(self):
        """The guest stays active on the source (32.2 and later: ERROR)."""
        server = self.boot()
        before = self.guest_mdevs("source", server)
        self.fail_migration(server)

        self.assertEqual("failed", self.run_migration(server))
        self.assert_state(server, "active", "source")
        self.assertEqual(before, self.guest_mdevs("source", server))

    def test_created_mdev_is_removed(self):
        """A mdev created for the migration goes with it."""
        server = self.boot()
        self.fail_migration(server)

        self.run_migration(server)

        self.assertEqual({}, self.target_host.mdevs)

    def test_reused_mdev_is_recycled(self):
        """A mdev that had part of the state in it is not used as it is."""
        used = self.target_host.create(PARENTS[0], TYPE_A)
        server = self.boot()
        self.fail_migration(server)

        self.run_migration(server)

        self.assertIn(used, self.target_host.destroyed)

    def test_next_migration_succeeds(self):
        """After a failure the same guest can be migrated."""
        server = self.boot()
        self.fail_migration(server)
        self.run_migration(server)

        self.assertEqual("completed", self.run_migration(server))
        self.assert_state(server, "active", "destination")


class TestWays(base.MdevComputesTestCase):
    """What mdevs do not support is not asked of libvirt."""

    def _restart_with(self, **options: Any) -> None:
        self.flags(group="libvirt", **options)
        self.restart("source")

    def test_no_post_copy(self):
        """Post-copy is not asked for a guest with mdevs."""
        self._restart_with(live_migration_permit_post_copy=True)
        server = self.boot()

        self.run_migration(server)

        (migration,) = self.libvirt_migrations.calls
        self.assertFalse(migration.flags & fakelibvirt.VIR_MIGRATE_POSTCOPY)

    def test_no_auto_converge(self):
        """Auto-converge is not asked for a guest with mdevs."""
        self._restart_with(live_migration_permit_auto_converge=True)
        server = self.boot()

        self.run_migration(server)

        (migration,) = self.libvirt_migrations.calls
        self.assertFalse(
            migration.flags & fakelibvirt.VIR_MIGRATE_AUTO_CONVERGE
        )

    def test_no_pause_to_finish(self):
        """Force-complete does not pause a guest with mdevs."""
        server = self.boot()
        held = self.hold(server)
        self.live_migrate(server)
        self.wait_for_status(server, "running")
        number = self.migration(server).id

        self.api.force_complete_migration(server, number)
        base.time.sleep(1.5)
        held.go_on.set()
        self.finish(server)

        self.assertFalse(held.paused)

    def test_downtime(self):
        """A guest with mdevs may be down longer than others."""
        server = self.boot()
        held = self.hold(server)
        self.live_migrate(server)
        self.wait_for(lambda: held.downtimes, "a downtime to be set")
        held.go_on.set()
        self.finish(server)

        self.assertGreater(
            max(held.downtimes), base.CONF.libvirt.live_migration_downtime
        )
