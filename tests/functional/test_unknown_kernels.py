# SPDX-License-Identifier: Apache-2.0
"""Is it said once, and plainly, that libvirt tells no remote host's kernel?"""

from __future__ import annotations

import pytest

from tests.functional.conftest import MDEV_1, World


@pytest.fixture
def remote(world: World) -> World:
    """Two hosts that are both not this machine, and a guest."""
    world.kernel = None
    world.add_guest({MDEV_1: "mtty-1"})
    return world


def _hints(said: str) -> list[str]:
    return [line for line in said.splitlines() if "uname -r" in line]


@pytest.mark.parametrize("command", ["check", "plan"])
def test_checks(remote: World, command: str):
    """Both hosts have their row in the table, and share a hint."""
    answer = remote.run(command, "vm", "--to", remote.there)

    assert answer.code == 0
    assert len(_hints(answer.out + answer.err)) == 1


def test_check_of_several_destinations(remote: World):
    """The hint is the same for all."""
    answer = remote.run(
        *("check", "vm", "--to", remote.there, "--to", remote.there)
    )

    assert len(_hints(answer.out)) == 1


@pytest.mark.parametrize("blockers", [[], ["no VFIO migration"]])
def test_migration(world: World, blockers: list[str]):
    """However it ends; it is no warning."""
    world.kernel = None
    world.add_guest({MDEV_1: "mtty-1"}, blockers=blockers)

    answer = world.run("migrate", "vm", "--to", world.there)

    (line,) = _hints(answer.err)
    assert answer.code == len(blockers)
    assert line.startswith("note: ")
    assert "host-a" in line
    assert "host-b" in line
    assert "Linux 5.18.0" in line


def test_program(remote: World):
    """It is told which hosts, not in words, and has no warning to heed."""
    answer = remote.run("migrate", "vm", "--to", remote.there, "--json")

    assert answer.json["kernels_unknown"] == ["host-a", "host-b"]
    assert answer.json["warnings"] == []


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_drain(remote: World, dry: tuple[str, ...]):
    """Once for all its guests, beforehand."""
    remote.source.add_guest(
        "second", "bbbbbbbb-0000-4000-8000-000000000002", []
    )

    answer = remote.run("drain", "--all", *dry, "--to", remote.there)

    (line,) = _hints(answer.out + answer.err)
    assert answer.code == 0
    assert line.startswith("note: ")


def test_known_kernels(world: World):
    """There is nothing to be said."""
    world.add_guest({MDEV_1: "mtty-1"})

    answer = world.run("migrate", "vm", "--to", world.there)

    assert "note" not in answer.out + answer.err
