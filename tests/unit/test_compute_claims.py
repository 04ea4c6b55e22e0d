# SPDX-License-Identifier: Apache-2.0
"""Does every claim end, whatever way its migration went?"""

import dataclasses
import time

import libvirt
import pytest

from mdev_migrate import exception, testing
from mdev_migrate.ledger import FileStore
from tests import builders, standin

ONE = builders.uuid(1)
TYPES = {ONE: standin.TYPE}
SPARE = builders.uuid(0xB0)


@pytest.fixture
def which(cloud):
    """Return an instance whose target mdev is claimed."""
    which = standin.instance()
    cloud.data = cloud.check(which, types=TYPES)
    return which


def _ends(cloud):
    """Let the periodic task of the destination run."""
    return cloud.destination.get_available_resource("node")


def _count_reads(cloud):
    """Return a list that grows whenever the ledger is opened."""
    reads = []
    store = cloud.stores["host-b"]
    edit = store.edit

    def counted():
        reads.append(1)
        return edit()

    store.edit = counted
    return reads


def _over(cloud, status="over", destination=None):
    cloud.migrations[cloud.migration().uuid] = (status, destination)


class TestEnded:
    """Nobody calls the destination: it asks for itself."""

    def test_over(self, cloud, which):
        """An abort in the queue, a restart of the source: all is undone."""
        _over(cloud)

        _ends(cloud)

        assert (cloud.there.all_mdevs(), cloud.claimed()) == ([], {})

    def test_went_elsewhere(self, cloud, which):
        """Ports could not be bound here, and another host was chosen."""
        _over(cloud, "running", "host-c")

        _ends(cloud)

        assert (cloud.there.all_mdevs(), cloud.claimed()) == ([], {})

    @pytest.mark.parametrize("destination", [None, "host-b"])
    def test_under_way(self, cloud, which, destination):
        """The claim of a migration that comes here is left alone."""
        _over(cloud, "running", destination)
        before = cloud.claimed()

        _ends(cloud)

        assert cloud.claimed() == before != {}
        assert len(cloud.there.mdevs()) == 1

    def test_guest_arrived(self, cloud, which):
        """Its last step was lost: the claim ends, the guest keeps its mdev."""
        target = cloud.data.target_mdevs[ONE]
        cloud.there.add_guest("vm", which.uuid, [target])
        _over(cloud)

        _ends(cloud)

        assert cloud.claimed() == {}
        assert list(cloud.there.used_mdevs()) == [target]

    def test_conductor_silent(self, cloud, which, caplog):
        """Not known is not over; it is asked again later."""
        before = cloud.claimed()
        cloud.conductor_down = True

        assert _ends(cloud) == {"name": "node"}

        assert cloud.claimed() == before
        assert "A claim may have ended" in caplog.text

    def test_claim_of_the_command(self, cloud, which):
        """One that belongs to no migration of Nova's is not Nova's to end."""
        claim = cloud.destination.mdev_compute.service.claims.get(which.uuid)
        with cloud.stores["host-b"].edit() as claims:
            claims[which.uuid] = dataclasses.replace(
                claim, note=dataclasses.replace(claim.note, migration="")
            )
        _over(cloud)

        _ends(cloud)

        assert which.uuid in cloud.claimed()

    def test_claim_of_the_command_outlives_an_arrival(self, cloud, which):
        """Nor does Nova's guest that arrives end it."""
        table = cloud.destination.mdev_compute.service.claims
        claim = table.get(which.uuid)
        with cloud.stores["host-b"].edit() as claims:
            claims[which.uuid] = dataclasses.replace(
                claim, note=dataclasses.replace(claim.note, migration="")
            )

        cloud.arrive(which)

        assert table.get(which.uuid).plan == claim.plan

    def test_read_once(self, cloud):
        """A period without claims reads the ledger once."""
        reads = _count_reads(cloud)

        _ends(cloud)

        assert len(reads) == 1

    def test_not_read_for_a_boot_without_mdevs(self, cloud):
        """Nor is Nova's lock held for it."""
        reads = _count_reads(cloud)
        nothing = {standin.ROOT: {"resources": {"VCPU": 1}}}
        for allocated in (nothing, {}, None):
            cloud.destination.spawn(
                None,
                standin.plain_instance(5),
                None,
                None,
                None,
                allocated,
            )
            cloud.there.open().lookupByUUIDString(
                builders.instance(5)
            ).destroy()
            cloud.there.open().lookupByUUIDString(
                builders.instance(5)
            ).undefine()

        assert reads == []

    def test_when_it_was_made(self, cloud, which):
        """People are told how old a claim is."""
        claim = cloud.destination.mdev_compute.service.claims.get(which.uuid)

        assert 0 <= time.time() - claim.note.since < 60

    def test_next_check_makes_room(self, cloud, which):
        """Leftovers do not refuse the next guest on a full parent."""
        cloud.check(
            standin.instance(3), types=TYPES, migration=cloud.migration(2)
        )
        _over(cloud)

        cloud.check(
            standin.instance(4), types=TYPES, migration=cloud.migration(3)
        )

        assert set(cloud.claimed()) == {
            builders.instance(3),
            builders.instance(4),
        }

    def test_trouble_does_not_stop_the_service(self, cloud, which, caplog):
        """libvirt fails while undoing: the host's resources are told."""
        _over(cloud)
        error = testing.libvirt_error(libvirt.VIR_ERR_RPC, "hiccup")
        cloud.there.faults.on("listAllDevices", testing.fail(error))

        assert _ends(cloud) == {"name": "node"}

        assert "hiccup" in caplog.text
        assert which.uuid in cloud.claimed()

    def test_ledger_unusable(self, kernel, caplog):
        """Guests without mdevs need no ledger, nor does their host."""

        class Unusable:
            def edit(self):
                raise exception.LedgerUnusable("/nowhere", "read-only")

        cloud = standin.Cloud(standin.MixedDriver, **{"host-b": Unusable()})

        assert _ends(cloud) == {"name": "node"}
        assert "read-only" in caplog.text


