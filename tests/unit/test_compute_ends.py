# SPDX-License-Identifier: Apache-2.0
"""Whose are the target mdevs when a claim may have ended?"""

import threading

import pytest

from mdev_migrate import libvirt_host, model, testing
from mdev_migrate.core import claim_xml
from tests import builders, standin

ONE, SPARE = builders.uuid(1), builders.uuid(0xB0)
TYPES = {ONE: standin.TYPE}


def _look(cloud):
    """Let the periodic task of the destination run."""
    cloud.destination.get_available_resource("node")


def _defined(cloud):
    """Return the mdevs of the destination, and whether each is defined."""
    return [(mdev.uuid, mdev.persistent) for mdev in cloud.there.all_mdevs()]


def _refused(cloud, which, data):
    """Prepare the destination; tell whether it refused for want of a claim."""
    try:
        cloud.prepare(which, data)
    except standin.Refused as error:
        return "claim-lost" in str(error)
    return False


@pytest.fixture
def claimed(cloud):
    """Return two computes; the destination has a claim for an instance."""
    cloud.data = cloud.check(standin.instance(), types=TYPES)
    cloud.target = cloud.data.target_mdevs[ONE]
    return cloud


class TestArrived:
    """Its guest is here: the last step of its migration was lost."""

    def test_shut_off(self, claimed):
        """A guest that was stopped since then keeps its mdev."""
        claimed.prepare(standin.instance(), claimed.data)
        claimed.there.add_guest(
            "vm", standin.instance().uuid, [claimed.target], running=False
        )
        claimed.over()

        _look(claimed)

        assert list(claimed.there.mdevs()) == [claimed.target]
        assert claimed.claimed() == {}

    def test_being_rebooted(self, claimed):
        """A guest that is not defined for a moment keeps its mdev."""
        claimed.prepare(standin.instance(), claimed.data)
        which = standin.instance()
        claimed.there.add_guest("vm", which.uuid, [claimed.target])
        claimed.over()
        claimed.destination.during_boot = lambda: _look(claimed)

        claimed.destination._hard_reboot(None, which)

        assert claimed.there.used_mdevs() == {claimed.target: which.uuid}

    def test_reboot_ends_between_two_looks(self, claimed):
        """A guest that was not defined, and is again, keeps its mdev."""
        which = standin.instance()
        claimed.prepare(which, claimed.data)
        claimed.there.add_guest("vm", which.uuid, [claimed.target])
        claimed.over()
        host = claimed.destination.mdev_compute.host
        find_guest = host.find_guest
        looked, rebooted = threading.Event(), threading.Event()

        def find(*args):
            found = find_guest(*args)
            looked.set()
            assert rebooted.wait(10)
            return found

        host.find_guest = find
        looking = []

        def during():
            looking.append(standin.in_thread(lambda: _look(claimed)))
            assert looked.wait(10)

        claimed.destination.during_boot = during
        before = _defined(claimed)

        claimed.destination._hard_reboot(None, which)
        rebooted.set()
        looking[0].join()

        assert _defined(claimed) == before
        assert claimed.claimed() == {}

    def test_running_but_told_to_be_undone(self, claimed):
        """What a guest runs on is neither undefined nor destroyed."""
        which = standin.instance()
        claimed.prepare(which, claimed.data)
        claimed.there.add_guest("vm", which.uuid, [claimed.target])
        before = _defined(claimed)

        claimed.destination.mdev_compute.ends.undo(which.uuid)

        assert _defined(claimed) == before
        assert claimed.claimed() == {}


