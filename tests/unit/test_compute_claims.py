# SPDX-License-Identifier: Apache-2.0
"""Does every claim end, whatever way its migration went?"""

import libvirt
import pytest

from mdev_migrate import libvirt_host, model, testing
from mdev_migrate.core import claim_xml
from tests import builders, standin

ONE = builders.uuid(1)
TYPES = {ONE: standin.TYPE}
SPARE = builders.uuid(0xB0)
OTHER = "bbbbbbbb-0000-4000-8000-000000000001"


@pytest.fixture
def which(cloud):
    """Return an instance whose target mdev is claimed."""
    which = standin.instance()
    cloud.data = cloud.check(which, types=TYPES)
    return which


def _ends(cloud):
    """Let the periodic task of the destination run."""
    return cloud.destination.get_available_resource("node")


def _calls(cloud):
    """Return the names of the calls to the destination's libvirt."""
    return [name for _, name in cloud.there.calls]


class TestEnded:
    """Nobody calls the destination: it asks for itself."""

    def test_over(self, cloud, which):
        """An abort in the queue, a restart of the source: all is undone."""
        cloud.over()

        _ends(cloud)

        assert (cloud.there.all_mdevs(), cloud.claimed()) == ([], {})

    def test_went_elsewhere(self, cloud, which):
        """Ports could not be bound here, and another host was chosen."""
        cloud.over(destination="host-c")

        _ends(cloud)

        assert (cloud.there.all_mdevs(), cloud.claimed()) == ([], {})

    @pytest.mark.parametrize("destination", [None, "host-b"])
    def test_under_way(self, cloud, which, destination):
        """The claim of a migration that comes here is left alone."""
        cloud.migrations[cloud.migration().uuid] = ("running", destination)
        before = cloud.claimed()

        _ends(cloud)

        assert cloud.claimed() == before != {}
        assert len(cloud.there.mdevs()) == 1

    def test_guest_arrived(self, cloud, which):
        """Its last step was lost: the claim ends, the guest keeps its mdev."""
        target = cloud.data.target_mdevs[ONE]
        cloud.there.add_guest("vm", which.uuid, [target])
        cloud.over()

        _ends(cloud)

        assert cloud.claimed() == {}
        assert list(cloud.there.used_mdevs()) == [target]

    def test_conductor_silent(self, cloud, which, caplog):
        """Not known is not over; it is asked again later."""
        before = cloud.claimed()
        cloud.conductor_down = True

        assert _ends(cloud) == {"name": "node"}

        assert cloud.claimed() == before
        assert "a claim may have ended" in caplog.text

    @pytest.fixture
    def commands(self, cloud):
        """Return a claim of the command, for an instance of Nova's."""
        claim = builders.claim(
            builders.target(builders.mdev(0x77)),
            instance_uuid=standin.instance().uuid,
        )
        host = cloud.destination.mdev_compute.host
        host.claims.define(claim, claim_xml.Form())
        return claim

    def test_claim_of_the_command(self, cloud, commands):
        """One that belongs to no migration of Nova's is not Nova's to end."""
        _ends(cloud)
        cloud.roll_back(standin.instance(), None)

        assert cloud.claims().all == (commands,)
        assert cloud.claimed() == {
            commands.instance_uuid: [commands.mdevs[0].uuid]
        }

    def test_claim_of_the_command_outlives_an_arrival(self, cloud, commands):
        """Nor does Nova's guest that arrives end it."""
        _ends(cloud)

        cloud.arrive(standin.instance())

        assert cloud.claims().all == (commands,)

    def test_claim_of_the_command_refuses(self, cloud, commands):
        """Who migrates the instance by hand is not disturbed."""
        with pytest.raises(standin.Refused, match="claim-held"):
            cloud.check(standin.instance(), types=TYPES)

        assert cloud.claims().all == (commands,)

    def test_read_once(self, cloud):
        """A period without claims asks libvirt once."""
        cloud.there.faults.forget_calls()

        _ends(cloud)

        assert _calls(cloud) == ["listAllDomains"]

    def test_host_without_mdev_types(self, cloud, which):
        """It is asked nothing, and nothing is said."""
        cloud.destination.types.clear()
        cloud.destination = cloud.start(cloud.there)
        cloud.destination.types.clear()
        cloud.there.faults.forget_calls()

        cloud.destination.mdev_compute.ends.drop_ended()
        _ends(cloud)

        assert _calls(cloud) == []

    def test_nothing_is_asked_for_guests_without_mdevs(self, cloud):
        """Whatever is done with one, libvirt may be silent."""
        which = standin.plain_instance(5)
        nothing = {standin.ROOT: {"resources": {"VCPU": 1}}}
        driver = cloud.destination
        cloud.there.faults.forget_calls()
        for allocated in (nothing, {}, None):
            driver._allocate_mdevs(allocated)
        driver.post_live_migration_at_destination(None, which, None)
        driver.rollback_live_migration_at_destination(None, which, None, None)
        driver.cleanup_lingering_instance_resources(which)
        driver.check_source_migrate_data_at_dest(
            None, which, standin.MigrateData(), None, None, nothing
        )

        assert _calls(cloud) == []

    def test_whose_it_is(self, cloud, which):
        """People are told, and a service that starts anew."""
        (claim,) = cloud.claims().all

        assert claim.instance_uuid == which.uuid
        assert claim.migration == cloud.migration().uuid
        assert claim.owner == "nova-compute on host-b"
        assert claim.source == "host-a"
        assert claim.step is model.Step.PREPARE

    def test_next_check_makes_room(self, cloud, which):
        """Leftovers do not refuse the next guest on a full parent."""
        cloud.check(
            standin.instance(3), types=TYPES, migration=cloud.migration(2)
        )
        cloud.over()

        cloud.check(
            standin.instance(4), types=TYPES, migration=cloud.migration(3)
        )

        assert set(cloud.claimed()) == {
            builders.instance(3),
            builders.instance(4),
        }

    def test_trouble_does_not_stop_the_service(self, cloud, which, caplog):
        """libvirt fails while undoing: the host's resources are told."""
        cloud.over()
        error = testing.libvirt_error(libvirt.VIR_ERR_RPC, "hiccup")
        cloud.there.faults.on("listAllDevices", testing.fail(error))

        assert _ends(cloud) == {"name": "node"}

        assert "hiccup" in caplog.text
        assert which.uuid in cloud.claimed()

    def test_trouble_is_said_once(self, cloud, caplog):
        """And again when it is another, or comes again."""
        for words in ("one", "one", "two", None, "two"):
            if words:
                error = testing.libvirt_error(libvirt.VIR_ERR_RPC, words)
                cloud.there.faults.on("listAllDomains", testing.fail(error))
            _ends(cloud)

        said = [m for m in caplog.messages if "Claims cannot be read" in m]
        assert len(said) == 3
        assert ["one" in message for message in said] == [True, False, False]