class TestRestart:
    """The compute service of the destination starts anew."""

    @pytest.fixture
    def kept(self, cloud, tmp_path):
        """Return the computes, with claims in files."""
        facts = cloud.destination.mdev_compute.host.facts()
        cloud.stores["host-b"] = FileStore(tmp_path, facts)
        cloud.destination = cloud.start(cloud.there)
        cloud.data = cloud.check(standin.instance(), types=TYPES)
        return cloud

    def _restart(self, cloud, tmp_path):
        facts = cloud.destination.mdev_compute.host.facts()
        cloud.stores["host-b"] = FileStore(tmp_path, facts)
        cloud.destination = cloud.start(cloud.there)
        cloud.destination.init_host("host-b")

    def test_claim_lives_on(self, kept, tmp_path):
        """The mdevs of a migration under way are given to nobody else."""
        before = kept.claimed()

        self._restart(kept, tmp_path)

        assert kept.claimed() == before != {}
        mdevs = kept.destination.spawn(
            None, standin.instance(3), None, None, None, standin.allocations()
        )
        assert mdevs != list(kept.data.target_mdevs.values())

    def test_migration_goes_on(self, kept, tmp_path):
        """It can be prepared, and rolled back."""
        self._restart(kept, tmp_path)

        kept.prepare(standin.instance(), kept.data)
        kept.roll_back(standin.instance(), kept.data)

        assert (kept.there.all_mdevs(), kept.claimed()) == ([], {})

    def test_ended_meanwhile(self, kept, tmp_path):
        """What is over by now is undone when the service starts."""
        _over(kept)

        self._restart(kept, tmp_path)

        assert (kept.there.all_mdevs(), kept.claimed()) == ([], {})

    def test_host_rebooted(self, kept, tmp_path):
        """Its mdevs are gone: Nova must not look for those only claimed."""
        for mdev in kept.there.all_mdevs():
            device = kept.there.open().nodeDeviceLookupByName(mdev.name)
            device.destroy()

        self._restart(kept, tmp_path)

        assert set(kept.claimed()) == {standin.instance().uuid}

    def test_claims_count_afterwards(self, kept, tmp_path):
        """Only the start itself does without them."""
        self._restart(kept, tmp_path)

        found = kept.destination._get_all_assigned_mediated_devices()

        assert list(found) == list(kept.data.target_mdevs.values())


