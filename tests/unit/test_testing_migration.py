# SPDX-License-Identifier: Apache-2.0
"""Does a simulated migration go, and fail, as libvirt's does?"""

import concurrent.futures
import contextlib
import threading

import libvirt
import pytest

from mdev_migrate import testing

SOURCE_MDEV = "55555555-5555-4555-8555-555555555555"
TARGET_MDEV = "66666666-6666-4666-8666-666666666666"
GUEST = "aaaaaaaa-0000-4000-8000-000000000002"
OTHER = "aaaaaaaa-0000-4000-8000-000000000003"
LIMIT_S = 10
MIGRATABLE = libvirt.VIR_DOMAIN_XML_MIGRATABLE
LIVE = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
MOVE = LIVE | (
    libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
)


class Pair:
    """Two hosts, a guest with one mdev, and a target mdev."""

    def __init__(self, target_type="mtty-1", **guest):
        self.source, self.destination = testing.two_hosts()
        self.group = self.source.group
        self.source.add_mdev(SOURCE_MDEV, "mtty-1")
        if target_type is not None:
            self.destination.add_mdev(TARGET_MDEV, target_type)
        self.source.add_guest("vm", GUEST, [SOURCE_MDEV], **guest)
        self.connection = self.source.open()

    @property
    def guest(self):
        """Look the guest up on the source."""
        return self.connection.lookupByName("vm")

    def migrate(self, flags=MOVE, uri=None, **changes):
        """Migrate with documents that name the target mdev."""
        live, config = (
            self.guest.XMLDesc(form).replace(SOURCE_MDEV, TARGET_MDEV)
            for form in (MIGRATABLE, libvirt.VIR_DOMAIN_XML_INACTIVE)
        )
        params = {"destination_xml": live, "persistent_xml": config}
        return self.guest.migrateToURI3(
            uri or self.destination.uris[0], params | changes, flags
        )

    @contextlib.contextmanager
    def held(self, phase, number=0):
        """Run a migration in another thread and hold it at a step."""
        with (
            concurrent.futures.ThreadPoolExecutor(1) as pool,
            self.group.hold(phase, number) as gate,
        ):
            ending = pool.submit(self.migrate)
            gate.wait_reached(LIMIT_S)
            yield ending
            gate.release()

    def refusal(self, **changes):
        """Migrate in vain and return the error."""
        with pytest.raises(libvirt.libvirtError) as error:
            self.migrate(**changes)
        self.group.check_invariants()
        assert self.source.running_guests() == {GUEST}
        assert self.destination.used_mdevs() == {}
        return error.value