class TestTakenByAnother:
    """A boot could not see the claim, and was given what it covers."""

    @pytest.fixture
    def taken(self, cloud):
        """Return two computes; a booted guest has a claimed mdev."""
        which, other = standin.instance(), standin.instance(7)
        data = cloud.check(which, types=TYPES)
        cloud.target = data.target_mdevs[ONE]
        cloud.prepare(which, data)
        # As when the mixin was away for a while, and the claim as well.
        cloud.kept = cloud.claims().all[0]
        cloud.remove_claims()
        cloud.destination = cloud.start(cloud.there)
        cloud.booted = cloud.destination.spawn(
            None, other, None, None, None, standin.allocations()
        )
        host = cloud.destination.mdev_compute.host
        host.claims.define(cloud.kept, claim_xml.Form())
        cloud.over()
        return cloud

    def test_shut_off(self, taken):
        """The old claim ends, and its guest keeps the mdev."""
        domain = taken.there.open().lookupByUUIDString(builders.instance(7))
        domain.destroy()

        _look(taken)

        assert taken.booted == [taken.target]
        assert list(taken.there.mdevs()) == [taken.target]
        assert taken.claimed() == {}

    def test_while_it_boots(self, cloud):
        """It is not defined yet, and has the mdev all the same."""
        which = standin.instance()
        data = cloud.check(which, types=TYPES)
        cloud.prepare(which, data)
        kept = cloud.claims().all[0]
        cloud.remove_claims()
        cloud.destination = cloud.start(cloud.there)
        cloud.over()

        def during():
            host = cloud.destination.mdev_compute.host
            host.claims.define(kept, claim_xml.Form())
            _look(cloud)

        cloud.destination.during_boot = during
        booted = cloud.destination.spawn(
            None, standin.instance(7), None, None, None, standin.allocations()
        )

        assert booted == list(data.target_mdevs.values())
        assert list(cloud.there.mdevs()) == booted

    def test_a_guest_is_deleted_while_all_are_read(self, taken):
        """What is gone when it is read has no mdevs."""
        taken.there.add_mdev(SPARE, standin.TYPE, standin.PARENT)
        taken.there.add_guest("other", builders.instance(8), [SPARE])
        deleted = taken.there.open().lookupByUUIDString(builders.instance(7))
        host = taken.destination._host
        guests = host.list_guests

        def list_then_delete(only_running=True):
            found = guests(only_running)
            host.list_guests = guests
            deleted.destroy()
            deleted.undefine()
            return found

        host.list_guests = list_then_delete

        found = taken.destination.mdev_compute.host.inventory().guests

        assert [guest.instance_uuid for guest in found] == [
            builders.instance(8)
        ]


class TestOnItsWay:
    """The source was restarted, and libvirt still holds the guest's half."""

    @pytest.fixture
    def leaving(self, cloud):
        """Return two computes, with a guest on its way to a reused mdev."""
        which = standin.instance()
        cloud.there.add_mdev(SPARE, standin.TYPE, standin.PARENT)
        cloud.here.add_mdev(ONE, standin.TYPE, standin.PARENT)
        cloud.here.add_guest("vm", which.uuid, [ONE], persistent=False)
        cloud.data = cloud.prepare(which, cloud.check(which))
        with cloud.here.group.hold("load") as gate:
            thread = standin.in_thread(
                lambda: cloud.migrate(which, cloud.data)
            )
            gate.wait_reached()
            cloud.gate = gate
            yield cloud
        thread.join()

    def _abort(self, cloud):
        guest = cloud.here.open().lookupByUUIDString(standin.instance().uuid)
        guest.abortJob()
        cloud.gate.release()
        cloud.here.group.wait_for_migrations()

    def test_claim_stays_while_half_of_it_is_here(self, leaving):
        """An mdev with half a state in it is not given to others."""
        leaving.over()

        _look(leaving)

        assert list(leaving.claimed().values()) == [[SPARE]]

    def test_recycled_when_it_has_gone(self, leaving):
        """Then it is made anew, and given to others."""
        leaving.over()
        _look(leaving)

        self._abort(leaving)
        _look(leaving)

        assert leaving.there.unusable_mdevs() == set()
        assert leaving.claimed() == {}


