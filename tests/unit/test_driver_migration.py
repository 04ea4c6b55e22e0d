# SPDX-License-Identifier: Apache-2.0
"""Does a guest with mdevs reach its targets, and is a failure undone?"""

import logging

import libvirt
import pytest

from mdev_migrate import testing
from tests import builders, standin

ONE, TWO = builders.uuid(1), builders.uuid(2)
SPARE = builders.uuid(0xB0)


def _leaving(cloud, *mdevs, **extra_specs):
    """Give the source an instance with mdevs: of which type, by UUID."""
    which = standin.instance(2, **extra_specs)
    for number, uuid in enumerate(mdevs):
        cloud.here.add_mdev(
            uuid, standin.TYPE, [standin.PARENT, standin.OTHER_PARENT][number]
        )
    cloud.here.add_guest("vm", which.uuid, mdevs, persistent=False)
    return which


def _checked(cloud, **facts):
    which = _leaving(cloud, ONE)
    return which, cloud.check(which, **facts)


class TestSuccess:
    """From the first check to the guest's arrival."""

    def test_one_mdev(self, cloud):
        """The guest runs there on its target; nothing is claimed any more."""
        which, data = _checked(cloud)

        data = cloud.prepare(which, data)
        cloud.migrate(which, data)
        cloud.arrive(which)

        assert list(cloud.there.used_mdevs()) == [data.target_mdevs[ONE]]
        assert cloud.claimed() == {}
        cloud.here.group.check_invariants()

    def test_several_providers(self, cloud):
        """Each provider that Placement allocated gives its share."""
        which = _leaving(cloud, ONE, TWO)
        allocated = standin.allocations(standin.PARENT)
        allocated |= standin.allocations(standin.OTHER_PARENT)

        data = cloud.check(which, allocated)
        cloud.migrate(which, cloud.prepare(which, data))

        parents = [mdev.parent for mdev in cloud.there.mdevs().values()]
        assert sorted(parents) == [standin.PARENT, standin.OTHER_PARENT]
        assert set(cloud.there.used_mdevs()) == set(data.target_mdevs.values())

    def test_two_of_one_provider(self, cloud):
        """Each source mdev has a target of its own."""
        which = _leaving(cloud, ONE, TWO)

        data = cloud.check(which, standin.allocations(count=2))

        assert len(set(data.target_mdevs.values())) == 2
        assert set(cloud.there.mdevs()) == set(data.target_mdevs.values())

    def test_two_types(self, cloud):
        """Each source mdev gets a target of its type, in whatever order."""
        types = {
            standin.PARENT: standin.OTHER_TYPE,
            standin.OTHER_PARENT: standin.TYPE,
        }
        cloud.destination.types = types
        which = standin.instance()
        cloud.here.add_mdev(ONE, standin.TYPE, standin.PARENT)
        cloud.here.add_mdev(TWO, standin.OTHER_TYPE, standin.OTHER_PARENT)
        cloud.here.add_guest("vm", which.uuid, [ONE, TWO], persistent=False)
        allocated = standin.allocations(standin.PARENT)
        allocated |= standin.allocations(standin.OTHER_PARENT)

        targets = cloud.check(which, allocated).target_mdevs

        made = cloud.there.mdevs()
        assert made[targets[ONE]].mdev_type == standin.TYPE
        assert made[targets[TWO]].mdev_type == standin.OTHER_TYPE

    def test_available_mdev_is_reused(self, cloud):
        """Nova's own choice comes first: what there is."""
        cloud.there.add_mdev(SPARE, standin.TYPE, standin.PARENT)

        _, data = _checked(cloud)

        assert data.target_mdevs == {ONE: SPARE}

    def test_class_of_ones_own(self, cloud):
        """Resource classes other than VGPU count, if the host has them."""
        which = _leaving(cloud, ONE, **{"resources1:CUSTOM_NIC": "1"})

        data = cloud.check(which, standin.allocations(name="CUSTOM_NIC"))

        assert data.dst_supports_mdev_live_migration
        assert list(data.target_mdevs) == [ONE]

    def test_two_guests_at_once(self, cloud):
        """They never get the same mdev."""
        cloud.there.add_mdev(SPARE, standin.TYPE, standin.PARENT)
        types = {ONE: standin.TYPE}

        first = cloud.check(standin.instance(3), types=types)
        second = cloud.check(
            standin.instance(4), types=types, migration=cloud.migration(2)
        )

        assert first.target_mdevs[ONE] != second.target_mdevs[ONE]

    def test_checked_again(self, cloud):
        """An answer that was lost is forgotten, and what it made undone."""
        which, first = _checked(cloud)
        cloud.over(1)

        second = cloud.check(which, migration=cloud.migration(2))

        targets = list(second.target_mdevs.values())
        assert cloud.claimed() == {which.uuid: targets}
        assert list(cloud.there.mdevs()) == targets
        assert targets != list(first.target_mdevs.values())

    def test_new_mdev_is_listed_late(self, cloud):
        """The type is known from the parent, and the guest waits for it."""
        cloud.there.udev_lag = 3

        which, data = _checked(cloud)
        cloud.prepare(which, data)

        assert list(data.target_mdevs.values()) == list(cloud.there.mdevs())

    def test_downtime(self, cloud):
        """Nova's steps are scaled for the guest with mdevs."""
        which, data = _checked(cloud)
        guest = cloud.source._host.get_guest(which)

        cloud.source._live_migration_monitor(
            None, which, guest, "", 0, 0, 0, data, 0, []
        )

        assert guest.calls == [("downtime", {"mstime": 1000}), ("abort", {})]

    def test_factor_unless_told(self):
        """A class that brings no option leaves Nova's steps as they are."""
        assert (
            standin.MdevLiveMigrationMixin._mdev_downtime_factor(None) == 1.0
        )


