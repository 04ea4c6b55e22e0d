# SPDX-License-Identifier: Apache-2.0
"""Is a migration that fails undone, so that a retry succeeds?"""

import dataclasses
import threading

import libvirt
import pytest
from lxml import etree

from mdev_migrate import exception, model, testing
from mdev_migrate.core import claim_xml, downtime
from mdev_migrate.core.phases import Step
from mdev_migrate.limits import Limits
from mdev_migrate.testing import guests
from mdev_migrate.workflow import GuestMigration, Options, Outcome
from mdev_migrate.workflow.limit import DowntimeLimit
from tests import builders, scenes

TYPES = ("mtty-1", "mtty-2")
SPARE = ("mtty-1",)


def _error(detail="out of luck", code=libvirt.VIR_ERR_INTERNAL_ERROR):
    return testing.libvirt_error(code, detail)


def _at(phase, number, act):
    """Return a pace that acts once, at a step of the migration.

    What asks for blockers only begins, and is not meant.
    """
    met = []

    def pace(step):
        if (step.phase, step.number) == (phase, number):
            met.append(step)
            if len(met) == (2 if phase == "begin" else 1):
                act()

    return pace


def _raise(error):
    def act():
        raise error

    return act


class _At(scenes.Silent):
    """Does something when a step begins."""

    def __init__(self, step, act):
        self._step = step
        self._act = act

    def step(self, step, detail):
        if step is self._step:
            self._act()


def _lose_peer(scene):
    scene.group.pace = _at("copy", 3, scene.there.stop_daemon)


def _assert_undone_and_retried(scene, outcome):
    """Check all promises, now and after a retry, which must succeed."""
    assert outcome.result == "failed"
    assert scene.broken_promises(outcome) == []
    again = scene.migrate()
    assert (again.result, scene.broken_promises(again)) == ("migrated", [])


FAILING_CALLS = {
    "creation": ("nodeDeviceCreateXML", "host-b", 1),
    "second creation": ("nodeDeviceCreateXML", "host-b", 2),
    "migration": ("migrateToURI3", "host-a", 2),
    "downtime": ("migrateSetMaxDowntime", "host-a", 1),
}


@pytest.mark.parametrize(
    ("name", "host", "nth"), FAILING_CALLS.values(), ids=FAILING_CALLS
)
@pytest.mark.parametrize("persistent", [False, True])
def test_a_call_that_fails(name, host, nth, persistent):
    """The guest stays, all is as before, and a retry succeeds."""
    scene = scenes.Scene(
        (*TYPES, "mtty-2"), SPARE, persistent=persistent, persistent_mdevs=True
    )
    effect = testing.fail(_error())
    for again in range(2 if name == "nodeDeviceCreateXML" else 1):
        scene.group.faults.on(name, effect, host=host, nth=nth + again)

    outcome = scene.migrate(options=Options(max_downtime_ms=500))

    scene.group.faults.clear()
    _assert_undone_and_retried(scene, outcome)


@pytest.mark.parametrize(
    ("phase", "number"),
    [("begin", 0), ("prepare", 0), ("copy", 1), ("copy", 10), ("load", 0)],
)
def test_the_migration_fails_at_any_phase(phase, number):
    """Targets that took part are destroyed, or made anew if reused."""
    scene = scenes.Scene(TYPES, SPARE)
    scene.group.pace = _at(phase, number, _raise(_error()))

    outcome = scene.migrate()

    assert isinstance(outcome.error, exception.MigrationFailed)
    assert outcome.error.reason == "internal error: out of luck"
    _assert_undone_and_retried(scene, outcome)


def test_mtty_2_in_place_of_mtty_1():
    """A target that changed its type is found out, and made anew."""
    scene = scenes.Scene(["mtty-1"], SPARE)
    reused = builders.uuid(scenes.SPARE)

    def swap():
        (device,) = (
            device
            for device in scene.there.open().listAllDevices(0)
            if device.name().startswith("mdev_")
        )
        document = device.XMLDesc(0).replace("mtty-1", "mtty-2")
        device.destroy()
        scene.there.open().nodeDeviceCreateXML(document)

    outcome = scene.migrate(observer=_At(Step.PREPARE, swap))

    assert isinstance(outcome.error, exception.MigrationFailed)
    assert scene.there.mdevs()[reused].mdev_type == "mtty-1"
    _assert_undone_and_retried(scene, outcome)