class TestSuccess:
    def test_the_guest_runs_on_the_target_mdev(self):
        """It has left the source and uses the target mdev."""
        pair = Pair()

        pair.migrate()

        pair.group.check_invariants()
        assert pair.source.used_mdevs() == {}
        assert pair.destination.used_mdevs() == {TARGET_MDEV: "vm"}

    def test_both_documents_name_the_target_mdev(self):
        """The live and the inactive one, and the source has neither."""
        pair = Pair()

        pair.migrate()

        guest = pair.destination.open().lookupByName("vm")
        assert TARGET_MDEV in guest.XMLDesc()
        assert TARGET_MDEV in guest.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        assert pair.source.open().listAllDomains() == []

    def test_without_persistent_xml_the_source_uuid_is_persisted(self):
        """The trap of leaving it out, as in libvirt."""
        pair = Pair()

        pair.migrate(persistent_xml=None)

        guest = pair.destination.open().lookupByName("vm")
        inactive = guest.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        assert SOURCE_MDEV in inactive

    def test_a_transient_guest_stays_transient(self):
        """Without PERSIST_DEST there is no definition at the other end."""
        pair = Pair(persistent=False)

        pair.migrate(LIVE)

        guest = pair.destination.open().lookupByName("vm")
        assert (guest.isActive(), guest.isPersistent()) == (1, 0)

    def test_back_onto_the_former_source_mdev(self):
        """A mdev that a guest has left is as good as new."""
        pair = Pair()
        pair.migrate()
        guest = pair.destination.open().lookupByName("vm")
        back = guest.XMLDesc(MIGRATABLE).replace(TARGET_MDEV, SOURCE_MDEV)

        guest.migrateToURI3(
            pair.source.uris[0], {"destination_xml": back}, LIVE
        )

        assert pair.source.used_mdevs() == {SOURCE_MDEV: "vm"}

    def test_the_completed_job_is_told_at_the_destination(self):
        """Bytes and downtime can be read there after the end."""
        pair = Pair()

        pair.migrate()

        guest = pair.destination.open().lookupByName("vm")
        figures = guest.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
        assert figures["type"] == libvirt.VIR_DOMAIN_JOB_COMPLETED
        assert figures["memory_remaining"] == 0

    def test_device_state_is_not_told_at_the_destination(self):
        """As on real hosts, the completed job has nothing of it."""
        pair = Pair()

        pair.migrate()

        guest = pair.destination.open().lookupByName("vm")
        figures = guest.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
        assert "vfio_data_transferred" not in figures

    def test_events_tell_of_the_move(self):
        """The destination's clients hear of the finished job."""
        pair = Pair()
        connection = pair.destination.open()
        seen = []
        connection.domainEventRegisterAny(
            None,
            libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED,
            lambda _conn, guest, figures, _opaque: seen.append(
                (guest.UUIDString(), figures["type"])
            ),
            None,
        )

        pair.migrate()

        assert seen == [(GUEST, libvirt.VIR_DOMAIN_JOB_COMPLETED)]


class TestRefusedBeforeTheCopy:
    """Nothing was touched: the target mdev is as good as before."""

    def test_a_blocker_comes_before_the_peer_is_looked_up(self):
        """QEMU's reasons are told even for an address that is not there."""
        pair = Pair(blockers=["VFIO migration is not supported in kernel"])

        error = pair.refusal(uri="qemu+tls://nowhere/system")

        assert error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID
        assert "cannot migrate domain: VFIO" in str(error)

    def test_an_old_libvirt_does_not_migrate_mdevs(self):
        """Before 8.6.0 every mdev is a refusal."""
        pair = Pair()
        pair.source.libvirt_version = (8, 5, 0)

        error = pair.refusal()

        assert "cannot migrate a domain with <hostdev" in str(error)

    def test_direct_migration_is_not_supported(self):
        """It must be peer to peer."""
        error = Pair().refusal(flags=libvirt.VIR_MIGRATE_LIVE)

        assert error.get_error_code() == libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED

    def test_an_unknown_peer(self):
        """The source cannot connect to it."""
        error = Pair().refusal(uri="qemu+tls://nowhere/system")

        assert "Failed to connect to remote libvirt URI" in str(error)

    def test_the_same_host_twice(self):
        """Two hosts that say the same UUID count as one."""
        pair = Pair()
        pair.destination.host_uuid = pair.source.host_uuid

        assert "the same host" in str(pair.refusal())

    def test_a_target_mdev_that_is_not_there(self):
        """The destination says so before the copy."""
        error = Pair(target_type=None).refusal()

        assert error.get_error_code() == libvirt.VIR_ERR_DEVICE_MISSING

    def test_a_target_mdev_in_use(self):
        """The destination says who has it."""
        pair = Pair()
        pair.destination.add_guest("other", OTHER, [TARGET_MDEV])

        with pytest.raises(libvirt.libvirtError, match="domain other"):
            pair.migrate()

        pair.group.check_invariants()

    @pytest.mark.parametrize(
        ("flag", "text"),
        [
            (libvirt.VIR_MIGRATE_POSTCOPY, "with postcopy migration"),
            (libvirt.VIR_MIGRATE_TUNNELLED, "return-path"),
        ],
    )
    def test_flags_that_devices_cannot_follow(self, flag, text):
        """QEMU refuses them when the migration starts."""
        pair = Pair()

        error = pair.refusal(flags=MOVE | flag)

        assert text in str(error)
        assert pair.destination.unusable_mdevs() == set()

    @pytest.mark.parametrize(
        ("old", "new", "text"),
        [
            ('bus="0x02"', 'bus="0x03"', "PCI address"),
            ("<name>vm</name>", "<name>vm2</name>", "domain name"),
            (GUEST, OTHER, "Target domain uuid"),
            ("65536", "32768", "max memory"),
        ],
    )
    def test_a_document_that_the_guest_would_notice(self, old, new, text):
        """The guest's own view must not change."""
        pair = Pair()
        document = pair.guest.XMLDesc(MIGRATABLE).replace(old, new)

        assert text in str(pair.refusal(destination_xml=document))

    def test_a_hostdev_less(self):
        """The number of host devices must not change."""
        empty = testing.guest_document("vm", GUEST, [])

        error = Pair().refusal(destination_xml=empty)

        assert "count 0 does not match source 1" in str(error)

    @pytest.mark.parametrize("which", ["destination_xml", "persistent_xml"])
    def test_a_broken_document(self, which):
        """Both documents are parsed before anything is copied."""
        pair = Pair()

        pair.refusal(**{which: "<domain"})

        assert pair.destination.unusable_mdevs() == set()