class TestOnTheWay:
    """What happens to the guest while it is migrated."""

    def test_error_is_not_raised(self, cloud, caplog):
        """The monitor finds the guest on the source; the reason is logged."""
        which, data = _checked(cloud)
        cloud.prepare(which, data)
        error = testing.libvirt_error(libvirt.VIR_ERR_OPERATION_FAILED, "Full")
        cloud.here.faults.on("migrateToURI3", testing.fail(error))

        cloud.migrate(which, data)

        assert "Full" in caplog.text
        assert which.uuid in cloud.here.running_guests()

    def test_no_targets(self, cloud, caplog):
        """An older peer dropped them: the guest is not even sent."""
        which, data = _checked(cloud)
        delattr(data, "_obj_target_mdevs")

        cloud.migrate(which, data)

        assert "failed: migrate data, target_mdevs: missing" in caplog.text
        assert "migrateToURI3" not in [name for _, name in cloud.here.calls]

    def test_flags(self, cloud, caplog):
        """Post-copy, auto-converge and a tunnel are masked, and it is said."""
        caplog.set_level(logging.INFO)
        which, data = _checked(cloud)
        cloud.source.virtapi.flags |= (
            libvirt.VIR_MIGRATE_POSTCOPY
            | libvirt.VIR_MIGRATE_AUTO_CONVERGE
            | libvirt.VIR_MIGRATE_TUNNELLED
            | libvirt.VIR_MIGRATE_TLS
        )

        guest = cloud.migrate(which, data)

        ((_, given),) = guest.calls
        assert given["flags"] == (
            libvirt.VIR_MIGRATE_PEER2PEER | libvirt.VIR_MIGRATE_TLS
        )
        assert "post-copy, auto-converge, tunnelled" in caplog.text