class TestOneByOne:
    """One instance's trouble is not another's."""

    def test_busy_mdev_of_another(self, claimed):
        """A guest arrives while another's busy mdev is being waited for."""
        other = standin.instance(3)
        data = claimed.check(
            other, types=TYPES, migration=claimed.migration(2)
        )
        claimed.prepare(other, data)
        claimed.there.add_guest(
            "vm", other.uuid, list(data.target_mdevs.values())
        )
        at_it, go_on = threading.Event(), threading.Event()

        def wait(mdev):
            at_it.set()
            assert go_on.wait(10)

        claimed.destination.mdev_compute.host.remove_mdev = wait
        undoing = standin.in_thread(
            lambda: claimed.roll_back(standin.instance(), claimed.data)
        )
        assert at_it.wait(10)

        arriving = standin.in_thread(lambda: claimed.arrive(other))
        arriving.join(5)
        arrived = not arriving.is_alive()
        go_on.set()
        undoing.join()
        arriving.join()

        assert arrived

    def test_undone_once(self, claimed):
        """A rollback and the periodic task do not undo the same twice."""
        claimed.there.faults.forget_calls()
        at_it, go_on = threading.Event(), threading.Event()
        host = claimed.destination.mdev_compute.host
        remove = host.remove_mdev

        def wait(mdev):
            at_it.set()
            assert go_on.wait(10)
            return remove(mdev)

        host.remove_mdev = wait
        claimed.over()
        undoing = standin.in_thread(
            lambda: claimed.roll_back(standin.instance(), claimed.data)
        )
        assert at_it.wait(10)

        looking = standin.in_thread(lambda: _look(claimed))
        looking.join(5)
        waited = looking.is_alive()
        go_on.set()
        undoing.join()
        looking.join()

        calls = [name for _, name in claimed.there.calls]
        assert not waited
        assert calls.count("destroy") == 1
        assert claimed.claimed() == {}

    def test_two_rollbacks(self, claimed):
        """Who comes second waits for its turn, and finds nothing to do."""
        host = claimed.destination.mdev_compute.host
        remove = host.remove_mdev
        at_it, go_on = threading.Event(), threading.Event()
        removed = []

        def wait(mdev):
            removed.append(mdev.uuid)
            at_it.set()
            assert go_on.wait(10)
            return remove(mdev)

        host.remove_mdev = wait

        def undo():
            claimed.roll_back(standin.instance(), claimed.data)

        undoing = standin.in_thread(undo)
        assert at_it.wait(10)
        again = standin.in_thread(undo)
        again.join(0.2)
        waited = again.is_alive()
        go_on.set()
        undoing.join()
        again.join()

        assert waited
        assert removed == [claimed.target]
        assert claimed.claimed() == {}

    def test_check_of_another(self, claimed):
        """It does not wait for an end that takes its time."""
        at_it, go_on = threading.Event(), threading.Event()

        def wait(mdev):
            at_it.set()
            assert go_on.wait(10)

        claimed.destination.mdev_compute.host.remove_mdev = wait
        undoing = standin.in_thread(
            lambda: claimed.roll_back(standin.instance(), claimed.data)
        )
        assert at_it.wait(10)
        claimed.over()

        checking = standin.in_thread(
            lambda: claimed.check(
                standin.instance(3),
                types=TYPES,
                migration=claimed.migration(2),
            )
        )
        checking.join(5)
        checked = not checking.is_alive()
        go_on.set()
        undoing.join()
        checking.join()

        assert checked


class TestLate:
    """What comes when nobody waits for it any more."""

    def test_rollback_of_an_older_migration(self, claimed):
        """The claim of the next migration to here is left alone."""
        which = standin.instance()
        older = claimed.data
        older.migration = claimed.migration()
        claimed.over()
        newer = claimed.check(
            which, types=TYPES, migration=claimed.migration(2)
        )

        claimed.roll_back(which, older)

        targets = list(newer.target_mdevs.values())
        assert claimed.claimed() == {which.uuid: targets}
        assert list(claimed.there.mdevs()) == targets

    def test_preparation_after_the_rollback(self, claimed):
        """The source gave up waiting: the guest is not to come any more."""
        claimed.roll_back(standin.instance(), claimed.data)

        with pytest.raises(standin.Refused, match="claim-lost"):
            claimed.prepare(standin.instance(), claimed.data)

    def test_preparation_during_the_undoing(self, claimed):
        """What is being undone for one guest is not sent to it as well."""
        which = standin.instance()
        host = claimed.destination.mdev_compute.host
        remove = host.remove_mdev
        at_it, go_on = threading.Event(), threading.Event()

        def slow(mdev):
            at_it.set()
            assert go_on.wait(10)
            return remove(mdev)

        host.remove_mdev = slow
        claimed.over()
        looking = standin.in_thread(lambda: _look(claimed))
        assert at_it.wait(10)
        prepared = []
        preparing = standin.in_thread(
            lambda: prepared.append(_refused(claimed, which, claimed.data))
        )
        preparing.join(0.2)
        go_on.set()
        looking.join()
        preparing.join()

        assert prepared == [True]
        assert claimed.claimed() == {}

    def test_preparation_of_an_older_migration(self, cloud):
        """The claim of the next migration is not taken for its own."""
        which = standin.instance()
        cloud.there.add_mdev(SPARE, standin.TYPE, standin.PARENT)
        older = cloud.check(which, types=TYPES)
        older.migration = cloud.migration()
        cloud.over()
        newer = cloud.check(which, types=TYPES, migration=cloud.migration(2))
        newer.migration = cloud.migration(2)

        assert older.target_mdevs == newer.target_mdevs
        assert _refused(cloud, which, older)
        assert not _refused(cloud, which, newer)

    def test_rollback_during_the_preparation(self, claimed, monkeypatch):
        """So it is if it gives up while the mdevs are waited for."""
        which = standin.instance()
        host = claimed.destination.mdev_compute.host
        await_mdevs = host.await_mdevs

        def give_up(uuids, limits):
            await_mdevs(uuids, limits)
            claimed.roll_back(which, claimed.data)

        monkeypatch.setattr(host, "await_mdevs", give_up)

        with pytest.raises(standin.Refused, match="claim-lost"):
            claimed.prepare(which, claimed.data)


