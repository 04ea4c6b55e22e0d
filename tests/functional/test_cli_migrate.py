# SPDX-License-Identifier: Apache-2.0
"""How ``migrate`` and ``demo`` end, and what they leave behind."""

import dataclasses
import os
import signal

import libvirt
import pytest

from mdev_migrate import testing
from mdev_migrate.cli import progress, signals
from mdev_migrate.core.phases import Step
from mdev_migrate.model import JobProgress
from tests.functional.conftest import (
    INSTANCE,
    MDEV_1,
    MDEV_2,
    SIGNALS,
    TARGET,
    World,
)

KEYS = {
    "guest",
    "instance_uuid",
    "result",
    "target_mdevs",
    "source_mdev_types",
    "target_mdev_types",
    "seconds",
    "downtime_ms",
    "bytes",
    "device_bytes",
    "iterations",
    "limit_ms",
    "warnings",
    "kernels_unknown",
    "steps",
    "error",
}


def refuse_loading(world: World) -> None:
    """Let the destination's daemon stop when it is to load the guest."""

    def pace(step: testing.Step) -> None:
        if step.phase == "load":
            world.destination.stop_daemon()
            world.destination.start_daemon()

    world.group.pace = pace


def stays(world: World) -> bool:
    """Tell whether the guest runs on its source, on its source mdevs."""
    world.group.check_invariants()
    return world.source.used_mdevs() == {MDEV_1: "vm", MDEV_2: "vm"}


class TestMigrated:
    def test_json(self, world: World):
        """A program gets the pairs, the times and no error."""
        world.add_guest()
        world.destination.add_mdev(TARGET, "mtty-1")

        answer = world.run("migrate", "vm", "--to", world.there, "--json")

        found = answer.json
        targets = found["target_mdevs"]
        assert (answer.code, answer.err, found.keys()) == (0, "", KEYS)
        assert (found["guest"], found["instance_uuid"]) == ("vm", INSTANCE)
        assert (found["result"], found["error"]) == ("migrated", None)
        assert targets[MDEV_1] == TARGET
        assert world.destination.used_mdevs() == dict.fromkeys(
            targets.values(), "vm"
        )
        assert [found["source_mdev_types"][source] for source in targets] == [
            found["target_mdev_types"][target] for target in targets.values()
        ]
        assert isinstance(found["downtime_ms"], int)
        assert found["bytes"] > 0
        assert found["steps"].keys() == {step.value for step in Step}
        assert sum(found["steps"].values()) <= found["seconds"] + 0.01

    def test_people(self, world: World):
        """Steps go to stderr, pairs and a summary to stdout."""
        world.add_guest({MDEV_1: "mtty-1"})
        world.destination.add_mdev(TARGET, "mtty-1")

        answer = world.run("migrate", "vm", "--to", world.there)

        assert answer.code == 0
        assert f"{MDEV_1}  ->  {TARGET}  mtty-1\n" in answer.out
        assert answer.out.splitlines()[-1].startswith("migrated: guest vm in ")
        said = [line for line in answer.err.splitlines() if line[0] != " "]
        assert [line.split(":")[0] for line in said] == [
            step.value for step in Step if step is not Step.CONNECT
        ]

    def test_verbose_tells_seconds_of_each_step(self, world: World):
        """An operator who asks for more sees where the time went."""
        world.add_guest()

        answer = world.run("migrate", "vm", "--to", world.there, "-v")

        assert "\nmigrate: 0." in answer.out

    def test_guest_without_mdevs(self, world: World):
        """It is migrated as any other guest."""
        world.add_guest({})

        answer = world.run("migrate", "vm", "--to", world.there, "--json")

        assert (answer.code, answer.json["result"]) == (0, "migrated")
        assert answer.json["target_mdevs"] == {}
        assert world.destination.running_guests() == {INSTANCE}

    def test_limits_reach_libvirt(self, world: World):
        """A downtime limit that suffices lets the guest move."""
        world.add_guest()
        world.source.required_downtime_ms = 900

        answer = world.run(
            "migrate",
            "vm",
            "--to",
            world.there,
            *("--max-downtime", "1000", "--bandwidth", "100"),
            *("--timeout", "60", "--migrate-uri", "tcp://192.0.2.7"),
            *("--peer-uri", world.there, "--json"),
        )

        assert answer.json["downtime_ms"] == 900


