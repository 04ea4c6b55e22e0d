# SPDX-License-Identifier: Apache-2.0
"""Is a host empty after ``drain``, and is it said why if it is not?"""

import dataclasses
import errno
import importlib.util
import io
import itertools
import json
import os
import pathlib
import re
import signal
import sys
import unicodedata

import libvirt
import pytest

from mdev_migrate import testing
from tests import builders
from tests.functional.conftest import World


class Hosts:
    """A host with guests, and two others that could take them.

    :ivar world: the first two hosts, and the command.
    """

    def __init__(self, world: World, *, ports: tuple[int, int] = (24, 24)):
        self.world = world
        self.third = world.group.add_host("host-c", [testing.MttyParent()])
        self.there = (world.there, self.third.uris[0])
        self._mdevs = map(builders.uuid, itertools.count(0x100))
        self._guests = itertools.count(1)
        for host, left in zip(
            (world.destination, self.third), ports, strict=True
        ):
            for _ in range(24 - left):
                mdev = next(self._mdevs)
                host.add_mdev(mdev, "mtty-1")
                self._hold(host, mdev)

    def _hold(self, host: testing.SimulatedHost, mdev: str) -> None:
        number = next(self._guests)
        host.add_guest(
            f"{host.name}-{number}", builders.instance(number), [mdev]
        )

    def add_guest(self, name: str, *types: str, **facts: object) -> str:
        """Give the source a guest; return its UUID."""
        mdevs = [next(self._mdevs) for _ in types]
        for mdev, mdev_type in zip(mdevs, types, strict=True):
            self.world.source.add_mdev(mdev, mdev_type)
        number = next(self._guests)
        self.world.source.add_guest(
            name, builders.instance(number), mdevs, **facts
        )
        return builders.instance(number)

    def drain(self, *args: str):
        """Call the command with both destinations."""
        first, second = self.there
        return self.world.run("drain", "--to", first, "--to", second, *args)

    def left(self) -> set[str]:
        """Return the names of the guests that the source still runs."""
        engine = self.world.source.guests.engine
        return {
            engine.name(uuid) for uuid in self.world.source.running_guests()
        }

    def running(self) -> list[int]:
        """Return how many guests each host runs."""
        world = self.world
        hosts = (world.source, world.destination, self.third)
        return [len(host.running_guests()) for host in hosts]


@pytest.fixture
def hosts(world: World) -> Hosts:
    """Three hosts, and nobody on them."""
    return Hosts(world)


def _outcomes(found) -> dict[str, str]:
    return {each["guest"]: each["result"] for each in found["guests"]}


def _results(answer) -> dict[str, str]:
    return _outcomes(answer.json)


def test_all_leave(hosts: Hosts):
    """Guests of different types end where there is room; mdevs are theirs."""
    uuid = hosts.add_guest("a", "mtty-1", "mtty-2")
    hosts.add_guest("b", "mtty-2")
    hosts.add_guest("c", "mtty-1")

    answer = hosts.drain("--json")

    found = answer.json
    assert (answer.code, found["fits"], found["shortage"]) == (0, True, {})
    assert _results(answer) == dict.fromkeys("abc", "migrated")
    assert hosts.left() == set()
    (first,) = (each for each in found["guests"] if each["guest"] == "a")
    assert first["instance_uuid"] == uuid
    assert first["types"] == ["mtty-1", "mtty-2"]
    assert first["memory"] == 64 * 2**20
    assert first["planned"] == first["destination"]
    assert first["destination"] in hosts.there
    assert first["estimate"] == {"device_bytes": 156, "downtime_ms": None}
    (tried,) = first["tried"]
    assert tried["result"] == "migrated"
    assert sorted(tried["source_mdev_types"].values()) == first["types"]
    assert tried["target_mdev_types"].keys() == {
        *tried["target_mdevs"].values()
    }
    assert hosts.world.group.violations() == []


def test_people(hosts: Hosts):
    """The plan comes first, each guest is named, and the end is told."""
    hosts.add_guest("web-1", "mtty-1")

    answer = hosts.drain()

    lines = answer.out.splitlines()
    assert answer.code == 0
    assert lines[0].split() == [
        *("GUEST", "TYPES", "MEMORY", "DESTINATION", "DOWNTIME"),
    ]
    assert lines[1].split()[:4] == ["web-1", "mtty-1", "64.0", "MiB"]
    assert lines[2] == "all 1 fit"
    assert lines[-1] == "1 of 1 guests have left"
    assert "web-1: migrate: move the guest" in answer.err


def test_dry_run(hosts: Hosts):
    """Only the plan is made."""
    hosts.add_guest("a", "mtty-1")
    before = hosts.world.snapshot()

    answer = hosts.drain("--dry-run", "--json")

    assert (answer.code, answer.json["fits"]) == (0, True)
    assert _results(answer) == {"a": "not-begun"}
    assert hosts.world.snapshot() == before


