# SPDX-License-Identifier: Apache-2.0
"""Does Nova leave the domains alone that claim mdevs?

They are on the destination while a guest is on its way, and are no
instances: not to its periodic tasks, nor to a service that starts anew.
"""

from __future__ import annotations

import unittest
from collections.abc import Callable

from lxml import etree
from nova.virt.libvirt import driver as libvirt_driver

from mdev_migrate import model
from tests.nova import base, fake_host


@unittest.skipIf(base.STOCK, "stock Nova claims in memory")
class TestClaimDomains(base.MdevComputesTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.server = self.boot()

    def _leave(self) -> base.Migration:
        """Let the guest be on its way."""
        held = self.hold(self.server)
        self.live_migrate(self.server)
        self.wait_for(held.started.is_set, "libvirt to be called")
        self.assertEqual(
            sorted(held.target_mdevs), self.target_host.claim_domains()
        )
        return held

    def _arrive(self, held: base.Migration) -> None:
        held.go_on.set()
        self.assertEqual("completed", self.finish(self.server))
        self.assertEqual([], self.target_host.claim_domains())
        self.assertEqual({}, self.claimed())

    def test_periodic_tasks(self) -> None:
        """Nothing is counted, and nothing is logged."""
        held = self._leave()
        manager = self.destination.manager
        driver = self.destination.driver
        before = len(self.stdlog.logger.output)

        manager._sync_power_states(self.context)
        manager.update_available_resource(self.context)
        manager._cleanup_running_deleted_instances(self.context)

        logged = self.stdlog.logger.output[before:]
        self.assertNotIn("mdev-claim", logged)
        self.assertNotIn("While synchronizing instance power", logged)
        self.assertEqual([], driver.list_instances())
        self.assertEqual([], driver.list_instance_uuids())
        self.assertEqual(0, driver.get_num_instances())
        self._arrive(held)

    def test_restart(self) -> None:
        """A service that starts anew knows its claims, and takes no guest."""
        held = self._leave()
        before = self.claimed()

        self.restart("destination")

        self.assertEqual(before, self.claimed())
        self._arrive(held)

    def _remove_claims(self) -> None:
        """Do what somebody does who takes claims for leftovers."""
        domains = self.target_host.connection._vms
        for name in [n for n in domains if n.startswith("mdev-claim-")]:
            del domains[name]

    def _damage_claims(self) -> None:
        """Let nobody be able to read whose claims they are."""
        for name, domain in self.target_host.connection._vms.items():
            if name.startswith("mdev-claim-"):
                document = etree.fromstring(domain.XMLDesc(0))
                for metadata in document.findall("metadata"):
                    document.remove(metadata)
                domain._document = etree.tostring(document, encoding="unicode")
        self.assertEqual((), self._claims())

    def _claims(self) -> tuple[model.Claim, ...]:
        """Return the claims that libvirt has on the destination."""
        host = self.destination.driver.mdev_compute.host
        return tuple(host.claims.read().all)

    def _assert_written_again(self, spoil: Callable[[], None]) -> None:
        held = self._leave()
        before = self._claims()
        spoil()

        self.destination.manager.update_available_resource(self.context)

        self.assertEqual(before, self._claims())
        self._arrive(held)

    def test_removed_by_hand(self) -> None:
        """What is still needed is written again."""
        self._assert_written_again(self._remove_claims)

    def test_damaged(self) -> None:
        """So is what cannot be read any more."""
        self._assert_written_again(self._damage_claims)

    def _assert_boot_gets_another(self, spoil: Callable[[], None]) -> None:
        held = self._leave()
        spoil()

        booted = self.boot(host="destination")

        own = self.guest_mdevs("destination", booted)
        self.assertEqual(1, len(own))
        self.assertTrue(set(own).isdisjoint(held.target_mdevs))
        self._arrive(held)

    def test_boot_after_it_was_removed(self) -> None:
        """A boot is not given what a running migration holds."""
        self._assert_boot_gets_another(self._remove_claims)

    def test_boot_after_it_was_damaged(self) -> None:
        """Nor if it cannot be read what that is."""
        self._assert_boot_gets_another(self._damage_claims)

    def _assert_undone(self, spoil: Callable[[], None]) -> None:
        held = self._leave()
        held.error = fake_host.libvirt_error("load of migration failed")
        spoil()

        held.go_on.set()

        self.assertEqual("failed", self.finish(self.server))
        self.assertEqual(held.target_mdevs, self.target_host.destroyed)
        self.assertEqual({}, self.target_host.mdevs)
        self.assertEqual([], self.target_host.claim_domains())
        self.assertEqual({}, self.claimed())

    def test_fails_after_it_was_removed(self) -> None:
        """What was created for it is removed by who created it."""
        self._assert_undone(self._remove_claims)

    def test_fails_after_it_was_damaged(self) -> None:
        """And nothing is left of the claim."""
        self._assert_undone(self._damage_claims)

    def test_new_service(self) -> None:
        """It may start on a host that has nothing but claims."""
        held = self._leave()
        manager = self.destination.manager
        check = getattr(manager, "_sanity_check_new_host", None)

        if check is not None:
            check()

        self.assertEqual([], self.destination.driver.list_instance_uuids())
        self._arrive(held)

    def test_failed(self) -> None:
        """Nothing is left of a migration that failed."""
        self.fail_migration(self.server)

        self.assertEqual("failed", self.run_migration(self.server))
        self.assertEqual([], self.target_host.claim_domains())


@unittest.skipIf(base.STOCK, "stock Nova claims in memory")
class TestMixinTakenAway(base.MdevComputesTestCase):
    def test_stock_keeps_off(self) -> None:
        """Stock code does not give away what is still claimed."""
        server = self.boot()
        held = self.hold(server)
        self.live_migrate(server)
        self.wait_for(held.started.is_set, "libvirt to be called")
        driver = self.destination.driver
        del driver._host.list_instance_domains
        driver.mdev_compute.promises.view.clear()

        stock = libvirt_driver.LibvirtDriver
        found = stock._get_all_assigned_mediated_devices(driver)

        self.assertEqual(set(held.target_mdevs), set(found))
        held.go_on.set()
        self.assertEqual("completed", self.finish(server))