class TestRestart:
    """The compute service of the destination starts anew."""

    @pytest.fixture
    def kept(self, cloud):
        """Return the computes, with a claim."""
        cloud.data = cloud.check(standin.instance(), types=TYPES)
        return cloud

    def _restart(self, cloud):
        cloud.destination = cloud.start(cloud.there)
        cloud.destination.init_host("host-b")

    def test_claim_lives_on(self, kept):
        """The mdevs of a migration under way are given to nobody else."""
        before = kept.claimed()

        self._restart(kept)

        assert kept.claimed() == before != {}
        mdevs = kept.destination.spawn(
            None, standin.instance(3), None, None, None, standin.allocations()
        )
        assert mdevs != list(kept.data.target_mdevs.values())

    def test_migration_goes_on(self, kept):
        """It can be prepared, and rolled back."""
        self._restart(kept)

        kept.prepare(standin.instance(), kept.data)
        kept.roll_back(standin.instance(), kept.data)

        assert (kept.there.all_mdevs(), kept.claimed()) == ([], {})

    def test_ended_meanwhile(self, kept):
        """What is over by now is undone when the service starts."""
        kept.over()

        self._restart(kept)

        assert (kept.there.all_mdevs(), kept.claimed()) == ([], {})
        assert kept.claims() == model.Claims()

    def test_host_rebooted(self, kept):
        """Its mdevs are gone: Nova must not look for those only claimed."""
        for mdev in kept.there.all_mdevs():
            device = kept.there.open().nodeDeviceLookupByName(mdev.name)
            device.destroy()

        self._restart(kept)

        assert set(kept.claimed()) == {standin.instance().uuid}

    def test_claims_count_afterwards(self, kept):
        """Only the start itself does without them."""
        self._restart(kept)

        found = kept.destination._get_all_assigned_mediated_devices()

        assert list(found) == list(kept.data.target_mdevs.values())