def test_no_room_for_all(world: World):
    """It is said before what is short; who fits leaves, the rest stays."""
    hosts = Hosts(world, ports=(1, 0))
    for name in "abc":
        hosts.add_guest(name, "mtty-1")

    answer = hosts.drain("--json")
    people = hosts.drain("--dry-run")

    found = answer.json
    assert (answer.code, found["fits"]) == (1, False)
    assert found["shortage"] == {"mtty-1": 2}
    assert sorted(_results(answer).values()) == ["migrated", "stays", "stays"]
    assert len(hosts.left()) == 2
    for each in found["guests"]:
        if each["result"] == "stays":
            assert each["reasons"].keys() == set(hosts.there)
    assert people.code == 1
    assert "2 of 2 must stay; to free there: 2 of type mtty-1" in people.out


def test_who_cannot_leave_has_a_reason(hosts: Hosts):
    """A blocker is not a lack of room."""
    hosts.add_guest("blocked", "mtty-1", blockers=["no VFIO migration"])
    hosts.add_guest("fine", "mtty-1")

    answer = hosts.drain("--json")

    (blocked,) = (
        each for each in answer.json["guests"] if each["guest"] == "blocked"
    )
    assert answer.code == 1
    assert _results(answer) == {"blocked": "stays", "fine": "migrated"}
    assert answer.json["shortage"] == {}
    assert all(
        "no VFIO migration" in reason for reason in blocked["reasons"].values()
    )


def test_next_destination(hosts: Hosts):
    """A guest that fails on its way to one host goes to the other."""
    hosts.add_guest("a", "mtty-1")
    met = []

    def pace(step: testing.Step) -> None:
        if step.phase == "load" and not met:
            met.append(step.destination)
            raise testing.libvirt_error(1, "out of luck")

    hosts.world.group.pace = pace

    answer = hosts.drain("--json")

    (guest,) = answer.json["guests"]
    assert (answer.code, guest["result"]) == (0, "migrated")
    assert [each["result"] for each in guest["tried"]] == [
        "failed",
        "migrated",
    ]
    assert guest["destination"] != guest["planned"]
    assert hosts.world.group.violations() == []


def test_next_after_a_stall(hosts: Hosts):
    """What does not end over one link may end over another."""
    hosts.add_guest("a", "mtty-1")
    hosts.world.source.required_downtime_ms = 20_000
    begun = set()

    def pace(step: testing.Step) -> None:
        if step.phase == "copy":
            begun.add(step.destination)
        if len(begun) == 2:
            hosts.world.source.required_downtime_ms = 0

    hosts.world.group.pace = pace

    answer = hosts.drain(
        *("--json", "--max-downtime", "300", "--stall-timeout", "0.2")
    )

    (guest,) = answer.json["guests"]
    assert (answer.code, guest["result"]) == (0, "migrated")
    first, _second = guest["tried"]
    assert first["error"]["code"] == "migration-aborted"
    assert guest["destination"] != guest["planned"]


def test_a_destination_out_of_reach(hosts: Hosts):
    """The others are used; it is said which host was not, and why."""
    hosts.add_guest("a", "mtty-1")
    nowhere = "qemu+tls://nowhere/system"

    plan = hosts.drain("--to", nowhere, "--dry-run")
    answer = hosts.drain("--to", nowhere, "--json")

    assert plan.code == 0
    assert f"cannot reach {nowhere}: " in plan.out
    assert (answer.code, _results(answer)) == (0, {"a": "migrated"})
    assert answer.json["unreached"].keys() == {nowhere}
    assert answer.json["unreached"][nowhere]["code"] == "host-unreachable"


def test_a_destination_that_is_lost_while_it_is_looked_at(hosts: Hosts):
    """It is as good as one that was not reached."""
    hosts.add_guest("a", "mtty-1")
    hosts.world.group.faults.on(
        "listAllDomains", testing.lose_connection(), host="host-b"
    )

    answer = hosts.drain("--json")

    assert (answer.code, hosts.running()) == (0, [0, 0, 1])
    assert [*answer.json["unreached"]] == [hosts.there[0]]


def test_a_destination_that_goes_away(hosts: Hosts):
    """Who was to go there is tried elsewhere, and known by its UUID."""
    moved = [hosts.add_guest(name, "mtty-1") for name in "ab"]
    gone = testing.libvirt_error(libvirt.VIR_ERR_RPC, "nobody there")
    hosts.world.group.faults.on(
        "open", testing.fail(gone), host="host-b", nth=2
    )

    answer = hosts.drain("--json")

    tried = [each for g in answer.json["guests"] for each in g["tried"]]
    lost = [each for each in tried if each["result"] != "migrated"]
    assert answer.code == 0, answer
    assert {each["error"]["code"] for each in lost} == {"host-unreachable"}
    assert {each["instance_uuid"] for each in tried} == set(moved)
    assert hosts.left() == set()


