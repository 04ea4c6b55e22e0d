# SPDX-License-Identifier: Apache-2.0
"""Does ``doctor`` say what is wrong with a host, and what to do?"""

import pathlib
from collections.abc import Sequence

import libvirt
import pytest

from mdev_migrate import testing
from mdev_migrate.cli import machine
from mdev_migrate.core import diagnosis
from tests import builders
from tests.functional.conftest import Answer, World

CARD = "pci_0000_41_00_0"


def _result(answer: Answer, name: str, host: int = 0) -> tuple[str, str]:
    """Return result and detail of the finding of a name."""
    (found,) = (
        finding
        for finding in answer.json["hosts"][host]["findings"]
        if finding["name"] == name
    )
    return found["result"], found["detail"]


def _world(
    capsys: pytest.CaptureFixture[str], *parents: testing.Parent
) -> World:
    """Return two hosts, the source with just these parents."""
    world = World(capsys)
    world.source.devices.parents = {each.name: each for each in parents}
    return world


def test_all_is_well(world: World):
    """Nothing is left behind, and both ends are looked at."""
    world.add_guest()
    before = world.snapshot()

    answer = world.run("doctor", "--to", world.there, "--json")

    assert (answer.code, answer.json["well"]) == (0, True), answer
    assert [each["uri"] for each in answer.json["hosts"]] == [
        world.here,
        world.there,
    ]
    for host in (0, 1):
        for name in ("libvirt-version", "may-claim", "may-create", "parents"):
            assert _result(answer, name, host)[0] == "well"
    assert _result(answer, "peer")[0] == "well"
    assert world.snapshot() == before
    for uri in (world.here, world.there):
        domains = world.group.open(uri).listAllDomains()
        assert [each.name() for each in domains if each.name() != "vm"] == []


def test_people(world: World):
    """A table for each host, and what to do about what is wrong."""
    world.source.devices.parents = {}

    answer = world.run("doctor")

    lines = answer.out.splitlines()
    assert answer.code == 1
    assert lines[0] == f"{world.here}:"
    assert lines[1].split() == ["WHAT", "RESULT", "DETAIL"]
    assert any(line.startswith("hint: parents: load") for line in lines)
    assert lines[-1] == "1 to be mended, see the hints"


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (testing.IdleCard(CARD), "has no driver"),
        (testing.IdleCard(CARD, "nouveau"), "is driven by nouveau"),
        (
            testing.IdleCard(CARD, "nvidia", 16),
            "none of its 16 virtual functions",
        ),
        (testing.IdleCard(CARD, "nvidia"), "offers no mdev types"),
    ],
)
def test_why_there_are_no_parents(
    capsys: pytest.CaptureFixture[str], card: testing.Parent, words: str
):
    """Each reason is named, with the card."""
    answer = _world(capsys, card).run("doctor", "--json")

    result, detail = _result(answer, "card")
    assert (answer.code, result) == (1, "wrong")
    assert words in detail
    assert detail.startswith(CARD)


def test_a_card_that_serves(capsys: pytest.CaptureFixture[str]):
    """A parent is no card to complain of."""
    world = _world(capsys, testing.NvidiaParent(CARD, {"nvidia-11": 4}))

    answer = world.run("doctor", "--json")

    names = [each["name"] for each in answer.json["hosts"][0]["findings"]]
    assert answer.code == 0
    assert "card" not in names


@pytest.mark.parametrize(
    ("call", "name"),
    [("defineXML", "may-claim"), ("nodeDeviceCreateXML", "may-create")],
)
def test_what_access_control_denies(world: World, call: str, name: str):
    """It is found out before a migration is tried."""
    denied = testing.libvirt_error(libvirt.VIR_ERR_ACCESS_DENIED, "no")
    world.group.faults.on(call, testing.fail(denied))
    flags = f"{call[: -len('XML')]}XMLFlags"
    world.group.faults.on(flags, testing.fail(denied))

    answer = world.run("doctor", "--json")

    assert (answer.code, _result(answer, name)[0]) == (1, "wrong"), answer