@pytest.mark.parametrize("step", [Step.PREPARE, Step.MIGRATE])
def test_created_target_vanishes(step):
    """Somebody else removes it: an error, and no trace of ours."""
    scene = scenes.Scene(["mtty-2"])

    def vanish():
        for device in scene.there.open().listAllDevices(0):
            if device.name().startswith("mdev_"):
                device.destroy()

    outcome = scene.migrate(observer=_At(step, vanish))

    _assert_undone_and_retried(scene, outcome)


def test_reused_target_vanishes_before_the_claim():
    """Another one is chosen in its place."""
    scene = scenes.Scene(["mtty-1"], SPARE)

    def vanish():
        for device in scene.there.open().listAllDevices(0):
            if device.name().startswith("mdev_"):
                device.destroy()

    outcome = scene.migrate(observer=_At(Step.CLAIM, vanish))

    assert scene.missed(outcome) == []


def test_created_mdev_that_is_never_listed():
    """It is not waited for without end, and not left behind."""
    scene = scenes.Scene(TYPES)
    scene.there.udev_lag = 10**9

    outcome = scene.migrate()

    scene.there.udev_lag = 0
    scene.there.notice_mdevs()
    assert isinstance(outcome.error, exception.TargetMdevGone)


def test_downtime_refused_by_qemu():
    """A limit that libvirt does not take ends it before the copy."""
    scene = scenes.Scene(TYPES, SPARE)
    scene.group.faults.on(
        "migrateSetMaxDowntime", testing.fail(_error("no such parameter"))
    )

    outcome = scene.migrate(options=Options(max_downtime_ms=900))

    assert (outcome.step, outcome.error.reason) == (
        Step.PREPARE,
        "internal error: no such parameter",
    )


def test_source_connection_lost_during_the_copy():
    """The migration goes on and ends; its guest is found there."""
    scene = scenes.Scene(TYPES, SPARE)
    scene.group.pace = _at("copy", 3, scene.here.cut_connections)

    outcome = scene.migrate()

    scene.group.wait_for_migrations()
    assert scene.broken_promises(outcome) == []


def test_both_connections_lost_during_the_copy():
    """Whatever the migration does, what is told is where the guest is."""
    scene = scenes.Scene(TYPES, SPARE)

    def cut():
        scene.here.cut_connections()
        scene.there.cut_connections()

    scene.group.pace = _at("copy", 3, cut)

    outcome = scene.migrate()

    scene.group.wait_for_migrations()
    assert scene.broken_promises(outcome) == []


def test_answer_lost_after_success():
    """A guest that arrived though the call failed has migrated."""
    scene = scenes.Scene(TYPES, SPARE)
    scene.group.faults.on("migrateToURI3", testing.lose_answer(), nth=2)

    outcome = scene.migrate()

    assert outcome.result == "migrated"
    assert any("arrived in spite of" in text for text in outcome.warnings)
    assert scene.missed(outcome) == []


def test_destination_daemon_restarts_during_the_copy():
    """The guest stays, and the targets are cleaned when it is back."""
    scene = scenes.Scene(TYPES, SPARE)

    def restart():
        scene.there.stop_daemon()
        scene.there.start_daemon()

    scene.group.pace = _at("copy", 3, restart)

    outcome = scene.migrate()

    _assert_undone_and_retried(scene, outcome)


def test_destination_daemon_stays_away():
    """What could not be undone keeps its claim, so nobody is given it."""
    scene = scenes.Scene(TYPES, SPARE)
    _lose_peer(scene)

    outcome = scene.migrate()

    assert outcome.result == "failed"
    assert any(text.startswith("not undone") for text in outcome.warnings)
    assert [c.instance_uuid for c in scene.claims()] == [builders.INSTANCE]
    assert scene.where() == ["host-a"]


def test_destination_daemon_comes_back_while_undoing():
    """It is waited for, within the limit, and then all is undone."""
    limits = dataclasses.replace(scenes.LIMITS, busy_s=10)
    scene = scenes.Scene(TYPES, SPARE, limits=limits)
    _lose_peer(scene)
    tries = []

    def connect(uri, connect=scene.connect):
        tries.append(uri)
        if uri == scene.there.uris[0] and len(tries) > 6:
            scene.there.start_daemon()
        return connect(uri)

    scene.connect = connect

    outcome = scene.migrate()

    _assert_undone_and_retried(scene, outcome)


def test_source_daemon_restarts_during_the_copy():
    """The guest stays on the source, and all is undone."""
    scene = scenes.Scene(TYPES, SPARE)

    def restart():
        scene.here.stop_daemon()
        scene.here.start_daemon()

    scene.group.pace = _at("copy", 3, restart)

    outcome = scene.migrate()

    _assert_undone_and_retried(scene, outcome)