def test_who_stays_for_a_destination_out_of_reach(world: World):
    """It may be the one with room: exit code 1, as the guest is there."""
    hosts = Hosts(world, ports=(0, 0))
    hosts.add_guest("a", "mtty-1")
    nowhere = "qemu+tls://nowhere/system"

    answer = hosts.drain("--to", nowhere, "--json")

    (guest,) = answer.json["guests"]
    assert (answer.code, guest["result"]) == (1, "stays")
    assert guest["reasons"].keys() == {*hosts.there, nowhere}


def test_no_destination_in_reach(world: World):
    """There is nothing to plan."""
    world.add_guest()

    answer = world.run(
        *("drain", "--to", "qemu+tls://nowhere/system"),
        *("--to", "qemu+tls://nobody/system", "--json"),
    )

    assert (answer.code, answer.json["guests"]) == (3, [])
    assert answer.json["error"]["code"] == "host-unreachable"
    assert "cannot reach qemu+tls://nobody/system" in answer.err


def test_left_where_it_is(hosts: Hosts):
    """One that no host takes stays, and is named; the others leave."""
    hosts.add_guest("a", "mtty-1")
    bad = hosts.add_guest("bad", "mtty-1")

    def pace(step: testing.Step) -> None:
        if step.phase == "load" and step.guest == bad:
            raise testing.libvirt_error(1, "out of luck")

    hosts.world.group.pace = pace

    answer = hosts.drain("--json")
    hosts.world.group.pace = lambda _step: None
    again = hosts.drain("--json")

    assert answer.code == 1
    assert _results(answer) == {"a": "migrated", "bad": "failed"}
    (guest,) = (g for g in answer.json["guests"] if g["guest"] == "bad")
    assert [each["destination"] for each in guest["tried"]] == [
        guest["planned"],
        next(uri for uri in hosts.there if uri != guest["planned"]),
    ]
    assert (again.code, _results(again)) == (0, {"bad": "migrated"})


@pytest.mark.parametrize(
    ("signals", "results", "words"),
    [
        (1, {"a": "migrated", "b": "not-begun"}, "no more guests begin"),
        (2, {"a": "failed", "b": "not-begun"}, "aborting the migration"),
    ],
)
@pytest.mark.usefixtures("heard")
def test_signals(
    hosts: Hosts, signals: int, results: dict[str, str], words: str
):
    """One lets the guest under way arrive, a second aborts it."""
    hosts.add_guest("a", "mtty-1", "mtty-1")
    hosts.add_guest("b", "mtty-1")
    # It must not end by itself before it is aborted, however late that is.
    hosts.world.source.required_downtime_ms = 1000 if signals == 1 else 20_000

    def pace(step: testing.Step) -> None:
        if (step.phase, step.number) == ("copy", 3):
            for number in (signal.SIGINT, signal.SIGTERM)[:signals]:
                os.kill(os.getpid(), number)

    hosts.world.group.pace = pace

    answer = hosts.drain("--json")
    hosts.world.group.pace = lambda _step: None
    hosts.world.source.required_downtime_ms = 1000
    again = hosts.drain("--json")

    assert (answer.code, _results(answer)) == (1, results)
    assert [len(g["tried"]) for g in answer.json["guests"]] == [1, 0]
    assert words in answer.err
    assert again.code == 0
    assert hosts.left() == set()
    assert hosts.world.group.violations() == []


@pytest.mark.parametrize(
    ("args", "moved"),
    [
        ((), {"a", "b"}),
        (("--all",), {"a", "b", "plain"}),
        (("--only", "a"), {"a"}),
        (("--except", "a"), {"b"}),
        (("--all", "--except", "b"), {"a", "plain"}),
    ],
)
def test_who_is_meant(hosts: Hosts, args: tuple[str, ...], moved: set[str]):
    """By default every guest with mdevs."""
    hosts.add_guest("a", "mtty-1")
    hosts.add_guest("b", "mtty-2")
    hosts.add_guest("plain")

    answer = hosts.drain("--json", *args)

    assert (answer.code, set(_results(answer))) == (0, moved)
    assert hosts.left() == {"a", "b", "plain"} - moved


def test_nobody_to_move(hosts: Hosts):
    """An empty host is empty."""
    answer = hosts.drain()

    assert answer.code == 0
    assert "there is no guest to move" in answer.out


def test_side_by_side(hosts: Hosts):
    """Several guests at a time do not get in each other's way."""
    for number in range(6):
        hosts.add_guest(f"vm-{number}", "mtty-1" if number % 2 else "mtty-2")

    answer = hosts.drain("--json", "--parallel-guests", "3")

    assert answer.code == 0, answer
    assert set(_results(answer).values()) == {"migrated"}
    assert hosts.running()[0] == 0
    assert hosts.world.group.violations() == []


class _Terminal(io.StringIO):
    """A terminal that keeps what is written."""

    def isatty(self) -> bool:
        return True


def _on_terminal(monkeypatch: pytest.MonkeyPatch) -> _Terminal:
    """Let stderr be a terminal of 60 columns.

    Not as a fixture: pytest sets its own between that and the test.
    """
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    return terminal


