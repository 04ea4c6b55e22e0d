# SPDX-License-Identifier: Apache-2.0
"""Does no command wait for ever, or in silence?"""

import logging
import pathlib
import sys
import threading
import time
from typing import Any

import libvirt
import pytest

from mdev_migrate import libvirt_host, testing
from mdev_migrate.cli import session
from mdev_migrate.core import downtime
from mdev_migrate.host import Journey
from mdev_migrate.limits import Limits
from mdev_migrate.workflow import Silent
from mdev_migrate.workflow.job import Job
from mdev_migrate.workflow.limit import DowntimeLimit
from tests import builders, scenes
from tests.functional.conftest import World


def _job_stats(operation: int) -> testing.Effect:
    """Let a host tell of a job of some kind."""
    return lambda _link, _call: {"type": 2, "operation": operation}


class TestOpening:
    """A host that accepts a connection and then says nothing."""

    @pytest.fixture
    def silent(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> threading.Event:
        """The destination does not answer before this is set."""
        answers = threading.Event()
        opened = world._open

        def open_(uri: str) -> Any:
            if uri == world.there:
                answers.wait()
            return opened(uri)

        monkeypatch.setattr(world, "_open", open_)
        monkeypatch.setattr(session, "_OPEN_S", 0.3)
        monkeypatch.setattr(session, "_SAY_S", 0.1)
        return answers

    def test_ends(self, world: World, silent: threading.Event):
        """It is said what is waited for, and then the command ends."""
        world.add_guest()

        answer = world.run("migrate", "vm", "--to", world.there)
        silent.set()

        assert answer.code == 3
        assert f"warning: waiting for {world.there} to answer" in answer.err
        assert "no answer within 0.3 s" in answer.err
        assert "code: host-unreachable" in answer.err

    def test_time_counts(self, world: World, silent: threading.Event):
        """What connecting took is told, in JSON too."""
        answer = world.run("migrate", "vm", "--to", world.there, "--json")
        silent.set()

        found = answer.json
        assert found["steps"]["connect"] >= 0.3
        assert found["seconds"] >= 0.3


class TestTimeLimit:
    """``--timeout`` bounds the whole command."""

    def test_opening(self, world: World, monkeypatch: pytest.MonkeyPatch):
        """A host that does not answer is waited for no longer."""
        answers = threading.Event()
        opened = world._open

        def open_(uri: str) -> Any:
            if uri == world.there:
                answers.wait()
            return opened(uri)

        monkeypatch.setattr(world, "_open", open_)

        answer = world.run(
            "migrate", "vm", "--to", world.there, "--timeout", "0.2"
        )
        answers.set()

        assert answer.code == 3
        assert "no answer within 0." in answer.err

    def test_before_the_copy(self, world: World):
        """Time that passes before anything is sent counts."""
        world.add_guest()
        before = world.snapshot()
        world.group.faults.on(
            "listAllDevices", _after(0.3), host="host-b", nth=1
        )

        answer = world.run(
            "migrate", "vm", "--to", world.there, "--timeout", "0.2", "--json"
        )

        assert answer.json["error"]["message"].endswith(
            "not done within 0.2 s"
        )
        assert answer.json["error"]["step"] == "plan"
        assert world.snapshot() == before

    def test_says_at_once(self, world: World):
        """It is told that it aborts, and what it waits for."""
        world.add_guest()
        world.source.required_downtime_ms = 20_000

        answer = world.run(
            "migrate", "vm", "--to", world.there, "--timeout", "0.5"
        )

        assert "warning: aborting: not done within 0.5 s; waiting for" in (
            answer.err
        )


def _after(seconds: float) -> testing.Effect:
    def effect(_link: Any, call: Any) -> Any:
        time.sleep(seconds)
        return call()

    return effect


class TestBusyGuest:
    """A guest that something is being done with already."""

    @pytest.mark.parametrize(
        ("operation", "words"),
        [
            (
                libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT,
                "outgoing migration",
            ),
            (libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP, "dump"),
            (99, "of an unknown kind"),
        ],
    )
    def test_refused_at_once(self, world: World, operation: int, words: str):
        """libvirt would wait for its end, and is not asked."""
        world.add_guest()
        world.group.faults.on("jobStats", _job_stats(operation))

        answer = world.run("check", "vm", "--to", world.there, "--json")

        refused = [
            check
            for check in answer.json["checks"]
            if check["result"] == "refused"
        ]
        assert [check["code"] for check in refused] == ["guest-busy"]
        assert refused[0]["detail"].endswith(f": {words}")
        assert "recover --abort" in refused[0]["hint"]
        assert world.source.requests == []

    @pytest.mark.parametrize(
        ("operation", "aborted"),
        [
            (libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP, 0),
            (libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT, 1),
        ],
    )
    def test_an_abort_ends_our_job_only(self, operation: int, aborted: int):
        """Somebody's dump, for which ours waits, is not ended."""
        scene = scenes.Scene(["mtty-1"])
        host = scene.host(scene.here)
        limits = Limits(settle_s=0.05, poll_s=0.02)
        policy = downtime.Policy(downtime.Bounds())
        limit = DowntimeLimit(host, builders.INSTANCE, policy, Silent())
        scene.group.faults.on(
            "migrateToURI3", lambda _link, _call: time.sleep(0.5)
        )
        for nth in range(1, 9):
            scene.group.faults.on("jobStats", _job_stats(operation), nth=nth)
        journey = Journey("x", "<x/>", None, None, None, 0)
        job = Job(host, builders.INSTANCE, journey, limits, Silent(), limit)

        job.abort()

        calls = [call.name for call in scene.group.faults.calls]
        assert min(calls.count("abortJob"), 1) == aborted


def test_names_are_shown_as_they_are(world: World):
    """Two spaces in a guest's name are two."""
    world.add_guest({}, name="two  spaces")

    answer = world.run("check", "two  spaces", "--to", world.there)

    assert "allowed: guest two  spaces can be migrated" in answer.out


class TestPeer:
    """Whether the source reaches the destination is asked before."""

    def test_refused(self, world: World):
        """Nothing is claimed, and it is said what to do."""
        world.add_guest()
        before = world.snapshot()

        answer = world.run(
            *("migrate", "vm", "--to", world.there, "--json"),
            *("--peer-uri", "qemu+tls://nowhere/system"),
        )

        error = answer.json["error"]
        assert (answer.code, error["code"]) == (1, "peer-unreachable")
        assert error["step"] == "check"
        assert "--peer-uri" in error["hint"]
        assert world.snapshot() == before

    @pytest.mark.parametrize(
        ("number", "said", "hint"),
        [
            (
                libvirt.VIR_ERR_SYSTEM_ERROR,
                (
                    "unable to connect to server at '192.0.2.7:16509': "
                    "Connection refused"
                ),
                "--peer-uri",
            ),
            (
                libvirt.VIR_ERR_SYSTEM_ERROR,
                (
                    "Unable to resolve address 'nowhere' service '16509': "
                    "Name or service not known"
                ),
                "cannot resolve a name",
            ),
            (
                libvirt.VIR_ERR_SYSTEM_ERROR,
                (
                    "Cannot read CA certificate '/etc/pki/CA/cacert.pem': No "
                    "such file or directory"
                ),
                "certificate",
            ),
            (
                libvirt.VIR_ERR_AUTH_FAILED,
                "authentication failed: Failed to verify peer's certificate",
                "certificate",
            ),
        ],
    )
    def test_in_the_words_of_libvirt(
        self, world: World, number: int, said: str, hint: str
    ):
        """As libvirt 11.3 says it, and what to do about it."""
        world.add_guest()
        error = testing.libvirt_error(number, said)
        world.group.faults.on("migrateToURI3", testing.fail(error))

        answer = world.run("check", "vm", "--to", world.there, "--json")

        (refused,) = (
            check
            for check in answer.json["checks"]
            if check["result"] == "refused"
        )
        assert refused["code"] == "peer-unreachable"
        assert said in refused["detail"]
        assert hint in refused["hint"]

    def test_says_nothing(self, world: World, monkeypatch: pytest.MonkeyPatch):
        """One that accepts and says nothing is not waited for for ever."""
        world.add_guest()
        monkeypatch.setattr(libvirt_host, "_PEER_S", 0.1)
        answers = threading.Event()
        world.group.faults.on(
            "migrateToURI3", lambda _link, _call: answers.wait()
        )

        answer = world.run("check", "vm", "--to", world.there, "--json")
        answers.set()

        (refused,) = (
            check
            for check in answer.json["checks"]
            if check["result"] == "refused"
        )
        assert refused["name"] == "peer-reachable"
        assert "no answer within 0.1 s" in refused["detail"]

    @pytest.mark.parametrize("command", ["check", "plan"])
    def test_by_another_address(self, world: World, command: str):
        """Where the source reaches it otherwise, that can be said."""
        world.add_guest()
        journey = (command, "vm", "--to", world.there, "--json")

        wrong = world.run(*journey, "--peer-uri", "qemu+tls://nowhere/system")
        right = world.run(*journey, "--peer-uri", world.there)

        assert (wrong.code, right.code) == (1, 0)

    def test_as_often_as_destinations(self, world: World):
        """One address for two hosts cannot be meant."""
        answer = world.run(
            *("check", "vm", "--to", world.there, "--to", world.here),
            *("--peer-uri", world.there),
        )

        assert answer.code == 2
        assert "--peer-uri: as often as --to" in answer.err

    def test_no_server_in_its_uri(self, world: World):
        """libvirt sees that before it looks at the guest, which is asked."""
        world.add_guest(blockers=["no VFIO migration"])
        error = testing.libvirt_error(
            libvirt.VIR_ERR_INVALID_ARG, "unable to parse server from dconnuri"
        )
        world.group.faults.on("migrateToURI3", testing.fail(error), nth=1)

        answer = world.run("check", "vm", "--to", world.there, "--json")

        refused = [
            check["name"]
            for check in answer.json["checks"]
            if check["result"] == "refused"
        ]
        assert refused == ["migration-blockers"]


def test_somebody_was_faster(world: World):
    """A job that began after the checks is let be, and nothing is left."""
    world.add_guest()
    before = world.snapshot()
    world.group.faults.on(
        "jobStats",
        _job_stats(libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT),
        nth=2,
    )

    answer = world.run("migrate", "vm", "--to", world.there, "--json")

    assert answer.json["error"]["code"] == "guest-busy"
    assert answer.json["error"]["step"] == "prepare"
    assert world.snapshot() == before
    assert "abortJob" not in [c.name for c in world.group.faults.calls]


def test_verbose_is_our_log(world: World):
    """Each call of libvirt's is told, by this command alone."""
    other = logging.getLogger("another.library")

    def chatter(_link, call):
        other.debug("chatter")
        return call()

    world.group.faults.on("listAllDevices", chatter)

    answer = world.run("types", "-v", "--json")
    quiet = world.run("types", "--json")

    assert answer.json == quiet.json
    assert f"{world.here}: virConnectListAllNodeDevices: " in answer.err
    assert "chatter" not in answer.err
    assert not quiet.err


def test_verbose_with_nobody_to_read_it(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    """A log that cannot be written keeps no guest from moving."""
    world.add_guest()
    with pathlib.Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)

        answer = world.run("migrate", "vm", "--to", world.there, "-v")
        monkeypatch.undo()

    assert answer.code == 0