def test_source_daemon_stays_away():
    """Where the guest is cannot be told: nothing is undone."""
    limits = Limits(busy_s=0.01, settle_s=0.05, poll_s=0.001)
    scene = scenes.Scene(TYPES, SPARE, limits=limits)
    scene.group.pace = _at("copy", 3, scene.here.stop_daemon)

    outcome = scene.migrate()

    assert isinstance(outcome.error, exception.OutcomeUnknown)
    assert [c.instance_uuid for c in scene.claims()] == [builders.INSTANCE]
    assert len(scene.there.mdevs()) == 2


@pytest.mark.parametrize("phase", ["begin", "copy"])
def test_stop_aborts(phase):
    """The job is aborted on request, and everything is undone."""
    scene = scenes.Scene(TYPES, SPARE)
    stop = threading.Event()
    scene.here.required_downtime_ms = 20_000
    number = 3 if phase == "copy" else 0
    scene.group.pace = _at(phase, number, stop.set)

    outcome = scene.migrate(stop=stop)

    scene.here.required_downtime_ms = 0
    assert isinstance(outcome.error, exception.MigrationAborted)
    _assert_undone_and_retried(scene, outcome)


@pytest.mark.parametrize("step", [Step.CHECK, Step.CREATE, Step.PREPARE])
def test_stop_before_the_migration(step):
    """A request that comes early is heeded, and everything is undone."""
    scene = scenes.Scene(TYPES, SPARE)
    stop = threading.Event()

    outcome = scene.migrate(stop=stop, observer=_At(step, stop.set))

    assert isinstance(outcome.error, exception.MigrationAborted)
    _assert_undone_and_retried(scene, outcome)


def test_interrupt_during_the_copy():
    """Ctrl-C aborts the job as a request does."""
    scene = scenes.Scene(TYPES, SPARE)
    scene.here.required_downtime_ms = 20_000

    class Interrupted(scenes.Silent):
        def progress(self, progress, elapsed_s):
            raise KeyboardInterrupt

    outcome = scene.migrate(observer=Interrupted())

    scene.here.required_downtime_ms = 0
    assert isinstance(outcome.error, exception.MigrationAborted)
    _assert_undone_and_retried(scene, outcome)


def test_interrupt_before_the_migration():
    """Ctrl-C while mdevs are created leaves none of them."""
    scene = scenes.Scene(TYPES, SPARE)

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scene.migrate(observer=_At(Step.PREPARE, interrupt))

    assert (scene.snapshot(), scene.claims()) == (scene.before, ())


def test_time_limit():
    """A migration that does not converge is aborted after its time."""
    scene = scenes.Scene(TYPES, SPARE)
    scene.here.required_downtime_ms = 20_000

    outcome = scene.migrate(options=Options(timeout_s=0.02))

    scene.here.required_downtime_ms = 0
    assert str(outcome.error).endswith("not done within 0.02 s")
    _assert_undone_and_retried(scene, outcome)


class _Hears(scenes.Silent):
    """Hears what is done about the downtime limit."""

    def __init__(self):
        self.advices = []
        self.limits = []
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)

    def progress(self, progress, elapsed_s):
        self.limits.append(progress.limit_ms)

    def downtime(self, advice):
        self.advices.append(advice)


def _limit_of(scene):
    """Return the downtime limit that QEMU has, whoever asks."""
    return scene.here.guests.state(builders.INSTANCE).max_downtime_ms


def test_taken_when_memory_was_sent():
    """Only a guest of which nothing was sent goes to other mdevs at once."""
    scene = scenes.Scene(TYPES, SPARE)
    scene.here.required_downtime_ms = 20_000
    spare = builders.uuid(scenes.SPARE)
    guest = scene.here.open().lookupByName("vm")

    class Aborts(scenes.Silent):
        def progress(self, progress, elapsed_s):
            if progress.data_processed:
                guest.abortJob()

    def tell_of_use(_link, call):
        try:
            return call()
        except libvirt.libvirtError:
            raise _error(f"vfio {spare}: device in use") from None

    scene.group.faults.on("migrateToURI3", tell_of_use, nth=2)

    outcome = scene.migrate(observer=Aborts())

    scene.here.required_downtime_ms = 0
    assert type(outcome.error) is exception.MigrationFailed
    assert len(scene.here.requests) == 2  # What blocks it, was asked first.
    _assert_undone_and_retried(scene, outcome)


