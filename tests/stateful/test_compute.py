# SPDX-License-Identifier: Apache-2.0
"""Do the promises hold on a Nova destination, in whatever order things come?

Guests are checked, prepared and migrated, and the last word on each may be
lost; others are booted, rebooted, stopped and deleted; the destination's
service is restarted, and looks at its claims at any time.
"""

import contextlib
import os
import pathlib
import tempfile

import libvirt
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from mdev_migrate import model, testing
from mdev_migrate.compute import driver_host
from tests import builders, standin

#: Instances that begin on the source, and those that may be booted.
GUESTS, BOOTED = (1, 2, 3), (4, 5)
PARENTS = {
    1: standin.PARENT,
    2: standin.PARENT,
    3: standin.OTHER_PARENT,
}


class Destination(RuleBasedStateMachine):
    """Two computes; the destination has room for two mdevs of a parent."""

    def __init__(self):
        super().__init__()
        self.stack = contextlib.ExitStack()
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        kernel = pathlib.Path(folder) / "osrelease"
        kernel.write_text("6.12.0\n")
        patches = self.stack.enter_context(pytest.MonkeyPatch.context())
        patches.setattr(driver_host, "_KERNEL", kernel)
        #: Migration and migrate data of the guests that are checked.
        self.checked = {}
        self.prepared = set()
        self.migrations = 0

    @initialize(driver_class=st.sampled_from(standin.MIXED))
    def begin(self, driver_class):
        self.cloud = standin.Cloud(driver_class)
        self.cloud.source.virtapi.flags |= libvirt.VIR_MIGRATE_PERSIST_DEST
        self.restart()
        for number in GUESTS:
            uuid = builders.uuid(number)
            self.cloud.here.add_mdev(uuid, standin.TYPE, PARENTS[number])
            self.cloud.here.add_guest(
                f"vm-{number}",
                builders.instance(number),
                [uuid],
                persistent=False,
            )

    # What is known of a guest.

    def _domain(self, number, host=None):
        host = host or self.cloud.there
        for domain in host.open().listAllDomains():
            if domain.UUIDString() == builders.instance(number):
                return domain
        return None

    def _over(self, number):
        """Let a guest's migration be over, as far as its record tells."""
        migration, _ = self.checked.pop(number)
        self.prepared.discard(number)
        self.cloud.migrations[migration.uuid] = ("over", "host-b")

    # The migration of a guest.

    @rule(number=st.sampled_from(GUESTS), at_once=st.booleans())
    def check(self, number, at_once=False):
        if number in self.checked or not self._domain(number, self.cloud.here):
            return
        self.migrations += 1
        migration = self.cloud.migration(self.migrations)
        try:
            data = self.cloud.check(
                standin.instance(number), migration=migration
            )
        except standin.Refused:
            self.cloud.migrations[migration.uuid] = ("over", None)
            return
        data.migration = migration
        self.cloud.migrations[migration.uuid] = ("running", "host-b")
        self.checked[number] = migration, data
        if at_once:
            self._prepare(number)

    @precondition(lambda self: self.checked)
    @rule(choice=st.data())
    def prepare(self, choice):
        self._prepare(choice.draw(st.sampled_from(sorted(self.checked))))

    def _prepare(self, number):
        _, data = self.checked[number]
        try:
            self.cloud.prepare(standin.instance(number), data)
        except standin.Refused:
            self._over(number)
        else:
            self.prepared.add(number)

    @precondition(lambda self: self.prepared)
    @rule(choice=st.data(), fails=st.booleans(), told=st.booleans())
    def migrate(self, choice, fails, told):
        number = choice.draw(st.sampled_from(sorted(self.prepared)))
        which, (_, data) = standin.instance(number), self.checked[number]
        if fails:
            error = testing.libvirt_error(libvirt.VIR_ERR_RPC, "no")
            self.cloud.here.faults.on("migrateToURI3", testing.fail(error))
        self.cloud.migrate(which, data)
        arrived = self._domain(number) is not None
        assert arrived == (not fails)
        if told and arrived:
            self.cloud.arrive(which)
        elif told:
            self.cloud.roll_back(which, data)
        self._over(number)

    @precondition(lambda self: self.checked)
    @rule(choice=st.data(), told=st.booleans())
    def give_up(self, choice, told):
        number = choice.draw(st.sampled_from(sorted(self.checked)))
        _, data = self.checked[number]
        self._over(number)
        if told:
            self.cloud.roll_back(standin.instance(number), data)

    # The destination.

    @rule()
    def look(self):
        self.cloud.destination.get_available_resource("node")

    @rule()
    def restart(self):
        self.cloud.destination = self.cloud.start(self.cloud.there)
        self.cloud.destination.init_host("host-b")

    @rule(number=st.sampled_from(BOOTED))
    def boot(self, number):
        if self._domain(number):
            return
        with contextlib.suppress(standin.StockError):
            self.cloud.destination.spawn(
                None,
                standin.instance(number),
                None,
                None,
                None,
                standin.allocations(),
            )

    @rule(number=st.sampled_from(GUESTS + BOOTED), other=st.integers(1, 3))
    def reboot(self, number, other):
        """Reboot a guest, while the claims are looked at and another comes."""
        if not self._domain(number):
            return

        def meanwhile():
            self.look()
            if other != number:
                self.check(other)

        driver = self.cloud.destination
        driver.during_boot = meanwhile
        try:
            driver._hard_reboot(None, standin.instance(number))
        finally:
            driver.during_boot = lambda: None

    @rule(number=st.sampled_from(GUESTS + BOOTED), delete=st.booleans())
    def stop(self, number, delete):
        domain = self._domain(number)
        if domain and domain.isActive():
            domain.destroy()
            if delete and domain.isPersistent():
                domain.undefine()

    # The promises.

    def _assigned(self):
        """Return whose mdev each is, that a defined guest has."""
        driver = self.cloud.destination
        return standin.StockDriver._get_all_assigned_mediated_devices(driver)

    @rule()
    def remove_claims(self):
        """Somebody removes all claims by hand."""
        self.cloud.remove_claims()
        self.look()

    @invariant()
    def no_mdev_is_two_guests(self):
        if not hasattr(self, "cloud"):
            return
        self.cloud.here.group.check_invariants()
        claims = self.cloud.claims()
        assert claims.strange == ()
        claimed = [
            (mdev.uuid, claim.instance_uuid)
            for claim in claims.all
            for mdev in claim.mdevs
        ]
        assert len({uuid for uuid, _ in claimed}) == len(claimed)
        assigned = self._assigned()
        for uuid, holder in claimed:
            assert assigned.get(uuid, holder) == holder
        assert assigned.keys() <= self.cloud.there.mdevs().keys()

    def teardown(self):
        try:
            if hasattr(self, "cloud"):
                for number in list(self.checked):
                    self._over(number)
                self.look()
                assert self.cloud.claimed() == {}
                assert self.cloud.claims() == model.Claims()
                assert self.cloud.there.unusable_mdevs() == set()
                self.no_mdev_is_two_guests()
        finally:
            self.stack.close()


TestDestination = Destination.TestCase
TestDestination.settings = settings(
    stateful_step_count=30,
    max_examples=1500 if os.environ.get("MDEV_MIGRATE_SOAK") else 25,
    deadline=None,
)