class TestCreation:
    """An mdev is claimed before it is created, whatever happens then."""

    def test_killed_after_it(self, cloud):
        """The service that starts anew finds and removes it."""
        cloud.there.faults.on("nodeDeviceCreateXML", testing.die_after())
        with pytest.raises(testing.ProcessDied):
            cloud.check(standin.instance(), types=TYPES)
        made = list(cloud.there.mdevs())
        cloud.there.group.new_process()
        cloud.destination = cloud.start(cloud.there)

        cloud.destination.init_host("host-b")
        claimed = list(cloud.claimed().values())
        cloud.over()
        _look(cloud)

        assert claimed == [made]
        assert len(made) == 1
        assert (cloud.there.all_mdevs(), cloud.claimed()) == ([], {})

    def test_answer_lost(self, cloud):
        """libvirt made it and did not say so: it is removed."""
        cloud.there.faults.on("nodeDeviceCreateXML", testing.lose_answer())

        with pytest.raises(standin.Refused):
            cloud.check(standin.instance(), types=TYPES)

        assert (cloud.there.all_mdevs(), cloud.claimed()) == ([], {})

    @pytest.fixture
    def ended(self, cloud, monkeypatch):
        """Return two computes; a claim ends before its mdev is created."""
        stock = type(cloud.destination).__bases__[1]
        create = stock._create_new_mediated_device

        def slow(driver, parent, uuid=None):
            if standin.instance().uuid in cloud.claimed_now():
                cloud.over()
                standin.in_thread(lambda: _look(cloud)).join()
            return create(driver, parent, uuid)

        cloud.claimed_now = cloud.claimed
        monkeypatch.setattr(stock, "_create_new_mediated_device", slow)
        return cloud

    def test_its_claim_had_been_ended(self, ended):
        """Its migration was over meanwhile: it is removed, and refused."""
        with pytest.raises(standin.Refused, match="claim-lost"):
            ended.check(standin.instance(), types=TYPES)

        assert (ended.there.all_mdevs(), ended.claimed()) == ([], {})

    def test_its_claim_had_been_ended_and_a_boot_took_it(self, ended):
        """A boot that was given it, and is not done, keeps it."""
        driver = ended.destination
        booted, go_on, booting = threading.Event(), threading.Event(), []

        def during():
            booted.set()
            assert go_on.wait(10)

        class ThenABoot(standin.OnceLock):
            def __exit__(self, *error):
                super().__exit__(*error)
                if driver.during_boot is not during:
                    driver.during_boot = during
                    booting.append(standin.in_thread(boot))
                    assert booted.wait(10)

        def boot():
            other = standin.instance(5)
            driver.spawn(None, other, None, None, None, standin.allocations())

        driver.vgpu_lock = ThenABoot()

        with pytest.raises(standin.Refused, match="claim-lost"):
            ended.check(standin.instance(), types=TYPES)
        go_on.set()
        booting[0].join()

        assert list(ended.there.used_mdevs().values()) == [
            builders.instance(5)
        ]

    def test_boot(self, cloud):
        """A boot's mdevs are as Nova makes them."""
        mdevs = cloud.destination.spawn(
            None, standin.instance(), None, None, None, standin.allocations()
        )

        assert list(cloud.there.mdevs()) == mdevs
        assert cloud.claimed() == {}