class TestFailedAfterTheCopyBegan:
    """The guest goes on at the source; the target mdev is spoiled."""

    def test_a_target_mdev_of_another_type(self):
        """QEMU sees the difference only when it loads the state."""
        pair = Pair(target_type="mtty-2")

        error = pair.refusal()

        assert "load of migration failed: Bad address" in str(error)
        assert pair.destination.unusable_mdevs() == {TARGET_MDEV}

    def test_a_spoiled_target_mdev_fails_again(self):
        """It cannot be used for another incoming migration."""
        pair = Pair()
        spoil(pair)

        error = pair.refusal()

        assert "Bad file descriptor" in str(error)

    def test_a_spoiled_target_mdev_crashes_the_host(self):
        """A guest that starts on it takes the kernel down."""
        pair = Pair()
        spoil(pair)

        with pytest.raises(libvirt.libvirtError):
            pair.destination.add_guest("other", OTHER, [TARGET_MDEV])

        assert "kernel oops" in pair.destination.crashed
        with pytest.raises(AssertionError, match="crashed"):
            pair.group.check_invariants()

    def test_destroyed_and_created_again_it_is_good(self):
        """That is the way to mend a spoiled mdev."""
        pair = Pair()
        spoil(pair)
        connection = pair.destination.open()
        name = f"mdev_{TARGET_MDEV.replace('-', '_')}_mtty"
        connection.nodeDeviceLookupByName(name).destroy()
        pair.destination.add_mdev(TARGET_MDEV, "mtty-1")

        pair.migrate()

        assert pair.destination.running_guests() == {GUEST}

    def test_an_aborted_job(self):
        """The client's abort ends it with an error of its own."""
        pair = Pair()

        with pair.held("copy", 3) as ending:
            progress = pair.guest.jobStats()
            pair.guest.abortJob()

        error = ending.exception(LIMIT_S)
        assert error.get_error_code() == libvirt.VIR_ERR_OPERATION_ABORTED
        assert 0 < progress["memory_remaining"] < progress["memory_total"]
        assert pair.source.running_guests() == {GUEST}

    def test_the_destination_daemon_stops(self):
        """The source notices; what came in dies when the daemon is back."""
        pair = Pair()

        with pair.held("copy", 3) as ending:
            pair.destination.stop_daemon()
        error = ending.exception(LIMIT_S)
        pair.destination.start_daemon()

        assert "Lost connection to destination host" in str(error)
        assert pair.destination.used_mdevs() == {}
        assert pair.destination.unusable_mdevs() == {TARGET_MDEV}
        assert pair.source.running_guests() == {GUEST}

    def test_the_source_daemon_stops(self):
        """The client hears nothing more, and the guest stays."""
        pair = Pair()

        with pair.held("copy", 3) as ending:
            pair.source.stop_daemon()
            error = ending.exception(LIMIT_S)
        pair.group.wait_for_migrations(LIMIT_S)
        pair.source.start_daemon()

        assert "End of file" in str(error)
        assert pair.source.running_guests() == {GUEST}
        assert pair.destination.used_mdevs() == {}

    def test_the_guest_stops_meanwhile(self):
        """There is nothing to migrate then."""
        pair = Pair()

        with pair.held("copy", 3) as ending:
            pair.guest.destroy()

        assert isinstance(ending.exception(LIMIT_S), libvirt.libvirtError)
        pair.group.check_invariants()