class TestDisagreement:
    """Claims in memory and in libvirt are not the same any more."""

    def test_removed_by_hand(self, cloud, which):
        """What is still needed is written again."""
        before = cloud.claims()
        cloud.remove_claims()

        _ends(cloud)

        assert cloud.claims() == before

    def test_damaged(self, cloud, which):
        """So is one that cannot be read any more."""
        before = cloud.claims()
        cloud.damage_claims()
        assert cloud.claims().all == ()

        _ends(cloud)

        assert cloud.claims() == before

    def test_chosen_anew(self, cloud, caplog):
        """A claim that lost a race for its first mdev is no ended one.

        Nor is it one to be mended, by who looks at the claims meanwhile.
        """
        cloud.there.add_mdev(SPARE, standin.TYPE)
        host = libvirt_host.LibvirtHost(
            cloud.there.uris[0], opener=cloud.there.group.open
        )

        def lose_the_race(_link, call):
            mdev = cloud.there.mdevs()[SPARE]
            target = builders.target(
                model.Mdev(SPARE, mdev.mdev_type, mdev.parent), domain=0x99
            )
            host.claims.define(builders.claim(target), claim_xml.Form())
            cloud.destination.get_available_resource("node")
            return call()

        cloud.there.faults.on("defineXML", lose_the_race, nth=1)

        data = cloud.check(standin.instance(), types=TYPES)
        _ends(cloud)

        (target,) = data.target_mdevs.values()
        assert target != SPARE
        held = {mdev.uuid for mdev in cloud.claims().held()}
        assert held == {SPARE, target}
        assert "not mended" not in caplog.text

    def test_boot_meanwhile(self, cloud, which):
        """A boot is not given what a running migration holds."""
        cloud.remove_claims()

        booted = cloud.destination.spawn(
            None, standin.instance(5), None, None, None, standin.allocations()
        )

        assert set(booted).isdisjoint(cloud.data.target_mdevs.values())

    def test_preparation(self, cloud, which):
        """The guest can come: its claim is written before it does."""
        cloud.remove_claims()

        cloud.prepare(which, cloud.data)

        (claim,) = cloud.claims().all
        assert claim.step is model.Step.MIGRATE

    def test_taken_by_the_command(self, cloud, which):
        """It cannot come any more if somebody else has claimed its mdev."""
        target = cloud.data.target_mdevs[ONE]
        cloud.remove_claims()
        mdev = cloud.there.mdevs()[target]
        theirs = builders.claim(
            builders.target(
                model.Mdev(target, mdev.mdev_type, mdev.parent), domain=0x99
            )
        )
        host = cloud.destination.mdev_compute.host
        host.claims.define(theirs, claim_xml.Form())

        with pytest.raises(standin.Refused, match="claim-taken"):
            cloud.prepare(which, cloud.data)

    @pytest.mark.parametrize("spoil", ["remove_claims", "damage_claims"])
    def test_undone(self, cloud, which, spoil):
        """What was created is removed by who created it."""
        getattr(cloud, spoil)()

        cloud.roll_back(which, cloud.data)

        assert (cloud.there.all_mdevs(), cloud.claimed()) == ([], {})
        assert cloud.claims() == model.Claims()

    def test_both_lost(self, cloud, which):
        """A boot has it then, and keeps it, whatever comes late."""
        target = cloud.data.target_mdevs[ONE]
        cloud.remove_claims()
        cloud.destination = cloud.start(cloud.there)
        cloud.destination.init_host("host-b")

        booted = cloud.destination.spawn(
            None, standin.instance(5), None, None, None, standin.allocations()
        )
        cloud.roll_back(which, cloud.data)

        assert booted == [target]
        assert list(cloud.there.mdevs()) == booted

    def test_kept_by_libvirt(self, cloud, which):
        """A release that failed is made up for."""
        error = testing.libvirt_error(libvirt.VIR_ERR_RPC, "hiccup")
        cloud.there.add_guest(
            "vm", which.uuid, list(cloud.data.target_mdevs.values())
        )
        cloud.there.faults.on("undefine", testing.fail(error))

        cloud.arrive(which)
        cloud.over()
        _ends(cloud)

        assert cloud.claims() == model.Claims()
        assert cloud.claimed() == {}

    def test_started_by_mistake(self, cloud, which):
        """Nova sees a claim that runs, as it does any domain."""
        host = cloud.destination._host
        assert host.list_guests(only_running=False) == []
        cloud.there.open().listAllDomains()[0].create()

        (guest,) = host.list_guests(only_running=False)

        assert guest._domain.isActive()


