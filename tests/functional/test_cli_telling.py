# SPDX-License-Identifier: Apache-2.0
"""What programs hear of a migration, and what is left to be looked at."""

import fcntl
import json
import os
import pathlib
import threading
import time

import pytest
from lxml import html

from mdev_migrate.cli import listeners, report
from tests.functional.conftest import INSTANCE, World


def test_events_in_a_file(world: World, tmp_path: pathlib.Path):
    """One object a line: steps, figures, each limit, and the end."""
    world.add_guest()
    world.source.required_downtime_ms = 900
    path = tmp_path / "events"

    answer = world.run(
        "migrate", "vm", "--to", world.there, "--events", str(path)
    )

    events = [json.loads(line) for line in path.read_text().splitlines()]
    by_kind = {event["event"]: event for event in events}
    assert answer.code == 0
    assert by_kind.keys() == {"step", "progress", "limit-raised", "end"}
    assert {event["guest"] for event in events} == {"vm"}
    assert by_kind["limit-raised"]["limit_ms"] == 900
    assert by_kind["progress"].keys() == {
        "event",
        "time",
        "guest",
        "elapsed_s",
        "percent",
        "total",
        "remaining",
        "processed",
        "device_bytes",
        "rate",
        "dirty_rate",
        "iteration",
        "limit_ms",
        "expected_downtime_ms",
        "time_left_s",
    }
    assert (events[-1]["event"], events[-1]["result"]) == (
        "end",
        "migrated",
    )


def test_events_and_the_answer(world: World):
    """On stdout the answer is the last line among the events."""
    world.add_guest()

    answer = world.run(
        *("migrate", "vm", "--to", world.there, "--events", "-", "--json")
    )

    *events, last = map(json.loads, answer.out.splitlines())
    assert last["result"] == "migrated"
    assert all("event" in event for event in events)
    assert events[0]["step"] == "check"


def test_events_between_words(world: World):
    """Words for people and events for programs do not mix."""
    answer = world.run("migrate", "vm", "--to", world.there, "--events", "-")

    assert answer.code == 2
    assert "--events - needs --json" in answer.err


def test_events_on_a_full_disk(world: World):
    """What cannot be written does not keep a guest from moving."""
    world.add_guest()

    answer = world.run(
        *("migrate", "vm", "--to", world.there, "--events", "/dev/full")
    )

    assert answer.code == 0
    assert answer.err.count("warning: events are lost: ") == 1


def test_events_that_nobody_reads(world: World, tmp_path: pathlib.Path):
    """Who stops listening does not keep a migration from being aborted."""
    world.add_guest()
    world.source.required_downtime_ms = 10_000_000
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    aborted = threading.Event()
    heard = []

    def abort(_link, call):
        aborted.set()
        return call()

    def listen():
        with pipe.open() as file:
            fcntl.fcntl(file, fcntl.F_SETPIPE_SZ, 4096)
            heard.append(aborted.wait(5))
            heard.extend(map(json.loads, file))

    world.source.group.faults.on("abortJob", abort)
    listener = threading.Thread(target=listen)
    listener.start()

    answer = world.run(
        *("migrate", "vm", "--to", world.there, "--timeout", "1"),
        *("--events", str(pipe)),
    )
    listener.join(5)

    in_time, *events = heard
    assert answer.code == 1
    assert in_time
    assert events[-1]["event"] == "end"
    assert len(json.dumps(events)) > 8192


def test_report(world: World, tmp_path: pathlib.Path):
    """The page has the curves, the steps, and nothing from elsewhere."""
    world.add_guest()
    world.source.required_downtime_ms = 900
    path = tmp_path / "report.html"

    world.run("migrate", "vm", "--to", world.there, "--report", str(path))

    page = html.fromstring(path.read_bytes())
    assert page.findtext(".//h1") == "Migration of vm: migrated"
    assert len(page.findall(".//polyline")) >= 4
    assert "raised from 300 to 900 ms" in page.text_content()
    assert not page.xpath("//script | //@src | //@href")


def test_report_of_a_failure(world: World, tmp_path: pathlib.Path):
    """It tells the error; what is not text is not let through."""
    world.add_guest(name="vm<b>")
    world.destination.libvirt_version = (8, 5, 0)
    path = tmp_path / "report.html"

    world.run(
        *("migrate", INSTANCE, "--to", world.there),
        *("--report", str(path)),
    )

    page = html.fromstring(path.read_bytes())
    assert page.findtext(".//h1") == "Migration of vm<b>: refused"
    assert "libvirt-too-old" in page.text_content()


def test_report_lets_no_control_through():
    """A page cannot hold every letter, and a hostile name stays a name."""
    answer = {
        "guest": "\x00\x1b<script>",
        "result": "failed",
        "instance_uuid": None,
        "seconds": 1.0,
        "steps": {},
        "downtime_ms": None,
        "bytes": None,
        "target_mdevs": {},
        "source_mdev_types": {},
        "error": None,
    }

    page = html.fromstring(report.page(answer, listeners.Recorder()))

    assert page.findtext(".//h1") == "Migration of ??<script>: failed"
    assert page.find(".//polyline") is None


def test_report_cannot_be_written(world: World):
    """That is a warning; the guest has moved."""
    world.add_guest()

    answer = world.run(
        *("migrate", "vm", "--to", world.there),
        *("--report", "/dev/full"),
    )

    assert answer.code == 0
    assert "warning: no report: " in answer.err


@pytest.mark.parametrize("option", ["--report", "--events"])
def test_nowhere_to_write(world: World, option: str):
    """That is said before the guest moves."""
    world.add_guest()

    answer = world.run(
        *("migrate", "vm", "--to", world.there),
        *(option, "/nonexistent/file"),
    )

    assert answer.code == 2
    assert "nothing can be made in /nonexistent" in answer.err
    assert world.source.running_guests()


def test_summary(world: World):
    """At the end it is said what the limit was, and how it went."""
    world.add_guest()
    world.group.pace = lambda _step: time.sleep(0.02)

    answer = world.run("migrate", "vm", "--to", world.there)

    assert "limit 300 ms, iterations " in answer.out


def test_the_limit_that_held_at_the_end(world: World):
    """A limit that was raised last is told, however soon the guest moved."""
    world.add_guest()
    world.source.required_downtime_ms = 1000

    answer = world.run("migrate", "vm", "--to", world.there, "--json")

    assert answer.code == 0, answer
    assert answer.json["limit_ms"] >= 1000