class TestBars:
    """On a terminal each of several guests has a bar."""

    def test_drawn_and_taken_away(
        self, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
    ):
        """Below what is said, in whole lines, the name as it is."""
        terminal = _on_terminal(monkeypatch)
        hosts.world.source.required_downtime_ms = 1000
        for name in ("web[bold]", "b"):
            hosts.add_guest(name, "mtty-1")

        answer = hosts.drain("--parallel-guests", "2")

        assert answer.code == 0
        told = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
        lines = [line.strip() for line in re.split(r"[\r\n]+", told)]
        drawn = [
            line
            for line in lines
            if "\N{BOX DRAWINGS HEAVY HORIZONTAL}" in line
        ]
        assert {line.split()[0] for line in drawn} == {"web[bold]", "b"}
        assert all(len(line) <= 60 for line in drawn)
        assert any(" %" in line for line in drawn), drawn
        assert "b: release: release the claim" in lines

    @pytest.mark.parametrize("name", ["x" * 70, "\N{CJK RADICAL MOON}" * 40])
    @pytest.mark.parametrize("parallel", ["1", "2"])
    def test_long_name(
        self,
        hosts: Hosts,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        parallel: str,
    ):
        """It leaves room for how far it is, on a line that is rewritten."""
        terminal = _on_terminal(monkeypatch)
        hosts.world.source.required_downtime_ms = 1000
        hosts.add_guest(name, "mtty-1")

        hosts.drain("--parallel-guests", parallel)

        told = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
        drawn = [
            line for line in re.split(r"[\r\n]+", told) if "100 %" in line
        ]
        wide = 2 if unicodedata.east_asian_width(name[0]) == "W" else 1
        assert drawn
        for line in drawn:
            assert line.strip().startswith(name[:5])
            assert len(line) + (wide - 1) * line.count(name[0]) <= 60

    @pytest.mark.parametrize("parallel", ["1", "2"])
    def test_log(
        self, hosts: Hosts, monkeypatch: pytest.MonkeyPatch, parallel: str
    ):
        """Beside a log nothing is rewritten: each line stands by itself."""
        terminal = _on_terminal(monkeypatch)
        hosts.world.source.required_downtime_ms = 1000
        hosts.add_guest("a", "mtty-1")

        hosts.drain("--parallel-guests", parallel, "-v")

        assert "virDomainMigrateToURI3: " in terminal.getvalue()
        assert "\r" not in terminal.getvalue()

    def test_not_installed(
        self, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
    ):
        """Lines do without the library."""
        terminal = _on_terminal(monkeypatch)
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
        hosts.add_guest("a", "mtty-1")

        answer = hosts.drain("--parallel-guests", "2")

        assert answer.code == 0
        assert "a: migrate: move the guest" in terminal.getvalue()
        assert "\x1b[" not in terminal.getvalue()

    def test_terminal_that_is_gone(
        self, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
    ):
        """It does not come between a guest and its migration."""
        terminal = _on_terminal(monkeypatch)

        def gone(_text: str) -> int:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(terminal, "write", gone)
        hosts.world.source.required_downtime_ms = 1000
        hosts.add_guest("a", "mtty-1")
        hosts.add_guest("b", "mtty-1")

        assert hosts.drain("--parallel-guests", "2").code == 0
        assert hosts.left() == set()


def test_there_and_back(hosts: Hosts, tmp_path: pathlib.Path):
    """A note brings back who came from here, and nobody else."""
    hosts.add_guest("a", "mtty-1")
    hosts.add_guest("b", "mtty-1")
    note = str(tmp_path / "note")
    hosts.drain("--note", note)
    lines = map(json.loads, pathlib.Path(note).read_text().splitlines())

    answers = [
        hosts.world.call(
            *("drain", "-c", uri, "--to", hosts.world.here, "--json"),
            *("--from-drain", note),
        )
        for uri in hosts.there
    ]

    assert sorted(line["guest"] for line in lines) == ["a", "b"]
    assert [answer.code for answer in answers] == [0, 0]
    assert hosts.left() == {"a", "b"}


