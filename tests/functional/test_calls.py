# SPDX-License-Identifier: Apache-2.0
"""How many calls does a command make to hosts of a given size?"""

from __future__ import annotations

from typing import Any

import pytest

from mdev_migrate import exception, libvirt_host, model, testing
from mdev_migrate.host import Host
from mdev_migrate.workflow import (
    Destination,
    GuestCheck,
    GuestMigration,
    Options,
    Outcome,
    Report,
)
from tests import builders
from tests.functional.conftest import LIMITS, World

#: Parents, mdevs and guests of a host.
SIZES = [(1, 1, 1), (4, 8, 6), (32, 32, 32)]
#: Calls that a check makes to a destination that is watched.
WARM = 3


def fill(host: testing.SimulatedHost, size: tuple[int, int, int]) -> None:
    """Give a host so many parents, mdevs and guests.

    Every second guest is shut off; each of those holds one of the mdevs.
    """
    parents, mdevs, guests = size
    room = max(8, mdevs // parents + 2)
    host.devices.parents = {
        f"pci_0000_{n:02x}_00_0": testing.NvidiaParent(
            f"pci_0000_{n:02x}_00_0", {"nvidia-11": room, "nvidia-12": 4}
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


class Stale:
    """A host of which is known what no longer is true."""

    def __init__(self, host: libvirt_host.LibvirtHost) -> None:
        self._host = host
        self._known = host.inventory(warm=True)

    def inventory(
        self, *kinds: Any, warm: bool = False, **how: Any
    ) -> model.Inventory:
        """Return what was known, where that will do."""
        if warm:
            return self._known
        return self._host.inventory(*kinds, **how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)


class Service:
    """A program that keeps the destination in mind."""

    def __init__(self, world: World) -> None:
        self.source, self.watched = (
            libvirt_host.LibvirtHost(
                uri, kernel="6.12.0-amd64", opener=world.group.open
            )
            for uri in (world.here, world.there)
        )
        self.watched.keep_watch()
        self._to = world.there

    def check(self, guest: str, **way: Any) -> Report:
        """Check a guest, from what is known of the destination."""
        return GuestCheck(*self._between(guest, **way)).check()

    def migrate(self, guest: str, **way: Any) -> Outcome:
        """Migrate a guest."""
        return GuestMigration(*self._between(guest, **way)).run()

    def _between(
        self, guest: str, host: Any = None
    ) -> tuple[Host, Destination, str, Options]:
        to = Destination(host or self.watched, limits=LIMITS)
        return self.source, to, guest, Options(peer_uri=self._to)


@pytest.mark.parametrize("size", [(32, 32, 32), (32, 1_000, 500)], ids=str)
def test_warm_check(world: World, size: tuple[int, int, int]):
    """A watched destination is asked for little, whatever its size."""
    fill(world.destination, size)
    world.source.devices.parents = {
        "pci_0000_00_00_0": testing.NvidiaParent(
            "pci_0000_00_00_0", {"nvidia-11": 1}
        )
    }
    mdev = builders.uuid(1)
    world.source.add_mdev(mdev, "nvidia-11")
    world.source.add_guest("vm", builders.instance(1), [mdev])
    service = Service(world)
    assert service.check("vm").allowed
    world.group.faults.forget_calls()

    assert service.check("vm").allowed

    assert calls(world)["host-b"] == WARM


def test_stale_knowledge_gives_no_mdev_out_twice(world: World):
    """What a service believes to be available is decided by the claim."""
    last = builders.uuid(0x2000)
    world.destination.devices.parents["mtty_mtty"] = testing.MttyParent()
    for number in range(24):
        taken = builders.uuid(0x2000 + number)
        world.destination.add_mdev(taken, "mtty-1")
        if taken != last:
            world.destination.add_guest(
                f"there-{number}", builders.instance(0x2000 + number), [taken]
            )
    for number, name in enumerate(("first", "second"), 1):
        world.source.add_mdev(builders.uuid(number), "mtty-1")
        world.source.add_guest(
            name, builders.instance(number), [builders.uuid(number)]
        )
    service = Service(world)
    stale = Stale(service.watched)

    first = service.migrate("first")
    believed = service.check("second", host=stale)
    second = service.migrate("second", host=stale)

    assert first.result == "migrated"
    assert believed.plan is not None
    assert [each.uuid for each in believed.plan.reuse] == [last]
    assert second.result == "refused"
    assert isinstance(second.error, exception.TooFewMdevs)
    assert world.group.violations() == []