def test_devices_that_wait_for_bandwidth():
    """The bandwidth limit is lifted for a moment, and then the guest goes."""
    scene = scenes.Scene(TYPES, SPARE)
    scene.here.held_up_by_bandwidth = True
    hears = _Hears()

    outcome = scene.migrate(options=Options(bandwidth=2), observer=hears)

    assert outcome.result == "migrated", outcome.error
    assert [advice.action for advice in hears.advices] == ["lift"]


@pytest.mark.parametrize("before", [guests.MAX_SPEED, 777])
def test_bandwidth_limit_after_a_failure(before):
    """Lifted or not: the one that there was holds again if the guest stays."""
    scene = scenes.Scene(TYPES, SPARE)
    scene.here.held_up_by_bandwidth = True
    state = scene.here.guests.state(builders.INSTANCE)
    state.max_speed = before
    stop = threading.Event()
    held = []

    class Stops(_Hears):
        def progress(self, progress, elapsed_s):
            held.append(state.migration.speed)

        def downtime(self, advice):
            # Not even without a limit does it end.
            scene.here.required_downtime_ms = 20_000
            super().downtime(advice)
            if advice.action == "raise":
                stop.set()

    outcome = scene.migrate(
        options=Options(bandwidth=2), observer=Stops(), stop=stop
    )

    scene.here.required_downtime_ms = 0
    assert isinstance(outcome.error, exception.MigrationAborted)
    assert set(held) == {2, guests.MAX_SPEED}
    assert held.count(guests.MAX_SPEED) == 1
    assert state.max_speed == before
    scene.here.held_up_by_bandwidth = False
    _assert_undone_and_retried(scene, outcome)


def test_a_bandwidth_that_can_not_be_lifted():
    """That is said, and the migration goes on."""
    scene = scenes.Scene(TYPES, SPARE)
    scene.here.held_up_by_bandwidth = True
    scene.group.faults.on(
        "migrateSetMaxSpeed",
        testing.fail(testing.libvirt_error(38, "monitor is busy")),
        nth=1,
    )
    hears = _Hears()

    outcome = scene.migrate(options=Options(bandwidth=2), observer=hears)

    assert outcome.result == "migrated", outcome.error
    assert hears.advices[-1].action == "lift"
    assert any("bandwidth limit may not hold" in w for w in hears.warnings)


def test_a_guest_that_never_fits_is_given_up():
    """What does not end is said, aborted, and leaves nothing behind."""
    scene = scenes.Scene(TYPES, SPARE)
    scene.here.required_downtime_ms = 20_000
    hears = _Hears()

    outcome = scene.migrate(
        options=Options(max_downtime_ms=1000, stall_timeout_s=0.2),
        observer=hears,
    )

    scene.here.required_downtime_ms = 0
    assert [a.action for a in hears.advices] == ["raise", "say"]
    assert hears.advices[-1].needed_ms == 20_001  # 156 bytes of devices.
    assert isinstance(outcome.error, exception.MigrationAborted)
    assert "for 0.2 s with a downtime limit of 1000 ms; about 20001 ms" in str(
        outcome.error
    )
    _assert_undone_and_retried(scene, outcome)


def test_the_limit_stayed_on_the_source():
    """A migration that fails puts the guest's downtime limit back."""
    scene = scenes.Scene(TYPES, SPARE)
    scene.here.guests.state(builders.INSTANCE).max_downtime_ms = 777
    scene.group.pace = _at("load", 0, _raise(_error()))

    outcome = scene.migrate(options=Options(downtime_ms=5000))

    assert outcome.step == Step.MIGRATE
    assert _limit_of(scene) == 777


def test_the_limit_cannot_be_put_back():
    """That is said; all else is undone."""
    scene = scenes.Scene(TYPES, SPARE)
    refusal = testing.fail(_error("no such parameter"))

    def spoil():
        for nth in (1, 2):  # The job may be looked at before it fails.
            scene.group.faults.on(
                "migrateSetMaxDowntime", refusal, host="host-a", nth=nth
            )
        raise _error()

    scene.group.pace = _at("load", 0, spoil)

    outcome = scene.migrate(options=Options(downtime_ms=5000))

    assert (
        "not undone: the downtime limit: host host-a: "
        "virDomainMigrateSetMaxDowntime failed: internal error: no such "
        "parameter"
    ) in outcome.warnings
    assert not scene.claims()