class TestNotMigrated:
    def test_refused(self, world: World):
        """A refusal names its step and changes nothing."""
        world.add_guest(blockers=["no VFIO migration"])
        before = world.snapshot()

        answer = world.run("migrate", "vm", "--to", world.there, "--json")

        found = answer.json
        assert (answer.code, found.keys()) == (1, KEYS)
        assert found["result"] == "refused"
        assert found["error"].keys() == {"code", "step", "message", "hint"}
        assert found["error"]["code"] == "migration-blocked"
        assert found["error"]["step"] == "check"
        assert world.snapshot() == before

    def test_unknown_guest(self, world: World):
        """The guest is called as the user called it."""
        answer = world.run("migrate", "nobody", "--to", world.there, "--json")

        found = answer.json
        assert (answer.code, found.keys()) == (1, KEYS)
        assert (found["guest"], found["instance_uuid"]) == ("nobody", None)
        assert found["error"]["code"] == "guest-not-found"

    def test_unreachable(self, world: World):
        """When nothing was begun, the step is 'connect'."""
        answer = world.run(
            "migrate", "vm", "--to", "qemu+tls://nowhere/system", "--json"
        )

        found = answer.json
        assert (answer.code, found.keys()) == (3, KEYS)
        assert (found["result"], found["error"]["step"]) == (
            "failed",
            "connect",
        )

    def test_failed_creation(self, world: World):
        """What libvirt said of a creation is told; nothing stays."""
        world.add_guest()
        before = world.snapshot()
        world.group.faults.on(
            "nodeDeviceCreateXML",
            testing.fail(
                testing.libvirt_error(
                    libvirt.VIR_ERR_INTERNAL_ERROR, "mdevctl is ill"
                )
            ),
        )

        answer = world.run("migrate", "vm", "--to", world.there, "--json")

        found = answer.json
        assert (answer.code, found["result"]) == (1, "failed")
        assert found["error"]["code"] == "mdev-creation-failed"
        assert "mdevctl is ill" in found["error"]["message"]
        assert world.snapshot() == before

    def test_failed_migration(self, world: World):
        """The guest stays, and nothing that was made is left."""
        world.add_guest()
        world.destination.add_mdev(TARGET, "mtty-1")
        refuse_loading(world)

        answer = world.run("migrate", "vm", "--to", world.there, "--json")

        found = answer.json
        assert (answer.code, found["result"]) == (1, "failed")
        assert found["error"]["code"] == "migration-failed"
        assert found["error"]["step"] == "migrate"
        assert list(world.destination.mdevs()) == [TARGET]
        assert not world.destination.unusable_mdevs()
        assert stays(world)

    def test_failed_migration_for_people(self, world: World):
        """Errors go to stderr: what, why, and where the guest is now."""
        world.add_guest()
        refuse_loading(world)

        answer = world.run("migrate", "vm", "--to", world.there)

        said = answer.err.splitlines()
        assert (answer.code, answer.out) == (1, "")
        assert any(line.startswith("error: guest vm: ") for line in said)
        assert "code: migration-failed" in said
        assert "; it stays on the source, all else was undone" in answer.err
        assert "--peer-uri" not in answer.err

    def test_timeout(self, world: World):
        """A migration that takes too long is aborted and undone."""
        world.add_guest()
        world.source.required_downtime_ms = 20_000

        answer = world.run(
            "migrate", "vm", "--to", world.there, "--timeout", "0.1", "--json"
        )

        assert answer.code == 1
        assert answer.json["error"]["code"] == "migration-aborted"
        assert not world.destination.mdevs()
        assert stays(world)

    def test_connection_lost(self, world: World):
        """A lost connection to the source does not lose the guest."""
        world.add_guest()
        world.group.faults.on(
            "migrateToURI3", testing.lose_connection(), nth=2
        )

        answer = world.run("migrate", "vm", "--to", world.there, "--json")

        assert answer.code == 1
        assert answer.json["error"]["code"] == "migration-failed"
        assert stays(world)

    def test_outcome_unknown(self, world: World):
        """If nobody can tell where the guest runs, the exit code is 3."""
        world.add_guest()
        world.limits = world.limits.__class__(
            listed_s=1, busy_s=0.1, settle_s=0.1, poll_s=0.01
        )

        def pace(step: testing.Step) -> None:
            if step.phase == "load":
                world.source.stop_daemon()

        world.group.pace = pace

        answer = world.run("migrate", "vm", "--to", world.there)

        assert answer.code == 3
        assert "code: outcome-unknown\n" in answer.err
        assert f"may run on {world.here} or on {world.there}" in answer.err
        assert (
            f"'mdev-migrate -c {world.there} recover --source {world.here}'"
        ) in answer.err
        assert "'virsh -c HOST domstate --reason vm'" in answer.err
        assert "where it runs is not known, so nothing was undone" in (
            answer.err
        )

    def test_not_all_undone(self, world: World):
        """What could not be undone is named, and not denied."""
        world.add_guest({MDEV_1: "mtty-1"})
        refuse_loading(world)
        for number in range(1, 200):
            world.group.faults.on(
                "destroy",
                testing.fail(
                    testing.libvirt_error(
                        libvirt.VIR_ERR_INTERNAL_ERROR, "it is busy"
                    )
                ),
                nth=number,
            )

        answer = world.run("migrate", "vm", "--to", world.there)

        assert answer.code == 1
        assert "; it stays on the source; not all could be undone" in (
            answer.err
        )
        assert "warning: not undone: host host-b: mdev " in answer.err

    def test_guest_not_on_targets(self, world: World):
        """A guest that arrived otherwise than planned is looked for there."""
        world.add_guest({MDEV_1: "mtty-1"})

        def pace(step: testing.Step) -> None:
            if step.phase == "finish":
                for number in range(1, 200):
                    world.group.faults.on(
                        "state",
                        lambda _link, _call: [libvirt.VIR_DOMAIN_SHUTOFF, 0],
                        host="host-b",
                        nth=number,
                    )

        world.group.pace = pace

        answer = world.run("migrate", "vm", "--to", world.there)

        assert answer.code == 1
        assert "code: guest-not-on-targets\n" in answer.err
        assert "; it is shut off on the destination\n" in answer.err