class TestPeer:
    """The source is asked whether it reaches the destination."""

    def test_it_does_not(self, world: World):
        """That is wrong, and in nobody's way but the operator's."""
        world.add_guest()

        answer = world.run(
            *("doctor", "--to", world.there, "--json"),
            *("--peer-uri", "qemu+tls://nowhere/system"),
        )

        result, detail = _result(answer, "peer")
        assert (answer.code, result) == (1, "wrong")
        assert "does not reach qemu+tls://nowhere/system" in detail

    def test_nobody_to_ask_for(self, world: World):
        """Without a guest it cannot be told."""
        answer = world.run("doctor", "--to", world.there, "--json")

        assert (answer.code, _result(answer, "peer")[0]) == (0, "unknown")

    def test_another_guest_is_asked_for(self, world: World):
        """One that cannot be migrated tells nothing of the way."""
        world.add_guest(blockers=["no VFIO migration"])
        world.source.add_guest("other", builders.instance(0xFFFF), [])

        answer = world.run("doctor", "--to", world.there, "--json")

        assert _result(answer, "peer")[0] == "well"

    def test_a_guest_that_is_blocked(self, world: World):
        """libvirt looks at the guest first."""
        world.add_guest(blockers=["no VFIO migration"])

        answer = world.run("doctor", "--to", world.there, "--json")

        assert _result(answer, "peer")[0] == "unknown"

    def test_needs_a_destination(self, world: World):
        """An address of nobody is a mistake."""
        assert world.run("doctor", "--peer-uri", world.there).code == 2


def test_unreachable(world: World):
    """No host, no findings."""
    answer = world.run("doctor", "--to", "qemu+tls://nowhere/system", "--json")

    assert (answer.code, answer.json["hosts"]) == (3, [])
    assert answer.json["error"]["code"] == "host-unreachable"


class TestMachine:
    """What only a machine itself can tell."""

    def _judge(self, root: pathlib.Path) -> dict[str, diagnosis.Finding]:
        findings: Sequence[diagnosis.Finding] = [
            *diagnosis.machine(machine.look(root))
        ]
        return {each.name: each for each in findings}

    def test_an_empty_one(self, tmp_path: pathlib.Path):
        """What is not there is said, with what to do."""
        found = self._judge(tmp_path)

        assert found["mdev-bus"].result == "wrong"
        assert found["tls-libvirt"].result == "unknown"
        assert "/etc/pki/CA/cacert.pem" in found["tls-libvirt"].detail
        assert found["migration-ports"].detail.startswith("49152 to 49215")
        assert found["lock-limit"].result == "unknown"

    def test_one_that_is_ready(self, tmp_path: pathlib.Path):
        """Files, ports and limits are read where they are."""
        for name in (
            *machine._TLS["libvirt"],
            *machine._TLS["qemu"],
            "sys/class/mdev_bus/card",
        ):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        _write(tmp_path, "proc/41/comm", "virtqemud\n")
        _write(
            tmp_path,
            "proc/41/limits",
            "Limit            Soft Limit  Hard Limit  Units\n"
            "Max locked memory         8388608    8388608    bytes\n",
        )
        _write(
            tmp_path,
            "etc/libvirt/qemu.conf",
            "#migration_port_min = 49152\n migration_port_max = 49153\n",
        )
        _write(
            tmp_path,
            "proc/net/tcp",
            "  sl  local_address rem_address   st\n"
            "   0: 00000000:C000 00000000:0000 0A\n"
            "   1: 00000000:C001 00000000:0000 0A\n"
            "   2: 00000000:0016 00000000:0000 0A\n",
        )

        found = self._judge(tmp_path)

        assert "mdev-bus" not in found
        assert found["tls-libvirt"].result == "well"
        assert found["tls-qemu"].result == "well"
        assert found["migration-ports"].result == "wrong"
        assert "2 are in use" in found["migration-ports"].detail
        assert "8388608 bytes" in found["lock-limit"].detail

    def test_another_machine(self):
        """It is said that it cannot be told from here."""
        (found,) = diagnosis.machine(None)

        assert found.result == "unknown"


def _write(root: pathlib.Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
