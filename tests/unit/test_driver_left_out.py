# SPDX-License-Identifier: Apache-2.0
"""Does trouble of ours, or what Nova leaves out, stop a guest without mdevs?

Stock Nova does without a migration's record while the compute RPC is pinned,
hands over other drivers' objects, and a UUID for an instance.
"""

from types import SimpleNamespace

import libvirt
import pytest

from mdev_migrate import testing
from tests import builders, standin
from tests.unit.test_driver import HOOKS, IDS, PAIRS, _drive

ONE = builders.uuid(1)
STEP = "check_source_migrate_data_at_dest"


class _Unset:
    """Another driver's migrate data: no object of ours, nothing to read."""

    def __contains__(self, name):
        raise TypeError(f"{name} is not in this kind of object")


class _Unreadable:
    """An instance whose flavor would have to be loaded, and cannot be."""

    uuid = builders.instance(2)

    @property
    def flavor(self):
        """Fail as a lazy load does."""
        raise standin.StockError("Cannot load 'flavor'")


DATA = {
    "none": None,
    "a dict": {},
    "anything": SimpleNamespace(),
    "of another driver": _Unset(),
    "nothing set": standin.MigrateData(),
}
INSTANCES = {
    "plain": standin.plain_instance(),
    "without a flavor": SimpleNamespace(uuid=builders.instance(2)),
    "flavor is something else": SimpleNamespace(
        uuid=builders.instance(2), flavor=SimpleNamespace(extra_specs=7)
    ),
    "flavor not to be loaded": _Unreadable(),
}


@pytest.fixture
def plain(cloud):
    """Return an instance without mdevs, on both hosts."""
    which = standin.plain_instance()
    cloud.here.add_guest("vm", which.uuid)
    return which


class TestHandedOver:
    """What Nova hands over is passed on as it is."""

    @pytest.mark.parametrize(("stock", "mixed"), PAIRS, ids=IDS)
    @pytest.mark.parametrize("data", DATA)
    @pytest.mark.parametrize("hook", HOOKS)
    def test_migrate_data(self, stock, mixed, hook, data, kernel):
        """There may be none, or another driver's."""
        given = DATA[data]
        which = standin.plain_instance()

        plain = _drive(stock, which, hook, HOOKS[hook], given)
        ours = _drive(mixed, which, hook, HOOKS[hook], given)

        assert ours[1] == plain[1]
        assert (ours[0] is given) == (plain[0] is given)

    @pytest.mark.parametrize(("stock", "mixed"), PAIRS, ids=IDS)
    @pytest.mark.parametrize("which", INSTANCES)
    @pytest.mark.parametrize("hook", HOOKS)
    def test_instance(self, stock, mixed, hook, which, kernel):
        """Its flavor may be missing, or refuse to be loaded."""
        data = standin.MigrateData(is_shared_instance_path=True)
        given = INSTANCES[which]

        plain = _drive(stock, given, hook, HOOKS[hook], data)
        ours = _drive(mixed, given, hook, HOOKS[hook], data)

        assert ours[1] == plain[1]

    @pytest.mark.parametrize(
        "hook",
        [
            "check_can_live_migrate_destination",
            "check_can_live_migrate_source",
            "pre_live_migration",
            "post_live_migration_at_destination",
            "rollback_live_migration_at_destination",
            "cleanup",
        ],
    )
    def test_instance_is_a_uuid(self, cloud, plain, hook):
        """Nova knows some instances by nothing else."""
        data = standin.MigrateData(is_shared_instance_path=True)
        given = [data if each == "DATA" else each for each in HOOKS[hook]]
        cloud.source.calls.clear()

        getattr(cloud.source, hook)(None, plain.uuid, *given)

        assert [name for name, _ in cloud.source.calls] == [hook]
        assert cloud.source.calls[0][1]["instance"] == plain.uuid

    @pytest.mark.parametrize(
        "hook", ["live_migration_force_complete", "cleanup_lingering"]
    )
    def test_only_a_uuid(self, cloud, plain, hook):
        """Nor do these need more."""
        names = {"cleanup_lingering": "cleanup_lingering_instance_resources"}
        cloud.source.calls.clear()

        getattr(cloud.source, names.get(hook, hook))(plain.uuid)

        assert len(cloud.source.calls) == 1

    @pytest.mark.parametrize("allocated", [None, {}, {"rp": None}])
    @pytest.mark.parametrize("data", DATA)
    def test_step_with_nothing(self, allocated, data, kernel):
        """No migration, no limits, no allocations: the RPC is pinned."""
        cloud = standin.Cloud(standin.NewerMixedDriver)
        given = {
            "ctxt": None,
            "instance": standin.plain_instance(),
            "migrate_data": DATA[data],
            "migration": None,
            "limits": None,
            "allocs": allocated,
        }
        cloud.destination.failing.add(STEP)
        cloud.destination.calls.clear()

        with pytest.raises(standin.StockError):
            cloud.destination.check_source_migrate_data_at_dest(**given)

        assert cloud.destination.calls == [(STEP, given)]

    def test_boot(self, cloud):
        """A boot's instance is named, or a UUID."""
        uuid = builders.instance(2)

        cloud.source.spawn(
            context=None,
            instance=SimpleNamespace(uuid=uuid),
            image_meta=None,
            injected_files=[],
            admin_password="",
            allocations=None,
        )

        assert cloud.source.calls[-1][1]["instance"].uuid == uuid