def test_killed_in_the_middle(world: World, tmp_path: pathlib.Path):
    """Six guests leave for a small host and another, and all come back.

    None ends at the limit that it begins with; the command is killed while
    the third of them is under way, which goes on without it: at a limit that
    nobody but the operator raises.
    """
    hosts = Hosts(world, ports=(3, 24))
    kinds = [
        *(("mtty-1",), ("mtty-2",), ("mtty-1", "mtty-2")),
        *(("mtty-2", "mtty-2"), ("mtty-1",), ("mtty-1", "mtty-1")),
    ]
    names = {
        hosts.add_guest(f"vm-{number}", *of_it): f"vm-{number}"
        for number, of_it in enumerate(kinds)
    }
    others = hosts.running()[1:]
    world.source.required_downtime_ms = 1000
    note = str(tmp_path / "note")
    under_way: list[str] = []

    def pace(step: testing.Step) -> None:
        if (step.phase, step.number) == ("copy", 2):
            under_way.append(step.guest)
            if len(under_way) == 3:
                world.group.kill_process()

    world.group.pace = pace
    with pytest.raises(testing.ProcessDied):
        hosts.drain("--note", note)
    world.group.new_process()
    world.group.pace = lambda _step: None
    orphan = world.source.open().lookupByUUIDString(under_way[2])
    orphan.migrateSetMaxDowntime(1000)  # As an operator does by virsh.
    world.group.wait_for_migrations()
    gone = set(names.values()) - hosts.left()

    again = hosts.drain("--json", "--note", note)
    left = hosts.running()
    back = [
        world.call(
            *("drain", "-c", uri, "--to", world.here, "--json"),
            *("--from-drain", note),
        )
        for uri in hosts.there
    ]

    assert {names[each] for each in under_way[:3]} == gone
    assert len(gone) == 3
    assert (again.code, again.json["fits"]) == (0, True), again
    assert set(_results(again)) == set(names.values()) - gone
    assert left[0] == 0
    assert left[1] > others[0]
    assert left[2] > others[1]
    assert [answer.code for answer in back] == [0, 0]
    assert hosts.left() == set(names.values())
    assert hosts.running()[1:] == others
    assert world.group.violations() == []


def test_only_some_come_back(hosts: Hosts, tmp_path: pathlib.Path):
    """--only chooses among those that the note names, and no others."""
    for name in "ab":
        hosts.add_guest(name, "mtty-1")
    note = str(tmp_path / "note")
    away = ("--to", hosts.there[0], "--json")
    hosts.world.run("drain", *away, "--only", "a", "--note", note)
    hosts.world.run("drain", *away, "--only", "b", "--note", note)
    hosts.add_guest("c", "mtty-1")
    hosts.world.run("drain", *away, "--only", "c")
    back = ("drain", "-c", hosts.there[0], "--to", hosts.world.here)

    answer = hosts.world.call(
        *(*back, "--from-drain", note, "--json"),
        *("--only", "a", "--only", "c"),
    )

    assert answer.code == 0, answer
    assert _results(answer) == {"a": "migrated"}
    assert hosts.left() == {"a"}


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--only", "nobody"), 2, "no guest 'nobody' there"),
        (("--except", "nobody"), 2, "no guest 'nobody' there"),
        (("--peer-uri", "qemu:///system"), 2, "as often as --to"),
        (("--to", "qemu+tls://host-b/system"), 2, "a host twice"),
        (("--from-drain", __file__), 2, "needs one --to"),
        (("--note", "/nonexistent/note"), 2, "nothing can be made in"),
    ],
)
def test_wrong_calls(
    hosts: Hosts, args: tuple[str, ...], code: int, words: str
):
    """What cannot be meant is said, and nobody moves."""
    hosts.add_guest("a", "mtty-1")

    answer = hosts.drain(*args)

    assert answer.code == code, answer
    assert words in answer.err
    assert hosts.left() == {"a"}


def test_no_note(hosts: Hosts):
    """A file that is none is refused."""
    answer = hosts.world.run(
        "drain", "--to", hosts.world.there, "--from-drain", __file__
    )

    assert answer.code == 2
    assert "is no note of a drain" in answer.err


@pytest.mark.parametrize(
    "content",
    [
        *(b"\xff", b"{}", b"[]", b"1", b"[" * 99_999, b"\n{", b"\xef\xbb\xbf"),
        b'{"instance_uuid": 1, "from": "x"}',
    ],
)
def test_spoiled_note(hosts: Hosts, tmp_path: pathlib.Path, content: bytes):
    """The line that is none is named, so that it can be mended."""
    path = tmp_path / "note"
    path.write_bytes(content)
    number = content.count(b"\n") + 1

    answer = hosts.world.run(
        "drain", "--to", hosts.world.there, "--from-drain", str(path)
    )

    assert answer.code == 2, answer
    assert f"line {number} of {path} is no note of a drain" in answer.err


def test_one_host_by_two_addresses(world: World):
    """It has room but once."""
    hosts = Hosts(world, ports=(1, 0))
    for name in "ab":
        hosts.add_guest(name, "mtty-1")
    again = "qemu+ssh://host-b/system"
    world.destination.uris += (again,)

    answer = hosts.drain("--to", again, "--json")

    assert (answer.code, answer.json["guests"]) == (1, [])
    assert answer.json["error"]["code"] == "option-invalid"
    assert again in answer.json["error"]["message"]
    assert hosts.left() == {"a", "b"}


def test_named_guests_called_again(hosts: Hosts):
    """Who has left already is no wrong name: the others go on."""
    hosts.add_guest("a", "mtty-1")
    hosts.add_guest("b", "mtty-1")
    hosts.drain("--only", "a")

    answer = hosts.drain("--only", "a", "--only", "b", "--json")

    assert (answer.code, _results(answer)) == (0, {"b": "migrated"})
    assert re.search(
        r"'a' is on qemu\+tls://host-[bc]/system already", answer.err
    )