class TestAtOnce:
    """What others claim while Nova chooses."""

    def _claim(self, cloud, uuid):
        """Claim an mdev as the command does."""
        mdev = cloud.there.mdevs()[uuid]
        claim = builders.claim(
            builders.target(model.Mdev(uuid, mdev.mdev_type, mdev.parent)),
            instance_uuid=builders.instance(9),
        )
        host = libvirt_host.LibvirtHost(
            cloud.there.uris[0], opener=cloud.there.group.open
        )
        host.claims.define(claim, claim_xml.Form())

    def _once(self, cloud, act):
        """Do something after Nova has chosen for the first time."""
        driver = cloud.destination
        stock = driver._stock_allocate_mdevs
        acts = [act]

        def allocate():
            choose = stock().__wrapped__

            def slow(driver, request):
                chosen = choose(driver, request)
                while acts:
                    acts.pop()()
                return chosen

            return slow

        driver._stock_allocate_mdevs = allocate

    def test_claimed_by_the_command_meanwhile(self, cloud):
        """Another is chosen: there is room."""
        cloud.there.add_mdev(SPARE, standin.TYPE, standin.PARENT)
        self._once(cloud, lambda: self._claim(cloud, SPARE))

        data = cloud.check(standin.instance(), types=TYPES)

        assert SPARE not in data.target_mdevs.values()
        assert len(cloud.there.mdevs()) == 2

    def test_claimed_by_the_command_and_no_room(self, cloud):
        """Only then is it refused, and nothing is left."""
        for number in (0xB0, 0xB1):
            cloud.there.add_mdev(
                builders.uuid(number), standin.TYPE, standin.PARENT
            )
        self._claim(cloud, builders.uuid(0xB1))
        self._once(cloud, lambda: self._claim(cloud, SPARE))

        with pytest.raises(standin.Refused, match="too-few-mdevs"):
            cloud.check(standin.instance(), types=TYPES)

        assert list(cloud.claimed()) == [builders.instance(9)]
        assert len(cloud.there.mdevs()) == 2

    def test_checked_twice_at_once(self, cloud):
        """Both are answered alike: one claim, which stays."""
        answers, checks = [], []

        def check():
            data = cloud.check(standin.instance(), types=TYPES)
            answers.append(data.target_mdevs)

        def again():
            checks.append(standin.in_thread(check))
            checks[0].join(0.2)

        self._once(cloud, again)
        check()
        checks[0].join()

        assert answers[0] == answers[1]
        assert list(cloud.claimed().values()) == [list(answers[0].values())]
        assert list(cloud.there.mdevs()) == list(answers[0].values())

    def test_checked_for_another_migration(self, cloud):
        """What the first was answered is not removed while it may be used."""
        first = cloud.check(standin.instance(), types=TYPES)

        with pytest.raises(standin.Refused, match="claim-held"):
            cloud.check(
                standin.instance(), types=TYPES, migration=cloud.migration(2)
            )

        cloud.prepare(standin.instance(), first)
        assert list(cloud.there.mdevs()) == list(first.target_mdevs.values())

    def test_claimed_while_a_boot_waits(self, cloud):
        """A boot looks at the claims when it is its turn to choose."""
        cloud.there.add_mdev(SPARE, standin.TYPE, standin.PARENT)
        driver, claim = cloud.destination, self._claim

        class Waiting(standin.OnceLock):
            def __enter__(self):
                claim(cloud, SPARE)
                super().__enter__()

        driver.vgpu_lock = Waiting()

        booted = driver.spawn(
            None, standin.instance(), None, None, None, standin.allocations()
        )

        assert len(booted) == 1
        assert SPARE not in booted

    def test_looked_at_before_and_told_after(self, cloud):
        """A look that took long does not hide a claim that was made since."""
        promises = cloud.destination.mdev_compute.promises
        claims = cloud.destination.mdev_compute.host.claims
        read = claims.read
        looked, go_on = threading.Event(), threading.Event()

        def slow():
            claims.read = read
            found = read()
            looked.set()
            assert go_on.wait(10)
            return found

        claims.read = slow
        looking = standin.in_thread(promises.refresh)
        assert looked.wait(10)
        checking = standin.in_thread(
            lambda: cloud.check(standin.instance(), types=TYPES)
        )
        checking.join(0.2)
        go_on.set()
        looking.join()
        checking.join()

        assert list(cloud.claimed()) == [standin.instance().uuid]

    def test_libvirt_does_not_answer(self, cloud):
        """Guests without mdevs go on while a look waits for libvirt."""
        claims = cloud.destination.mdev_compute.host.claims
        waiting, go_on = threading.Event(), threading.Event()

        def silent():
            waiting.set()
            assert go_on.wait(10)
            return model.Claims()

        claims.read = silent
        looking = standin.in_thread(lambda: _look(cloud))
        assert waiting.wait(10)
        which = standin.plain_instance(5)
        driver = cloud.destination
        done = threading.Event()

        def others():
            driver.spawn(None, which, None, None, None, {})
            driver.post_live_migration_at_destination(None, which, None)
            driver.rollback_live_migration_at_destination(
                None, which, None, None
            )
            driver._hard_reboot(None, which)
            done.set()

        standin.in_thread(others)
        went_on = done.wait(5)
        go_on.set()
        looking.join()

        assert went_on