class TestNoInstance:
    """A claim is never taken for an instance."""

    def test_not_listed(self, cloud, which):
        """Neither running ones nor all."""
        host = cloud.destination._host

        for only_running in (True, False):
            assert host.list_guests(only_running) == []
            assert host.list_instance_domains(only_running) == []

    def test_ends_meanwhile(self, cloud, which):
        """A claim that is undefined while all are listed is no failure."""
        gone = testing.libvirt_error(libvirt.VIR_ERR_NO_DOMAIN, "no domain")
        cloud.there.faults.on("isActive", testing.fail(gone))

        host = cloud.destination._host

        assert host.list_guests(only_running=False) == []

    def test_other_errors_are_as_in_stock(self, cloud, which):
        """What libvirt cannot answer Nova hears."""
        error = testing.libvirt_error(libvirt.VIR_ERR_RPC, "hiccup")
        cloud.there.faults.on("isActive", testing.fail(error))

        with pytest.raises(libvirt.libvirtError, match="hiccup"):
            cloud.destination._host.list_guests(only_running=False)

    def test_stock_beside_it(self, cloud, which):
        """Stock code keeps off a claimed mdev, with the mixin gone."""
        stock = cloud.driver_class.__bases__[1](cloud.destination.virtapi)

        found = stock._get_all_assigned_mediated_devices()

        assert list(found) == list(cloud.data.target_mdevs.values())


class TestRemoval:
    """How an mdev is removed from a real host, whatever it says."""

    def _undo(self, cloud):
        cloud.destination.mdev_compute.ends.undo(standin.instance().uuid)

    def test_node_device_without_destroy(self, cloud, which, caplog):
        """An older binding: the mdev is left, and said."""

        class Bare:
            def __init__(self, name):
                device = stock(name)
                self.name, self.XMLDesc = device.name, device.XMLDesc

        stock = cloud.destination._host.device_lookup_by_name
        cloud.destination._host.device_lookup_by_name = Bare

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

        calls = _calls(cloud)
        assert calls.index("destroy") < calls.index("create")
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


@pytest.mark.parametrize("running", [True, False])
def test_an_mdev_that_a_guest_has_by_an_option(cloud, running):
    """It is another's, and libvirt keeps no book of it: no target."""
    cloud.there.add_mdev(SPARE, standin.TYPE)
    cloud.there.add_guest(
        "other",
        OTHER,
        xml=builders.guest_by_option("other", OTHER, SPARE),
        running=running,
    )

    data = cloud.check(standin.instance(), types=TYPES)

    assert SPARE not in data.target_mdevs.values()


def test_an_mdev_that_nobody_has(cloud):
    """It is the target."""
    cloud.there.add_mdev(SPARE, standin.TYPE)

    data = cloud.check(standin.instance(), types=TYPES)

    assert data.target_mdevs == {ONE: SPARE}
