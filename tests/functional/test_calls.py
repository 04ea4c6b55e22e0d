# SPDX-License-Identifier: Apache-2.0
"""How many calls does a command make to hosts of a given size?"""

from __future__ import annotations

import pytest

from mdev_migrate import testing
from tests import builders
from tests.functional.conftest import World

#: Parents, mdevs and guests of a host.
SIZES = [(1, 1, 1), (4, 8, 6), (32, 32, 32)]


def fill(host: testing.SimulatedHost, size: tuple[int, int, int]) -> None:
    """Give a host so many parents, mdevs and guests.

    Every second guest is shut off; each of those holds one of the mdevs.
    """
    parents, mdevs, guests = size
    host.devices.parents = {
        f"pci_0000_{n:02x}_00_0": testing.NvidiaParent(
            f"pci_0000_{n:02x}_00_0", {"nvidia-11": 8, "nvidia-12": 4}
        )
        for n in range(parents)
    }
    names = list(host.devices.parents)
    offset = 0x1000 if host.name == "host-a" else 0x2000
    for n in range(mdevs):
        host.add_mdev(
            builders.uuid(offset + n), "nvidia-11", names[n % parents]
        )
    for n in range(guests):
        running = bool(n % 2)
        held = (
            [] if running or n >= mdevs // 2 else [builders.uuid(offset + n)]
        )
        host.add_guest(
            f"guest-{n}", builders.instance(offset + n), held, running=running
        )


@pytest.fixture(params=SIZES, ids=str)
def large(world: World, request: pytest.FixtureRequest) -> World:
    """Two hosts of a size; the last mdev of the source is the guest's."""
    for host in (world.source, world.destination):
        fill(host, request.param)
    last = builders.uuid(0x1000 + request.param[1] - 1)
    world.source.add_guest("vm", builders.instance(1), [last])
    world.group.faults.forget_calls()
    world.size = request.param
    return world


def calls(world: World) -> dict[str, int]:
    """Return how many calls each host got, but for the opening."""
    count = {"host-a": 0, "host-b": 0}
    for call in world.group.faults.calls:
        count[call.host] += call.name not in ("open", "jobStats")
    return count


def test_types(large):
    """Only parents are looked at: 2 + P calls."""
    parents, _, _ = large.size

    assert large.run("types").code == 0

    assert calls(large)["host-a"] <= 2 + parents


def test_list(large):
    """Parents are not looked at; nothing is asked twice."""
    _, mdevs, guests = large.size

    assert large.run("list").code == 0

    assert calls(large)["host-a"] <= 8 + mdevs + 2 * (guests + 1)


def bound(world: World, *, more_guests: int = 0) -> int:
    """Return how many calls a check may make to one host."""
    parents, mdevs, guests = world.size
    return 12 + parents + mdevs + 2 * (guests + more_guests)


def test_check(large):
    """Each host is looked at once, and the source for the guest alone."""
    assert large.run("check", "vm", "--to", large.there).code == 0

    found = calls(large)
    assert found["host-a"] <= bound(large, more_guests=1)
    assert found["host-a"] <= 18
    assert found["host-b"] <= bound(large)


def test_plan(large):
    """A plan is a check, and one more document for what would change."""
    assert large.run("plan", "vm", "--to", large.there).code == 0

    found = calls(large)
    assert found["host-a"] <= 19
    assert found["host-b"] <= bound(large)


def test_migrate(large):
    """What was seen is not read again: 40 calls more, on either side.

    Looks at the job are not counted.
    """
    assert large.run("migrate", "vm", "--to", large.there).code == 0

    found = calls(large)
    assert found["host-a"] <= 18 + 40
    assert found["host-b"] <= bound(large) + 40