class TestOfTheHostNotTheClient:
    def test_a_broken_client_connection_does_not_stop_it(self):
        """The client gets an error at once; the guest moves all the same."""
        pair = Pair()

        with pair.held("copy", 3) as ending:
            pair.source.cut_connections()
            error = ending.exception(LIMIT_S)
        pair.group.wait_for_migrations(LIMIT_S)

        assert "End of file" in str(error)
        assert pair.destination.running_guests() == {GUEST}

    def test_a_dead_client_does_not_stop_it(self):
        """The process is gone; the guest moves all the same."""
        pair = Pair()

        with pair.held("copy", 3) as ending:
            pair.group.kill_process()
            error = ending.exception(LIMIT_S)
        pair.group.wait_for_migrations(LIMIT_S)

        assert isinstance(error, testing.ProcessDied)
        assert pair.destination.running_guests() == {GUEST}

    def test_one_migration_at_a_time(self):
        """A second one of the same guest is refused."""
        pair = Pair()

        with (
            pair.held("copy", 3) as ending,
            pytest.raises(libvirt.libvirtError) as error,
        ):
            pair.migrate()

        code = error.value.get_error_code()
        assert code == libvirt.VIR_ERR_OPERATION_TIMEOUT
        assert ending.exception(LIMIT_S) is None

    def test_an_incoming_guest_is_listed_as_paused(self):
        """The destination shows it, and holds the mdev for it."""
        pair = Pair()

        with pair.held("copy", 3):
            (guest,) = pair.destination.open().listAllDomains()
            state, used = guest.state(), pair.destination.used_mdevs()

        assert state == [
            libvirt.VIR_DOMAIN_PAUSED,
            libvirt.VIR_DOMAIN_PAUSED_MIGRATION,
        ]
        assert used == {TARGET_MDEV: "vm"}

    def test_the_source_is_paused_at_the_switch_over(self):
        """Neither host runs it then; both say that a migration is why."""
        pair = Pair()

        with pair.held("finish"):
            states = [
                host.open().lookupByName("vm").state()
                for host in (pair.source, pair.destination)
            ]

        paused = [
            libvirt.VIR_DOMAIN_PAUSED,
            libvirt.VIR_DOMAIN_PAUSED_MIGRATION,
        ]
        assert states == [paused, paused]
        assert pair.destination.open().lookupByName("vm").state() == [
            libvirt.VIR_DOMAIN_RUNNING,
            libvirt.VIR_DOMAIN_RUNNING_MIGRATED,
        ]

    def test_a_guest_that_is_paused_arrives_so(self):
        """The reason is whoever paused it, not the migration."""
        pair = Pair()
        pair.guest.suspend()

        pair.migrate()

        assert pair.destination.open().lookupByName("vm").state() == [
            libvirt.VIR_DOMAIN_PAUSED,
            libvirt.VIR_DOMAIN_PAUSED_USER,
        ]

    def test_a_guest_that_is_paused_meanwhile_goes_on(self):
        """As with virsh, which pauses one whose migration takes too long."""
        pair = Pair()

        with pair.held("copy", 3):
            pair.guest.suspend()
            here = pair.guest.state()
        pair.group.wait_for_migrations()

        assert here[1] == libvirt.VIR_DOMAIN_PAUSED_MIGRATION
        assert pair.destination.open().lookupByName("vm").state() == [
            libvirt.VIR_DOMAIN_RUNNING,
            libvirt.VIR_DOMAIN_RUNNING_MIGRATED,
        ]

    @pytest.mark.parametrize("name", ["suspend", "resume"])
    def test_nobody_pauses_what_comes_in(self, name):
        """Its job is not over."""
        pair = Pair()

        with pair.held("copy", 3):
            guest = pair.destination.open().lookupByName("vm")
            with pytest.raises(libvirt.libvirtError, match="state change"):
                getattr(guest, name)()

    def test_a_copy_that_fails_at_last_lets_the_source_go_on(self):
        """It was paused for the switch-over that did not come."""
        pair = Pair(target_type="mtty-2")

        with pytest.raises(libvirt.libvirtError):
            pair.migrate()

        assert pair.guest.state() == [
            libvirt.VIR_DOMAIN_RUNNING,
            libvirt.VIR_DOMAIN_RUNNING_MIGRATION_CANCELED,
        ]