class TestRollback:
    """The guest stays where it was."""

    def test_created_mdev_is_removed(self, cloud):
        """Nothing of ours is left, neither mdev nor definition nor claim."""
        which, data = _checked(cloud)
        cloud.prepare(which, data)

        cloud.roll_back(which, data)

        assert cloud.there.all_mdevs() == []
        assert cloud.claimed() == {}

    def test_before_it_was_prepared(self, cloud):
        """So it is when the destination never was asked to prepare."""
        which, data = _checked(cloud)

        cloud.roll_back(which, data)

        assert (cloud.there.all_mdevs(), cloud.claimed()) == ([], {})

    def test_reused_mdev_is_recycled(self, cloud):
        """A half-loaded device is destroyed, and claimless."""
        cloud.there.add_mdev(SPARE, standin.TYPE, standin.PARENT)
        which, data = _checked(cloud)
        cloud.prepare(which, data)
        with cloud.here.group.hold("load") as gate:
            thread = standin.in_thread(lambda: cloud.migrate(which, data))
            gate.wait_reached()
            cloud.here.open().lookupByUUIDString(which.uuid).abortJob()
        thread.join()

        spoiled = cloud.there.unusable_mdevs()
        cloud.roll_back(which, data)

        assert spoiled == {SPARE}
        assert cloud.there.unusable_mdevs() == set()
        assert cloud.there.mdevs() == {}
        assert cloud.claimed() == {}

    def test_reused_mdev_untouched(self, cloud):
        """One that nothing came into is left as it is."""
        cloud.there.add_mdev(SPARE, standin.TYPE, standin.PARENT)
        which, data = _checked(cloud)
        cloud.there.faults.forget_calls()

        cloud.roll_back(which, data)

        assert list(cloud.there.mdevs()) == [SPARE]
        assert "destroy" not in [name for _, name in cloud.there.calls]

    def test_busy_mdev(self, cloud, caplog):
        """It is kept out of use, and said, until it can be removed."""
        which, data = _checked(cloud)
        target = data.target_mdevs[ONE]

        with standin.busy(cloud):
            cloud.roll_back(which, data)
            kept = cloud.claimed()

        assert kept == {which.uuid: [target]}
        assert "kept out of use" in caplog.text

    def test_busy_mdev_and_another_try(self, cloud):
        """The next migration of the guest does not let it into use either."""
        which, data = _checked(cloud)
        target = data.target_mdevs[ONE]

        with standin.busy(cloud):
            cloud.roll_back(which, data)
            cloud.over()
            with pytest.raises(standin.Refused, match="claim-held"):
                cloud.check(which, migration=cloud.migration(2))

        assert cloud.claimed() == {which.uuid: [target]}

    def test_stock_rollback_raises(self, cloud):
        """The claim is ended all the same."""
        which, data = _checked(cloud)
        cloud.destination.failing.add("rollback_live_migration_at_destination")

        with pytest.raises(standin.StockError):
            cloud.roll_back(which, data)

        assert (cloud.there.all_mdevs(), cloud.claimed()) == ([], {})

    def test_arrival_raises(self, cloud):
        """The guest has its mdevs: the claim ends, and they stay."""
        which, data = _checked(cloud)
        cloud.migrate(which, cloud.prepare(which, data))
        cloud.destination.failing.add("post_live_migration_at_destination")

        with pytest.raises(standin.StockError):
            cloud.arrive(which)

        assert cloud.claimed() == {}
        assert list(cloud.there.used_mdevs()) == [data.target_mdevs[ONE]]

    def test_twice(self, cloud):
        """The second finds nothing to do."""
        which, data = _checked(cloud)

        cloud.roll_back(which, data)
        cloud.roll_back(which, data)

        assert (cloud.there.all_mdevs(), cloud.claimed()) == ([], {})

    def test_only_a_uuid(self, cloud):
        """Some callers have no more of the instance."""
        which, data = _checked(cloud)

        cloud.roll_back(which.uuid, data)

        assert cloud.claimed() == {}

    def test_deleted_instance(self, cloud):
        """What lingers of an instance that was deleted is undone."""
        which, _ = _checked(cloud)

        cloud.destination.cleanup_lingering_instance_resources(which)

        assert (cloud.there.all_mdevs(), cloud.claimed()) == ([], {})


class TestSharedDirectory:
    """The directory of a guest that runs elsewhere is not deleted."""

    def _cleaned(self, cloud, *, shared):
        data = standin.MigrateData(
            is_shared_instance_path=shared,
            source_mdev_types={ONE: standin.TYPE},
            target_mdevs={ONE: TWO},
        )
        cloud.source.cleanup(None, standin.instance(), None, None, True, data)
        return cloud.source.cleaned

    def test_shared(self, cloud):
        """Neither directory nor disks go, whatever stock Nova asks for."""
        assert self._cleaned(cloud, shared=True) == [(False, False)]

    def test_not_shared(self, cloud):
        """What is only here is cleaned up."""
        assert self._cleaned(cloud, shared=False) == [(True, True)]

    def test_guard_ends(self, cloud):
        """The next clean-up, of another guest, deletes what it is to."""
        self._cleaned(cloud, shared=True)

        cloud.source.cleanup(None, standin.plain_instance(), None)

        assert cloud.source.cleaned[-1] == (True, True)

    def test_guard_ends_after_an_error(self, cloud):
        """So it does if the guarded one failed."""
        cloud.source.failing.add("cleanup")
        with pytest.raises(standin.StockError):
            self._cleaned(cloud, shared=True)
        cloud.source.failing.clear()

        cloud.source.cleanup(None, standin.plain_instance(), None)

        assert cloud.source.cleaned == [(True, True)]

    def test_guard_is_for_the_thread(self, cloud):
        """Another thread that cleans up meanwhile is not held back."""
        driver = cloud.source
        data = standin.MigrateData(
            is_shared_instance_path=True,
            source_mdev_types={ONE: standin.TYPE},
        )

        with driver._mdev_sparing_directory(data):
            standin.in_thread(
                lambda: driver.cleanup(None, standin.plain_instance(), None)
            ).join()

        assert driver.cleaned == [(True, True)]