def test_what_is_shown_is_what_holds():
    """A step that libvirt refuses is a warning, and is not shown as done."""
    scene = scenes.Scene(TYPES, SPARE)
    scene.here.required_downtime_ms = 20_000
    hears = _Hears()
    said = []
    hears.warn = said.append
    scene.group.faults.on(
        "migrateSetMaxDowntime", testing.fail(_error("too much")), nth=3
    )

    scene.migrate(
        options=Options(max_downtime_ms=600, stall_timeout_s=0.2),
        observer=hears,
    )

    assert set(hears.limits) == {300}
    assert any("the downtime limit may not hold: " in text for text in said)


@pytest.mark.parametrize("persistent", [True, False])
def test_a_limit_of_a_guest_that_has_left(persistent: bool):
    """It needs none any more: that is nothing to be warned of."""
    scene = scenes.Scene(TYPES, SPARE, persistent=persistent)
    hears = _Hears()

    def after_it_left(_link, call):
        scene.group.wait_for_migrations()
        return call()

    scene.group.faults.on(
        "migrateSetMaxDowntime", after_it_left, host="host-a", nth=2
    )
    with scene.group.hold("copy", 3) as gate:
        hears.progress = lambda job, _: job.data_total and gate.release()

        outcome = scene.migrate(observer=hears)

    assert outcome.result == "migrated", outcome.error
    assert not scene.group.faults.pending()
    assert not hears.warnings


def test_a_guest_that_stands_still_is_not_aborted():
    """The device's state may take longer than the patience for a copy."""
    scene = scenes.Scene(TYPES, SPARE)
    impatient = downtime.Policy(downtime.Bounds(stall_timeout_s=0.0))
    limit = DowntimeLimit(
        scene.host(scene.here), builders.INSTANCE, impatient, scenes.Silent()
    )
    reasons = {}

    def pace(step):
        if (step.phase, step.number) in (("copy", 3), ("load", 0)):
            reasons[step.phase] = limit.look(model.JobProgress())

    scene.group.pace = pace

    scene.migrate()

    assert reasons == {"copy": "nothing was sent for 0 s", "load": None}


def test_busy_target_keeps_its_claim():
    """What cannot be removed is not given to anybody else."""
    scene = scenes.Scene(["mtty-2"])
    scene.group.pace = _at("copy", 3, _raise(_error()))
    busy = testing.fail(_error("Unable to destroy: device in use"))
    for nth in range(1, 500):
        scene.group.faults.on("destroy", busy, host="host-b", nth=nth)

    outcome = scene.migrate()

    assert [c.instance_uuid for c in scene.claims()] == [builders.INSTANCE]
    assert "busy" in outcome.warnings[-1]


def test_busy_target_that_is_let_go_in_time():
    """It is tried again until the driver lets the mdev go."""
    scene = scenes.Scene(TYPES, SPARE)
    scene.group.pace = _at("copy", 3, _raise(_error()))
    busy = testing.fail(_error("Unable to destroy: device in use"))
    for nth in range(1, 5):
        scene.group.faults.on("destroy", busy, host="host-b", nth=nth)

    outcome = scene.migrate()

    _assert_undone_and_retried(scene, outcome)


def test_claim_that_is_damaged_on_the_way():
    """Its owner knows it all the same, and undoes what he has made."""
    scene = scenes.Scene(TYPES, SPARE)

    def damage_and_fail():
        for domain in scene.there.open().listAllDomains():
            if claim_xml.is_named_so(domain.name()):
                document = etree.fromstring(domain.XMLDesc(0))
                document.remove(document.find("metadata"))
                scene.there.open().defineXML(etree.tostring(document).decode())
        assert scene.claims() == ()
        raise _error()

    scene.group.pace = _at("copy", 3, damage_and_fail)

    outcome = scene.migrate()

    _assert_undone_and_retried(scene, outcome)


def test_call_that_hangs_until_its_limit():
    """A silent daemon ends the call, and the guest is looked for."""
    scene = scenes.Scene(TYPES, SPARE)
    hang = testing.hang(threading.Event(), 0.01)
    scene.group.faults.on("migrateToURI3", hang, nth=2)

    outcome = scene.migrate()

    _assert_undone_and_retried(scene, outcome)