@pytest.fixture
def _patient(world: World) -> None:
    """Wait for an abort however long a busy machine takes for it."""
    world.limits = dataclasses.replace(world.limits, settle_s=60, busy_s=30)


@pytest.mark.usefixtures("heard", "_patient")
class TestSignals:
    @pytest.mark.parametrize("number", SIGNALS)
    def test_stops_in_order(self, world: World, number: signal.Signals):
        """A signal aborts the migration and undoes what was prepared."""
        world.add_guest()
        world.source.required_downtime_ms = 20_000
        before = [signal.getsignal(each) for each in SIGNALS]

        def pace(step: testing.Step) -> None:
            if (step.phase, step.number) == ("copy", 3):
                os.kill(os.getpid(), number)

        world.group.pace = pace

        answer = world.run("migrate", "vm", "--to", world.there)

        assert answer.code == 1
        assert "asked to stop: " in answer.err
        assert "code: migration-aborted" in answer.err
        assert not world.destination.mdevs()
        assert stays(world)
        assert [signal.getsignal(each) for each in SIGNALS] == before

    def test_second_signal_asks_for_patience(self, world: World):
        """A rollback is not interrupted; who is impatient is told so."""
        world.add_guest()
        world.source.required_downtime_ms = 20_000

        def pace(step: testing.Step) -> None:
            if (step.phase, step.number) == ("copy", 3):
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGHUP)

        world.group.pace = pace

        answer = world.run("migrate", "vm", "--to", world.there)

        assert answer.code == 1
        assert "still rolling back; " in answer.err
        assert stays(world)

    def test_ignored_signal_stays_ignored(self, world: World):
        """What nohup ignores does not stop a migration."""
        world.add_guest()
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)

        def pace(step: testing.Step) -> None:
            if (step.phase, step.number) == ("copy", 3):
                os.kill(os.getpid(), signal.SIGHUP)

        world.group.pace = pace
        try:
            answer = world.run("migrate", "vm", "--to", world.there)
        finally:
            signal.signal(signal.SIGHUP, before)

        assert (answer.code, "asked to stop" in answer.err) == (0, False)

    def test_signal_in_the_middle_of_a_line(self):
        """What cannot be said then is said when the line is written."""
        said: list[str] = []

        def say(text: str) -> None:
            if len(tried) < 2:
                tried.append(text)
                raise RuntimeError("reentrant call inside a writer")
            said.append(text)

        tried: list[str] = []
        with signals.stopping(say) as stop:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)

        assert stop.is_set()
        assert [text.partition(":")[0] for text in said] == [
            "asked to stop",
            "still rolling back; ending before that would leave mdevs behind",
        ]


#: What is told of a job, the most important first.
ALL_PARTS = (
    "99 %",
    "14.0 MiB left",
    "limit 600 ms",
    "about 5 s left",
    "4.0 MiB/s",
    "1.0 MiB/s written",
    "9300 ms expected",
    "iteration 5",
    "device state 1.0 MiB",
    "of 3.0 GiB",
    "12.3 s",
)