class TestTroubleOfOurs:
    """It is logged, and the guest goes on."""

    def test_guest_cannot_be_read(self, cloud, plain, caplog):
        """Whether it has mdevs is not known: its flavor says no."""
        error = testing.libvirt_error(libvirt.VIR_ERR_RPC, "hiccup")
        cloud.here.faults.on("lookupByUUIDString", testing.fail(error))
        data = standin.MigrateData()

        found = cloud.source.check_can_live_migrate_source(None, plain, data)

        assert found is data
        assert "Taken for a guest without mdevs" in caplog.text

    def test_guest_with_mdevs_cannot_be_read(self, cloud):
        """Its flavor asks for some: it does not leave unseen."""
        which = standin.instance()
        cloud.here.add_guest("vm", which.uuid)
        error = testing.libvirt_error(libvirt.VIR_ERR_RPC, "hiccup")
        cloud.here.faults.on("lookupByUUIDString", testing.fail(error))

        with pytest.raises(standin.Refused, match="no guest"):
            cloud.source.check_can_live_migrate_source(
                None, which, standin.MigrateData()
            )

    def test_its_own_accelerator_cannot_be_read(self, cloud):
        """One whose devices Cyborg makes may have mdevs too."""
        which = standin.instance(2, **{"accel:device_profile": "gpu"})
        cloud.here.stop_daemon()

        with pytest.raises(standin.Refused):
            cloud.source.check_can_live_migrate_source(
                None, which, standin.MigrateData()
            )


class TestPinned:
    """No migration is named for a guest with mdevs."""

    def test_refused(self, cloud):
        """A claim that nothing ends must not be made: it says why."""
        cloud.here.add_mdev(ONE, standin.TYPE, standin.PARENT)
        which = standin.instance()
        cloud.here.add_guest("vm", which.uuid, [ONE])
        data = cloud.destination.check_can_live_migrate_destination(
            None, which, None, None
        )
        data = cloud.source.check_can_live_migrate_source(None, which, data)

        with pytest.raises(standin.Refused) as caught:
            cloud.destination.check_source_migrate_data_at_dest(
                None, which, data, None, None, standin.allocations()
            )

        assert "compute-rpc-pinned" in str(caught.value)
        assert "[upgrade_levels]compute" in str(caught.value)
        assert cloud.claimed() == {}
        assert cloud.there.all_mdevs() == []

    def test_old_source(self, cloud):
        """It says nothing of the guest's mdevs, and is not known by name."""
        which = standin.instance()

        with pytest.raises(standin.Refused, match="peer-too-old"):
            cloud.destination.check_source_migrate_data_at_dest(
                None,
                which,
                standin.MigrateData(),
                None,
                None,
                standin.allocations(),
            )
