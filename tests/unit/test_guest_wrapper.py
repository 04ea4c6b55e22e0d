# SPDX-License-Identifier: Apache-2.0
"""What comes between Nova and a guest with mdevs as it is migrated?"""

import logging
import threading

import libvirt
import pytest

from mdev_migrate import exception, testing
from mdev_migrate.compute import migration_log
from mdev_migrate.compute.guest_wrapper import MonitoredGuest, OutgoingGuest
from mdev_migrate.core import guest_xml, transport
from tests import builders

ONE, TWO, THREE, FOUR = map(builders.uuid, (1, 2, 3, 4))
MIGRATION = builders.uuid(0x1001)
LOST = testing.libvirt_error(
    libvirt.VIR_ERR_INTERNAL_ERROR, "client socket is closed"
)
GONE = testing.libvirt_error(libvirt.VIR_ERR_NO_DOMAIN, "no domain")
TOLD = migration_log.MigrationLog(builders.INSTANCE, MIGRATION)


class Recorder:
    """A guest that writes down how it is migrated and watched."""

    def __init__(self, *mdevs):
        self.xml = testing.guest_document("vm", builders.INSTANCE, mdevs)
        self.migrated = []
        self.told = []
        self.id = 7

    def get_xml_desc(self, dump_migratable=False):
        """Return the document that may be sent."""
        assert dump_migratable
        return self.xml

    def migrate(self, destination, **given):
        """Write down what was given."""
        self.migrated.append((destination, given))

    def migrate_configure_max_downtime(self, mstime):
        """Write down the limit."""
        self.told.append(mstime)

    def __getattr__(self, name):
        if name in ("pause", "migrate_start_postcopy", "abort_job"):
            return lambda: self.told.append(name)
        raise AttributeError(name)


def _sent(guest, targets, **given):
    outgoing = OutgoingGuest(guest, targets, "here", TOLD)
    outgoing.migrate("qemu+tls://there/system", **given)
    ((_, sent),) = guest.migrated
    return sent


def _monitored(guest, factor=1.0, again=None):
    def find_again():
        if isinstance(again, Exception):
            raise again
        return again

    def doubt(reason):
        return exception.OutcomeUnknown("vm", reason, "here", "there")

    return MonitoredGuest(guest, factor, TOLD, lambda: None, find_again, doubt)


class Asked:
    """A guest of Nova's whose libvirt answers what it was given."""

    def __init__(self, *answers, state=(libvirt.VIR_DOMAIN_RUNNING, 1)):
        self.answers = [*answers]
        self._domain = self
        self._state = state

    def get_job_info(self):
        """Answer, or raise, what is next."""
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    is_active = get_job_info

    def state(self):
        """Tell the state, and why it is that."""
        return [*self._state]


def _mdevs(xml):
    return [mdev.uuid for mdev in guest_xml.read_mdevs(xml)]