def test_hostile_names(hosts: Hosts):
    """Nothing in a name moves a terminal's cursor."""
    hosts.add_guest("a\x9b2J\u202eb", "mtty-1")

    answer = hosts.drain("--note", "/dev/full")

    assert answer.code == 0
    assert "warning: no note of a?2J?b: " in answer.err
    assert (answer.out + answer.err).replace("\n", "").isprintable()


def test_events(hosts: Hosts, tmp_path: pathlib.Path):
    """Programs hear of every guest, each attempt, and the end of all."""
    hosts.add_guest("a", "mtty-1")
    hosts.add_guest("b", "mtty-1")
    met = []

    def pace(step: testing.Step) -> None:
        if step.phase == "load" and not met:
            met.append(step.guest)
            raise testing.libvirt_error(1, "out of luck")

    hosts.world.group.pace = pace
    path = tmp_path / "events"

    answer = hosts.drain(
        *("--json", "--events", str(path), "--parallel-guests", "2")
    )

    *events, last = map(json.loads, path.read_text().splitlines())
    ends = [each for each in events if each["event"] == "end"]
    by_guest = {each["guest"]: each["tried"] for each in answer.json["guests"]}
    assert answer.code == 0
    assert {each["guest"] for each in events} == {"a", "b"}
    for guest, tried in by_guest.items():
        told = [each for each in ends if each["guest"] == guest]
        for each in told:
            del each["event"], each["time"]
        assert told == tried
    assert len(ends) == 3
    assert last["event"] == "drained"
    assert answer.json.items() <= last.items()


@pytest.mark.parametrize("args", [(), ("--dry-run",)])
def test_events_with_the_answer(hosts: Hosts, args: tuple[str, ...]):
    """On stdout the answer is the last line."""
    hosts.add_guest("a", "mtty-1")

    answer = hosts.drain("--json", "--events", "-", *args)

    *events, last = map(json.loads, answer.out.splitlines())
    assert answer.code == 0
    assert _outcomes(last) == {"a": "not-begun" if args else "migrated"}
    assert all("event" in each for each in events)
    assert bool(events) == (not args)


def test_events_that_end_early(world: World):
    """An error is one line, too."""
    answer = world.run(
        *("drain", "--to", "qemu+tls://nowhere/system"),
        *("--json", "--events", "-"),
    )

    (last,) = map(json.loads, answer.out.splitlines())
    assert answer.code == 3
    assert last["error"]["code"] == "host-unreachable"


def test_one_look_at_each_host(hosts: Hosts):
    """However many guests there are, hosts are listed as often as for one."""

    def count() -> int:
        hosts.world.group.faults.forget_calls()
        hosts.drain("--dry-run")
        listing = ("listAllDomains", "listAllDevices", "getCapabilities")
        calls = hosts.world.group.faults.calls
        return sum(call.name in listing for call in calls)

    hosts.add_guest("vm", "mtty-1")
    one = count()
    for number in range(5):
        hosts.add_guest(f"vm-{number}", "mtty-1")

    assert count() == one


def test_which_of_several_hosts(world: World):
    """``check`` tells for each destination, with reasons."""
    hosts = Hosts(world, ports=(0, 24))
    hosts.add_guest("vm", "mtty-1")
    places = [word for uri in hosts.there for word in ("--to", uri)]

    answer = world.run("check", "vm", *places, "--json")
    people = world.run("check", "vm", *places)

    found = answer.json["destinations"]
    assert (answer.code, answer.json["allowed"]) == (0, True)
    assert [(each["to"], each["allowed"]) for each in found] == [
        (hosts.there[0], False),
        (hosts.there[1], True),
    ]
    assert "too-few-mdevs" in [check["code"] for check in found[0]["checks"]]
    assert people.code == 0
    assert people.out.splitlines()[-2:] == [
        f"{hosts.there[0]}  no",
        f"{hosts.there[1]}  yes",
    ]


@pytest.mark.parametrize(
    ("there", "code"), [("host-b", 0), ("also-nowhere", 3)]
)
def test_one_of_several_is_out_of_reach(world: World, there: str, code: int):
    """That is said of it; another one may yet do."""
    world.add_guest()

    answer = world.run(
        *("check", "vm", "--to", "qemu+tls://nowhere/system"),
        *("--to", f"qemu+tls://{there}/system", "--json"),
    )

    first = answer.json["destinations"][0]
    assert (answer.code, first["error"]["code"]) == (code, "host-unreachable")