class TestProgress:
    def test_few_lines_without_a_terminal(self, capsys):
        """A log gets a line when an interval is over, not at every look."""
        times = iter([0.0, 1.0, 4.9, 5.0, 6.0])
        lines = progress.Lines(interval_s=5, clock=lambda: next(times))
        job = JobProgress(
            data_total=2**22,
            data_processed=2**23,
            data_remaining=3 * 2**20,
            rate=2**20,
            limit_ms=500,
        )

        for elapsed in range(5):
            lines.progress(job, elapsed)

        assert capsys.readouterr().err.splitlines() == [
            f"  25 %, 3.0 MiB left, limit 500 ms, about 3 s left, 1.0 MiB/s, "
            f"of 4.0 MiB, {elapsed}.0 s"
            for elapsed in (0, 3)
        ]

    def test_more_was_sent_than_there_is(self):
        """Pages that were written again and sent again are no progress."""
        job = JobProgress(
            data_total=2**30,
            data_processed=5 * 2**30,
            data_remaining=2**29,
            rate=2**27,
            dirty_rate=2**28,
        )

        assert progress.describe(job, 3.0) == [
            "50 %",
            "512.0 MiB left",
            "no end at this rate",
            "128.0 MiB/s",
            "256.0 MiB/s written",
            "of 1.0 GiB",
            "3.0 s",
        ]

    @pytest.mark.parametrize(
        ("width", "shown"),
        [
            (200, len(ALL_PARTS)),
            (80, 6),
            (40, 3),
            (15, 1),
        ],
    )
    def test_narrow_terminal(self, width, shown):
        """The most important stays, and no part is cut in its middle."""
        job = JobProgress(
            data_total=3 << 30,
            data_remaining=14 << 20,
            rate=4 << 20,
            dirty_rate=1 << 20,
            limit_ms=600,
            downtime_ms=9300,
            iteration=5,
            device_transferred=1 << 20,
        )

        line = progress.fit(progress.describe(job, 12.3), width)

        assert line == ", ".join(ALL_PARTS[:shown])

    @pytest.mark.parametrize(
        ("job", "said"),
        [
            (JobProgress(), ["no figures yet"]),
            (JobProgress(limit_ms=300), ["no figures yet", "limit 300 ms"]),
            (JobProgress(data_processed=0), ["nothing sent yet"]),
            (
                JobProgress(2**30, 0, 0),
                ["nothing sent yet", "of 1.0 GiB"],
            ),
            (JobProgress(data_processed=2**30), ["1.0 GiB sent"]),
            (
                JobProgress(data_processed=1, device_transferred=0),
                ["1 byte sent", "device state 0 bytes"],
            ),
        ],
    )
    def test_total_is_not_known(self, job, said):
        """What was sent is told; that nothing was only if libvirt says so."""
        assert progress.describe(job, 0.5) == [*said, "0.5 s"]

    @pytest.mark.parametrize(
        ("rate", "left"),
        [
            (2**30, "about 1 s"),
            (2**20, "about 18 min"),
            (1, "more than a day"),
        ],
    )
    def test_time_left(self, rate, left):
        """Nobody counts a billion seconds."""
        job = JobProgress(data_total=2**30, data_remaining=2**30, rate=rate)

        assert f"{left} left" in progress.describe(job, 0.5)

    def test_nobody_listens(self, world: World, monkeypatch):
        """A terminal that is gone does not come between guest and host."""
        world.add_guest()
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w", buffering=1) as gone:
            monkeypatch.setattr("sys.stderr", gone)
            answer = world.run("migrate", "vm", "--to", world.there)

        assert answer.code == 0
        assert world.destination.running_guests() == {INSTANCE}


class TestDemo:
    def test_json(self, world: World):
        """Every pair of the demonstration has one type."""
        found = world.call("demo", "--json").json

        pairs = found["target_mdevs"].items()
        assert (found.keys(), found["result"]) == (KEYS, "migrated")
        assert len(pairs) == 2
        for source, target in pairs:
            assert (
                found["source_mdev_types"][source]
                == found["target_mdev_types"][target]
            )

    def test_people_see_all_of_it(self, world: World):
        """Checks, steps, the XML difference and the result are shown."""
        answer = world.call("demo")

        assert answer.code == 0
        for text in ("available-mdevs", "+++ destination", "migrated: guest"):
            assert text in answer.out
        assert "verify: " in answer.err

    def test_failure_is_rolled_back(self, world: World):
        """The failing demonstration leaves only what was there before."""
        answer = world.call("demo", "--fail", "--json")

        found = answer.json
        assert (answer.code, found["result"]) == (1, "failed")
        assert found["error"]["code"] == "migration-aborted"
        assert found["target_mdev_types"].keys() == {
            *found["target_mdevs"].values()
        }