class TestRemoval:
    """How an mdev is removed from a real host, whatever it says."""

    def _undo(self, cloud):
        cloud.destination.mdev_compute.ends.undo(standin.instance().uuid)

    def test_node_device_without_destroy(self, cloud, which, caplog):
        """An older binding: the mdev is left, and said."""

        class Bare:
            pass

        cloud.destination._host.device_lookup_by_name = lambda name: Bare()

        self._undo(cloud)

        assert "cannot be removed" in caplog.text
        assert cloud.claimed() == {}

    def test_gone_meanwhile(self, cloud, which):
        """libvirt errs, but the mdev is gone: that is what was wanted."""
        cloud.there.faults.on("destroy", testing.lose_answer())

        self._undo(cloud)

        assert cloud.there.mdevs() == {}
        assert cloud.claimed() == {}

    def test_busy_for_a_moment(self, cloud, which):
        """It is tried again."""
        error = testing.libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "busy")
        cloud.there.faults.on("destroy", testing.fail(error))

        self._undo(cloud)

        assert (cloud.there.all_mdevs(), cloud.claimed()) == ([], {})

    def test_reconnecting_is_novas(self, cloud):
        """Nova's host opens its connection anew by itself."""
        assert cloud.destination.mdev_compute.host.reconnect() is None


class TestRecycling:
    """A reused mdev that half a guest came to is not given away as it is."""

    @staticmethod
    def _reuse(cloud, *, defined):
        """Send a guest to an mdev that there is, which an operator made."""
        cloud.there.add_mdev(
            SPARE, standin.TYPE, standin.PARENT, persistent=defined
        )
        data = cloud.check(standin.instance(), types=TYPES)
        cloud.prepare(standin.instance(), data)
        cloud.there.faults.forget_calls()
        assert list(data.target_mdevs.values()) == [SPARE]

    @staticmethod
    def _calls(cloud):
        return [name for _, name in cloud.there.calls]

    def test_transient(self, cloud):
        """It is destroyed: Nova creates one when it needs one."""
        self._reuse(cloud, defined=False)

        cloud.roll_back(standin.instance(), None)

        assert (cloud.there.all_mdevs(), cloud.claimed()) == ([], {})
        booted = cloud.destination.spawn(
            None, standin.instance(5), None, None, None, standin.allocations()
        )
        assert list(cloud.there.mdevs()) == booted

    def test_defined(self, cloud):
        """It is destroyed and started, as it was defined."""
        self._reuse(cloud, defined=True)
        (before,) = cloud.there.all_mdevs()

        cloud.roll_back(standin.instance(), None)

        calls = self._calls(cloud)
        assert calls.index("destroy") < calls.index("create")
        assert "undefine" not in calls
        (after,) = cloud.there.all_mdevs()
        assert (after.uuid, after.active, after.persistent) == (
            before.uuid,
            True,
            True,
        )
        assert cloud.claimed() == {}

    def test_destroyed_and_no_answer(self, cloud):
        """One that is gone is started, whatever libvirt said."""
        self._reuse(cloud, defined=True)
        cloud.there.faults.on("destroy", testing.lose_answer())

        cloud.roll_back(standin.instance(), None)

        assert list(cloud.there.mdevs()) == [SPARE]

    def test_no_room(self, cloud, caplog):
        """If its room was taken it stays defined, and nobody's."""
        self._reuse(cloud, defined=True)
        error = testing.libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "full")
        cloud.there.faults.on("create", testing.fail(error))

        cloud.roll_back(standin.instance(), None)

        (left,) = cloud.there.all_mdevs()
        assert (left.active, left.persistent) == (False, True)
        assert "could not be started" in caplog.text
        assert cloud.claimed() == {}