class TestMemory:
    """A guest with mdevs takes all of its memory at once."""

    def test_a_host_has_too_little(self, hosts: Hosts):
        """It goes where there is enough, whatever else fits."""
        for name in "abc":
            hosts.add_guest(name, "mtty-1")
        hosts.world.destination.memory_kib = 64 << 10

        answer = hosts.drain("--json")

        assert answer.code == 0, answer
        assert hosts.running() == [0, 1, 2]

    def test_all_have(self, hosts: Hosts):
        """It is said what is needed, and what is left."""
        hosts.add_guest("a", "mtty-1")
        for host in (hosts.world.destination, hosts.third):
            host.memory_kib = 63 << 10

        answer = hosts.drain("--dry-run", "--json")

        (guest,) = answer.json["guests"]
        assert (answer.code, guest["planned"]) == (1, None)
        assert answer.json["shortage"] == {}
        assert (
            list(guest["reasons"].values())
            == ["it needs 64 MiB of memory, and 63 MiB are left there"] * 2
        )

    def test_a_host_that_does_not_tell(self, hosts: Hosts):
        """Nobody stays for what is not known."""
        hosts.add_guest("a", "mtty-1")
        unsupported = testing.libvirt_error(
            libvirt.VIR_ERR_NO_SUPPORT, "virNodeGetMemoryStats"
        )
        hosts.world.group.faults.on(
            "getMemoryStats", testing.fail(unsupported), host="host-b"
        )
        hosts.third.memory_kib = 0

        assert hosts.drain("--json").code == 0
        assert hosts.running() == [0, 1, 0]


def test_it_is_not_known_where_a_guest_is(hosts: Hosts):
    """Exit code 1 would say that it is where it was; nobody else is tried."""
    hosts.add_guest("a", "mtty-1")
    hosts.world.limits = dataclasses.replace(hosts.world.limits, settle_s=0.05)

    def pace(step: testing.Step) -> None:
        if step.phase == "load":
            hosts.world.source.crash("power")

    hosts.world.group.pace = pace

    answer = hosts.drain("--json")

    (guest,) = answer.json["guests"]
    assert [each["error"]["code"] for each in guest["tried"]] == [
        "outcome-unknown"
    ]
    assert answer.code == 3


def test_each_host_by_its_own_address(hosts: Hosts):
    """Whom the source does not reach is no place for a guest."""
    hosts.add_guest("a", "mtty-1")
    hosts.add_guest("b", "mtty-1")

    answer = hosts.drain(
        *("--json", "--peer-uri", "qemu+tls://nowhere/system"),
        *("--peer-uri", hosts.there[1]),
    )

    assert (answer.code, hosts.running()) == (0, [0, 0, 2])


def test_the_note_is_written_before(hosts: Hosts, tmp_path: pathlib.Path):
    """A command that is killed may yet have moved a guest."""
    hosts.add_guest("a", "mtty-1")
    note = tmp_path / "note"
    seen = []

    def pace(step: testing.Step) -> None:
        if step.phase == "copy" and not seen:
            seen.append(json.loads(note.read_text())["guest"])

    hosts.world.group.pace = pace

    hosts.drain("--note", str(note))

    assert seen == ["a"]


def test_definition_that_an_earlier_stay_left(world: World):
    """A full host takes the guest back whose mdev it still keeps."""
    hosts = Hosts(world, ports=(1, 0))
    uuid = hosts.add_guest("vm", "mtty-1")
    kept = builders.uuid(0x900)
    world.destination.add_mdev(kept, "mtty-1")
    world.destination.add_guest("vm", uuid, [kept], running=False)

    answer = hosts.drain("--json")

    assert _results(answer) == {"vm": "migrated"}
    assert kept in world.destination.used_mdevs()