def test_creation_refused_by_every_parent():
    """The reason that libvirt gave is told, not that there are too few."""
    full = ("card-1", 0)
    scene = scenes.Scene(
        ["nvidia-11"],
        source_parents=[
            testing.SriovParent("pci_0000_01_00_0", ["nvidia-11"])
        ],
        destination_parents=[
            testing.SriovParent(f"pci_0000_02_00_{n}", ["nvidia-11"], full)
            for n in range(4)
        ],
    )

    outcome = scene.migrate()

    assert isinstance(outcome.error, exception.MdevCreationFailed)
    assert "No space left on device" in str(outcome.error)
    assert scene.broken_promises(outcome) == []


def test_two_migrations_race_for_the_last_instance():
    """One guest gets it, the other is refused, and nothing is shared."""
    scene = scenes.Scene(["mtty-1"])
    scene.here.add_mdev(builders.uuid(9), "mtty-1")
    scene.here.add_guest("vm9", builders.instance(9), [builders.uuid(9)])
    held = [builders.uuid(0xC00 + n) for n in range(23)]
    for uuid in held:
        scene.there.add_mdev(uuid, "mtty-1")
    scene.there.add_guest("full", builders.instance(7), held)
    results = {}

    def migrate(name):
        results[name] = scene.migrate(name).result

    threads = [
        threading.Thread(target=migrate, args=(name,))
        for name in ("vm", "vm9")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(results.values()) in (
        ["migrated", "refused"],
        ["failed", "migrated"],
    )
    assert (scene.group.violations(), scene.claims()) == ([], ())


class _Overtaken(scenes.Silent):
    """Begins another migration of the guest, at a step, and holds it."""

    def __init__(self, scene: scenes.Scene, step: Step | None) -> None:
        self.outcomes: list[Outcome] = []
        self._step = step
        self._gate = scene.group.hold("copy", 3)
        self._first = threading.Thread(
            target=lambda: self.outcomes.append(scene.migrate())
        )

    def begin(self) -> None:
        self._gate.__enter__()
        self._first.start()
        self._gate.wait_reached()

    def step(self, step: Step, detail: str) -> None:
        if step is self._step and not self._first.ident:
            self.begin()

    def end(self) -> None:
        self._gate.release()
        self._first.join()


@pytest.mark.parametrize(
    ("step", "result"),
    [(None, "refused"), (Step.PLAN, "refused"), (Step.MIGRATE, "failed")],
)
def test_another_migration_of_the_guest_is_left_alone(step, result):
    """Whoever comes second, and to another host, does not abort the first."""
    scene = scenes.Scene(TYPES)
    third = scene.group.add_host("host-c", [testing.MttyParent()])
    other = _Overtaken(scene, step)
    if step is None:
        other.begin()

    second = GuestMigration(
        scene.host(scene.here),
        scene.destination(third),
        "vm",
        observer=other,
    ).run()
    held = scenes.claims_on(scene.there).all
    other.end()

    assert second.result == result
    assert (third.all_mdevs(), scenes.claims_on(third).all) == ([], ())
    assert [claim.instance_uuid for claim in held] == [builders.INSTANCE]
    assert [outcome.result for outcome in other.outcomes] == ["migrated"]
    assert scene.group.violations() == []


def test_created_but_noticed_too_late():
    """What libvirt made, and does not list yet, is not forgotten."""
    scene = scenes.Scene(["mtty-1"])
    scene.there.udev_lag = 9

    def create(_link, call):
        call()
        raise _error("no node device found", libvirt.VIR_ERR_NO_NODE_DEVICE)

    scene.group.faults.on("nodeDeviceCreateXML", create)

    outcome = scene.migrate()
    scene.there.notice_mdevs()

    _assert_undone_and_retried(scene, outcome)


def test_somebody_else_moves_it_to_a_third_host():
    """It is active on neither host, and must not be started on one."""
    scene = scenes.Scene(())
    third = scene.group.add_host("host-c", [testing.MttyParent()])

    def move(_link: object, _call: object) -> None:
        scene.here.open().lookupByName("vm").migrateToURI3(
            third.uris[0],
            {},
            libvirt.VIR_MIGRATE_LIVE
            | libvirt.VIR_MIGRATE_PEER2PEER
            | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
            | libvirt.VIR_MIGRATE_PERSIST_DEST,
        )
        raise testing.libvirt_error(
            libvirt.VIR_ERR_OPERATION_INVALID, "domain is not running"
        )

    scene.group.faults.on("migrateToURI3", move, nth=2)

    outcome = scene.migrate()

    assert isinstance(outcome.error, exception.GuestLost)
    assert outcome.error.hint.startswith("look for it with 'virsh list")
    assert scene.where() == ["host-c"]
    assert scene.claims() == ()