class TestProgress:
    def test_before_the_copy_there_are_no_totals(self):
        """The job runs, and nothing is known of its size."""
        pair = Pair()

        with pair.held("copy", 1):
            figures = pair.guest.jobStats()

        assert figures["type"] == libvirt.VIR_DOMAIN_JOB_UNBOUNDED
        assert figures["memory_total"] == 0
        assert "vfio_data_transferred" not in figures

    @pytest.mark.parametrize(
        ("version", "told"), [((10, 5, 0), False), ((10, 6, 0), True)]
    )
    def test_device_state_is_told_since_10_6(self, version, told):
        """Older libvirt says nothing of it."""
        pair = Pair()
        pair.source.libvirt_version = version

        with pair.held("load"):
            figures = pair.guest.jobStats()
            info = pair.guest.jobInfo()

        assert ("vfio_data_transferred" in figures) is told
        assert info[6] == figures["memory_total"] > 0

    def test_device_state_is_told_last(self):
        """As on real hosts, nothing is known of it while memory is copied."""
        pair = Pair()

        with pair.held("copy", 3):
            figures = pair.guest.jobStats()

        assert figures["memory_remaining"] > 0
        assert "vfio_data_transferred" not in figures

    def test_without_a_job_there_is_nothing_to_tell_or_abort(self):
        """An idle guest has neither."""
        guest = Pair().guest

        with pytest.raises(libvirt.libvirtError, match="no job is active"):
            guest.abortJob()

        idle = {"type": libvirt.VIR_DOMAIN_JOB_NONE}
        completed = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED
        assert guest.jobStats() == guest.jobStats(completed) == idle


class TestDowntime:
    def test_a_longer_pause_ends_an_endless_copy(self):
        """The copy goes on until the limit allows the pause needed."""
        pair = Pair()
        pair.source.required_downtime_ms = 2_000

        last = threading.Event()
        pair.group.pace = lambda step: (
            last.set() if step.number == pair.group.copy_rounds else None
        )

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            ending = pool.submit(pair.migrate)
            assert last.wait(LIMIT_S)
            early = ending.done()
            pair.guest.migrateSetMaxDowntime(2_000)
            ending.result(LIMIT_S)

        assert not early
        assert pair.destination.running_guests() == {GUEST}

    def test_more_than_qemu_allows_is_refused(self):
        """2000 seconds are the most."""
        with pytest.raises(libvirt.libvirtError, match="2000000"):
            Pair().guest.migrateSetMaxDowntime(2_000_001)


def spoil(pair):
    """Let an incoming migration fail after the copy has begun."""

    def abort(step):
        if step.phase == "load":
            raise RuntimeError

    pair.group.pace = abort
    with pytest.raises(RuntimeError):
        pair.migrate()
    pair.group.pace = lambda step: None