class TestOutgoing:
    """The guest as it is handed to libvirt."""

    def test_rewritten(self):
        """Targets take the places of the source mdevs."""
        guest = Recorder(ONE, TWO)

        sent = _sent(guest, {ONE: THREE, TWO: FOUR}, destination_xml=guest.xml)

        assert _mdevs(sent["destination_xml"]) == [THREE, FOUR]

    def test_rewritten_already(self):
        """From Nova 29 on it comes rewritten, and passes as it is."""
        xml = Recorder(THREE).xml

        sent = _sent(Recorder(ONE), {ONE: THREE}, destination_xml=xml)

        assert sent["destination_xml"] == xml

    def test_no_document(self):
        """Nova gave none: the guest's own is taken, rewritten."""
        sent = _sent(Recorder(ONE), {ONE: THREE})

        assert _mdevs(sent["destination_xml"]) == [THREE]

    def test_same_uuid_on_both(self):
        """Hosts may have mdevs of the same UUID."""
        guest = Recorder(ONE)

        sent = _sent(guest, {ONE: ONE}, destination_xml=guest.xml)

        assert _mdevs(sent["destination_xml"]) == [ONE]

    def test_same_uuids_crosswise(self):
        """They may be paired crosswise: then it is not rewritten already."""
        guest = Recorder(ONE, TWO)

        sent = _sent(guest, {ONE: TWO, TWO: ONE}, destination_xml=guest.xml)

        assert _mdevs(sent["destination_xml"]) == [TWO, ONE]

    def test_same_uuids_crosswise_rewritten(self):
        """And if it is, it is not turned back."""
        xml = Recorder(TWO, ONE).xml

        sent = _sent(
            Recorder(ONE, TWO), {ONE: TWO, TWO: ONE}, destination_xml=xml
        )

        assert _mdevs(sent["destination_xml"]) == [TWO, ONE]

    @pytest.mark.parametrize(
        "mdevs", [[], [TWO], [ONE, TWO], [THREE, TWO], [ONE, THREE]]
    )
    def test_other_mdevs(self, mdevs):
        """A document with any but the planned mdevs is not sent."""
        guest = Recorder(ONE)
        wrapped = OutgoingGuest(guest, {ONE: THREE}, "here", TOLD)

        with pytest.raises(exception.GuestMdevsChanged):
            wrapped.migrate("there", destination_xml=Recorder(*mdevs).xml)

        assert guest.migrated == []

    @pytest.mark.parametrize("flag", transport.UNSUPPORTED)
    def test_flags(self, flag, caplog):
        """A way that mdevs cannot go is closed, and the log says so."""
        caplog.set_level(logging.INFO)
        wanted = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_TLS

        sent = _sent(Recorder(ONE), {ONE: TWO}, flags=wanted | flag)

        assert sent["flags"] == wanted
        assert transport.UNSUPPORTED[flag] in caplog.text

    def test_tunnel_that_would_be_missed(self):
        """Nothing is sent in clear that was to go through a tunnel."""
        guest = Recorder(ONE)

        with pytest.raises(exception.TunnelUnsupported, match="host here"):
            OutgoingGuest(guest, {ONE: TWO}, "here", TOLD).migrate(
                "there", flags=libvirt.VIR_MIGRATE_TUNNELLED
            )

        assert guest.migrated == []

    def test_flags_that_pass(self, caplog):
        """Nothing is said if nothing is masked."""
        sent = _sent(
            Recorder(ONE), {ONE: TWO}, flags=libvirt.VIR_MIGRATE_PEER2PEER
        )

        assert sent["flags"] == libvirt.VIR_MIGRATE_PEER2PEER
        assert caplog.text == ""

    def test_all_else_passes(self):
        """Keywords that later releases bring reach the guest, too."""
        sent = _sent(
            Recorder(ONE),
            {ONE: TWO},
            migrate_uri="tcp://there",
            migrate_disks=["vda"],
            bandwidth=5,
            parallel=4,
        )

        del sent["destination_xml"]
        assert sent == {
            "migrate_uri": "tcp://there",
            "migrate_disks": ["vda"],
            "flags": 0,
            "bandwidth": 5,
            "parallel": 4,
        }

    def test_other_attributes(self):
        """What is not overridden is the guest's own."""
        assert OutgoingGuest(Recorder(ONE), {}, "here", TOLD).id == 7


class TestMonitored:
    """The guest as it is watched."""

    @pytest.mark.parametrize(
        ("factor", "asked", "told"),
        [
            (20.0, 50, 1000),
            (20.0, 500, 10_000),
            (1.0, 500, 500),
            (0.1, 500, 50),
            (0.0001, 50, 1),
            (1e6, 500, transport.MAX_DOWNTIME_MS),
        ],
    )
    def test_downtime(self, factor, asked, told):
        """Each of Nova's steps is scaled, within what QEMU takes."""
        guest = Recorder()

        _monitored(guest, factor).migrate_configure_max_downtime(asked)

        assert guest.told == [told]

    @pytest.mark.parametrize(
        ("name", "said"),
        [("pause", "not paused"), ("migrate_start_postcopy", "post-copied")],
    )
    def test_refused(self, name, said, caplog):
        """Neither pause nor post-copy reaches the guest."""
        guest = Recorder()

        getattr(_monitored(guest), name)()

        assert guest.told == []
        assert said in caplog.text

    def test_abort(self):
        """An abort does."""
        guest = Recorder()

        _monitored(guest).abort_job()

        assert guest.told == ["abort_job"]

    def test_out_of_time(self, caplog):
        """The monitor's own call aborts the migration, once."""
        guest = Recorder()
        monitored = _monitored(guest)

        monitored.force_complete()
        monitored.force_complete()

        assert guest.told == ["abort_job"]
        assert "out of time" in caplog.text

    def test_abort_fails(self, caplog):
        """The monitor goes on, and the next loop tries again."""
        guest = Recorder()
        error = testing.libvirt_error(
            libvirt.VIR_ERR_OPERATION_INVALID, "no job is active"
        )
        answers = [error, None]

        def abort():
            answer = answers.pop(0)
            if answer is not None:
                raise answer

        guest.abort_job = abort
        monitored = _monitored(guest)

        for _ in range(3):
            monitored.force_complete()

        assert answers == []
        assert "not aborted: " in caplog.text
        assert "no job is active" in caplog.text

    def test_not_forced_to_complete(self, caplog):
        """Somebody else's call leaves the guest alone, and is told why."""
        guest = Recorder()
        monitored = _monitored(guest)
        other = threading.Thread(target=monitored.force_complete)

        other.start()
        other.join()

        assert guest.told == []
        assert "neither post-copied nor migrated paused" in caplog.text