class TestShutOff:
    """Definitions of guests that are off move, with mdevs for them."""

    def _definitions(self, hosts: Hosts, host: testing.SimulatedHost):
        domains = hosts.world.group.open(host.uris[0]).listAllDomains()
        return {each.name(): each.XMLDesc() for each in domains}

    def test_they_stay(self, hosts: Hosts):
        """Unless it is asked for, which is said; only of who is meant."""
        uuid = hosts.add_guest("off", "mtty-1", running=False)
        hosts.add_guest("plain", running=False)
        hosts.add_guest("kept", "mtty-1", running=False)

        answer = hosts.drain("--json", "--except", "kept")
        people = hosts.drain("--dry-run", "--only", "off")

        assert (answer.code, answer.json["guests"]) == (0, [])
        assert answer.json["off"] == [{"guest": "off", "instance_uuid": uuid}]
        assert (people.code, people.out.splitlines()) == (
            0,
            [
                "there is no guest to move",
                "off, so not moved: off; --shut-off moves the definitions",
            ],
        )

    def test_they_move(self, hosts: Hosts):
        """Nothing of them is left, and they will start there."""
        hosts.add_guest("on", "mtty-1")
        uuid = hosts.add_guest("off", "mtty-2", running=False)

        answer = hosts.drain("--shut-off", "--json")

        assert answer.code == 0, answer
        assert _results(answer) == {"on": "migrated", "off": "migrated"}
        (off,) = (g for g in answer.json["guests"] if g["shut_off"])
        assert (off["types"], off["instance_uuid"]) == (["mtty-2"], uuid)
        assert self._definitions(hosts, hosts.world.source) == {}
        (there,) = (
            host
            for host in (hosts.world.destination, hosts.third)
            if off["destination"] in host.uris
        )
        found = self._definitions(hosts, there)
        (target,) = off["tried"][0]["target_mdevs"].values()
        assert target in found["off"]
        assert not [name for name in found if name.startswith("mdev-claim")]
        assert there.mdevs()[target].mdev_type == "mtty-2"
        there.open().lookupByName("off").create()
        assert hosts.world.group.violations() == []

    def test_people(self, hosts: Hosts):
        """Nothing is said of a downtime that it had not."""
        hosts.add_guest("off", "mtty-1", running=False)

        answer = hosts.drain("--shut-off")

        (told,) = (
            line
            for line in answer.err.splitlines()
            if line.startswith("off: migrated")
        )
        assert told.startswith("off: migrated: the definition, in ")
        assert "unknown" not in told

    def test_and_come_back(self, hosts: Hosts, tmp_path: pathlib.Path):
        """A note says of them, too, where they came from."""
        hosts.add_guest("off", "mtty-1", running=False)
        note = str(tmp_path / "note")
        (there,) = {
            guest["destination"]
            for guest in hosts.drain(
                "--shut-off", "--note", note, "--json"
            ).json["guests"]
        }

        answer = hosts.world.call(
            *("drain", "-c", there, "--to", hosts.world.here, "--json"),
            *("--from-drain", note, "--shut-off"),
        )

        assert (answer.code, _results(answer)) == (0, {"off": "migrated"})
        assert [*self._definitions(hosts, hosts.world.source)] == ["off"]

    @pytest.mark.parametrize(
        ("effect", "result"),
        [
            (
                testing.fail(testing.libvirt_error(1, "out of luck")),
                "failed",
            ),
            (testing.lose_answer(), "migrated"),
            (testing.lose_connection(), "failed"),
        ],
    )
    def test_what_fails_is_looked_for(
        self, world: World, effect: testing.Effect, result: str
    ):
        """One host has the definition, and nothing else is left."""
        hosts = Hosts(world)
        hosts.add_guest("off", "mtty-1", running=False)
        world.group.faults.on("migrateToURI3", effect)

        answer = world.run(
            "drain", "--to", world.there, "--shut-off", "--json"
        )

        assert _results(answer) == {"off": result}
        here = self._definitions(hosts, world.source)
        there = self._definitions(hosts, world.destination)
        assert [*here, *there] == ["off"]
        assert len(world.destination.mdevs()) == (result == "migrated")

    def test_started_meanwhile(self, hosts: Hosts):
        """It is left where it runs."""
        uuid = hosts.add_guest("off", "mtty-1", running=False)
        hosts.world.group.faults.on(
            "defineXML", lambda _link, call: (self._start(hosts), call())[1]
        )
        hosts.world.group.faults.on(
            "defineXMLFlags",
            lambda _link, call: (self._start(hosts), call())[1],
        )

        answer = hosts.drain("--shut-off", "--json")

        (guest,) = answer.json["guests"]
        assert answer.code == 1
        assert {t["error"]["code"] for t in guest["tried"]} == {
            "guest-started"
        }
        assert [*hosts.world.source.running_guests()] == [uuid]
        assert hosts.world.destination.mdevs() == {}
        assert hosts.third.mdevs() == {}

    def _start(self, hosts: Hosts) -> None:
        hosts.world.source.open().lookupByName("off").create()

    def test_mdevs_that_nobody_knows(self, hosts: Hosts):
        """Their type cannot be told, so the guest stays."""
        number = builders.instance(99)
        hosts.world.source.add_guest(
            "off", number, [builders.uuid(0x999)], running=False
        )

        answer = hosts.drain("--shut-off", "--json")

        (guest,) = answer.json["guests"]
        assert (answer.code, guest["result"]) == (1, "stays")
        assert all("0999" in text for text in guest["reasons"].values())


@pytest.mark.parametrize(
    ("option", "left"), [("--only", {"b", "7"}), ("--except", {"a"})]
)
def test_guest_by_number(hosts: Hosts, option: str, left: set[str]):
    """'virsh list' shows it first; a guest of that name comes before it."""
    hosts.add_guest("a", "mtty-1")
    hosts.add_guest("b", "mtty-1")
    hosts.add_guest("7", "mtty-1")
    number = hosts.world.source.open().lookupByName("a").ID()

    answer = hosts.drain("--json", option, str(number))

    assert (answer.code, hosts.left()) == (0, left)


def test_guest_whose_name_is_a_number(hosts: Hosts):
    """It is found by it, whatever guest has that number."""
    hosts.add_guest("a", "mtty-1")
    number = hosts.world.source.open().lookupByName("a").ID()
    hosts.add_guest(str(number), "mtty-1")

    answer = hosts.drain("--json", "--only", str(number))

    assert (answer.code, hosts.left()) == (0, {"a"})


def test_number_that_no_guest_has(hosts: Hosts):
    """It is refused as any other word that names nobody."""
    hosts.add_guest("a", "mtty-1")

    answer = hosts.drain("--only", "99")

    assert answer.code == 2
    assert "no guest '99' there" in answer.err