class TestHowFar:
    """What the monitor hears of the job."""

    def test_busy(self, caplog):
        """A guest that libvirt has hold of is asked again, and told once."""
        busy = testing.libvirt_error(
            libvirt.VIR_ERR_OPERATION_TIMEOUT, "cannot acquire lock"
        )
        guest = _monitored(Asked(busy, busy, "half", busy))

        found = [guest.get_job_info() for _ in range(4)]

        types = [getattr(each, "type", each) for each in found]
        none = libvirt.VIR_DOMAIN_JOB_NONE
        assert types == [none, none, "half", none]
        assert caplog.text.count("not known how far it is") == 2

    def test_restarted(self, caplog):
        """After a restart of libvirt a new connection tells, from then on."""
        guest = _monitored(Asked(LOST), again=Asked("half", "done"))

        found = [guest.get_job_info() for _ in range(3)]

        assert found[0].type == libvirt.VIR_DOMAIN_JOB_NONE
        assert found[1:] == ["half", "done"]
        assert "client socket is closed" in caplog.text

    def test_has_left_meanwhile(self):
        """A libvirt that has no such guest any more has sent it."""
        guest = _monitored(Asked(LOST), again=GONE)

        job = guest.get_job_info()

        assert job.type == libvirt.VIR_DOMAIN_JOB_COMPLETED

    @pytest.mark.parametrize(
        ("error", "again"),
        [
            (LOST, ValueError("no libvirt for a minute")),
            (ValueError("no error of libvirt's"), None),
        ],
    )
    def test_other_errors_are_novas(self, error, again):
        """They reach the monitor as they are."""
        last = again or error
        with pytest.raises(type(last)) as caught:
            _monitored(Asked(error), again=again).get_job_info()

        assert caught.value is last


class TestWhetherItStayed:
    """What Nova hears when the call that migrates has come back."""

    @pytest.mark.parametrize("active", [0, 1])
    def test_known(self, active):
        """It is what libvirt says."""
        assert _monitored(Asked(active)).is_active() == active

    def test_gone(self):
        """A guest that libvirt has not any more has left."""
        assert not _monitored(Asked(GONE), again=GONE).is_active()

    def test_restarted_just_then(self):
        """Libvirt is asked again: an error is no yes."""
        assert not _monitored(Asked(LOST), again=Asked(0)).is_active()

    def test_lost_again_and_again(self):
        """It is not guessed."""
        guest = _monitored(Asked(LOST), again=Asked(LOST))

        with pytest.raises(exception.OutcomeUnknown, match="closed"):
            guest.is_active()

    def test_held(self):
        """The half of one that may run on the destination has not stayed."""
        held = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION)
        guest = _monitored(Asked(LOST), again=Asked(1, state=held))

        with pytest.raises(exception.OutcomeUnknown, match="migrating"):
            guest.is_active()

    def test_paused_by_somebody(self):
        """A guest that was paused before has stayed."""
        paused = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER)

        guest = _monitored(Asked(LOST), again=Asked(1, state=paused))

        assert guest.is_active()

    def test_not_restarted(self):
        """Its state is not asked for."""
        assert _monitored(Asked(1, state=())).is_active()

    def test_other_errors_are_novas(self):
        """They reach the monitor as they are."""
        with pytest.raises(ValueError, match="none of libvirt's"):
            _monitored(Asked(ValueError("none of libvirt's"))).is_active()
