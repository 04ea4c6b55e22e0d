# SPDX-License-Identifier: Apache-2.0
"""Does a watched host's inventory stay true, and for how few calls?"""

from __future__ import annotations

import contextlib
from dataclasses import replace

import libvirt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdev_migrate import exception, libvirt_host, libvirt_watch, model, testing
from mdev_migrate.core import claim_xml
from tests import builders

PARENTS = ("pci_0000_06_00_0", "pci_0000_06_00_1")
FORM = claim_xml.Form()


class Bench:
    """A host, watched and not."""

    def __init__(self) -> None:
        self.group = testing.SimulatedGroup()
        self.host = self.group.add_host(
            "host",
            [
                testing.NvidiaParent(name, {"nvidia-11": 4, "nvidia-12": 2})
                for name in PARENTS
            ],
        )
        self.fresh = self.open()
        self.watched = self.open()
        self.watched.keep_watch()

    def open(self) -> libvirt_host.LibvirtHost:
        """Reach the host."""
        return libvirt_host.LibvirtHost(
            self.host.uris[0], opener=self.group.open
        )

    def calls(self) -> int:
        """Return how many calls a warm inventory takes."""
        self.group.faults.forget_calls()
        self.watched.inventory(warm=True)
        return len(self.group.faults.calls)


@pytest.fixture
def bench() -> Bench:
    """A watched host that was looked at once."""
    bench = Bench()
    bench.watched.inventory(warm=True)
    return bench


def claim(number: int) -> model.Claim:
    """Return a claim of the numbered mdev, which need not exist."""
    return model.Claim(
        builders.instance(number),
        builders.uuid(0xC0 + number),
        (
            model.Target(
                builders.mdev(number, "nvidia-11", PARENTS[0]),
                False,
                builders.uuid(0xD0 + number),
            ),
        ),
    )


def create(bench: Bench, number: int) -> None:
    """Create an mdev."""
    kind, parent = f"nvidia-1{1 + number % 2}", PARENTS[number % 2]
    bench.fresh.create_mdev(
        builders.mdev(number, kind, parent, persistent=number > 2)
    )


def remove(bench: Bench, number: int) -> None:
    """Destroy an mdev, but leave its definition if it has one."""
    bench.fresh.remove_mdev(builders.mdev(number, "nvidia-11", PARENTS[0]))


def define(bench: Bench, number: int) -> None:
    """Define a guest, or change the definition that is there."""
    document = testing.guest_document(
        f"vm-{number}", builders.instance(number), [builders.uuid(number)]
    )
    bench.host.open().defineXML(document)


def start(bench: Bench, number: int) -> None:
    """Start a defined guest."""
    bench.host.open().lookupByUUIDString(builders.instance(number)).create()


def pause(bench: Bench, number: int) -> None:
    """Pause a running guest."""
    bench.host.open().lookupByUUIDString(builders.instance(number)).suspend()


def stop(bench: Bench, number: int) -> None:
    """Stop a running guest."""
    bench.host.open().lookupByUUIDString(builders.instance(number)).destroy()


def undefine(bench: Bench, number: int) -> None:
    """Remove a guest's definition."""
    bench.host.open().lookupByUUIDString(builders.instance(number)).undefine()


def define_claim(bench: Bench, number: int) -> None:
    """Claim an mdev."""
    bench.fresh.claims.define(claim(number), FORM)


def write_claim(bench: Bench, number: int) -> None:
    """Let an owner say that it lives."""
    bench.fresh.claims.write(replace(claim(number), beat=12.5))


def release(bench: Bench, number: int) -> None:
    """Release a claim."""
    bench.fresh.claims.undefine(claim(number))


def define_strange(bench: Bench, number: int) -> None:
    """Define a guest that is named like a claim."""
    name = claim_xml.name_of(builders.uuid(number))
    bench.host.open().defineXML(
        testing.guest_document(name, builders.instance(0xE0 + number), [])
    )


CHANGES = (
    create,
    remove,
    define,
    start,
    pause,
    stop,
    undefine,
    define_claim,
    write_claim,
    release,
    define_strange,
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(CHANGES), st.integers(1, 4), st.booleans()),
        max_size=25,
    )
)
def test_as_fresh_after_every_change(steps):
    """Whatever happens on a host, a warm inventory says what a fresh one does.

    Looked at after each change, or after several.
    """
    bench = Bench()
    bench.watched.inventory(warm=True)
    for change, number, look in steps:
        with contextlib.suppress(
            exception.MdevMigrateError, libvirt.libvirtError
        ):
            change(bench, number)
        if look:
            warm = bench.watched.inventory(warm=True)
            assert warm == bench.fresh.inventory()

    assert bench.watched.inventory(warm=True) == bench.fresh.inventory()


@pytest.mark.parametrize("size", [(2, 2), (64, 32)], ids=str)
def test_no_call_where_nothing_changed(bench, size):
    """However large a host is, what is known is not asked again."""
    mdevs, guests = size
    bench.host.devices.parents |= {
        f"pci_0000_{n:02x}_00_0": testing.NvidiaParent(
            f"pci_0000_{n:02x}_00_0", {"nvidia-11": 4}
        )
        for n in range(0x10, 0x20)
    }
    parents = [*bench.host.devices.parents][2:]
    for number in range(mdevs):
        bench.host.add_mdev(
            builders.uuid(number + 9), "nvidia-11", parents[number % 16]
        )
    for number in range(guests):
        bench.host.add_guest(f"vm-{number}", builders.instance(number))
    bench.watched.inventory(warm=True)

    assert bench.calls() == 0


def test_few_calls_for_one_change(bench):
    """A guest that stopped costs a look at that guest."""
    for number in range(8):
        bench.host.add_guest(f"vm-{number}", builders.instance(number))
    bench.watched.inventory(warm=True)

    stop(bench, 3)

    assert bench.calls() <= 5


def test_room_of_a_card_follows_its_mdevs(bench):
    """An mdev that came takes room, on whatever function of its card."""
    before = bench.watched.inventory(warm=True).parents[0]

    create(bench, 2)

    after = bench.watched.inventory(warm=True).parents[0]
    assert before.offer("nvidia-11").available_instances == 4
    assert after.offer("nvidia-11").available_instances == 3


def test_everything_is_read_again_at_times(bench):
    """What no event told is found by the next full look."""
    now = 0.0
    watch = libvirt_watch.Watch(
        bench.host.open(),
        bench.fresh.inventory,
        full_look_s=10.0,
        clock=lambda: now,
    )
    before = watch.inventory()
    bench.host.devices.parents.clear()

    now = 9.0
    assert watch.inventory() == before
    now = 10.0
    assert watch.inventory().parents == ()


def test_everything_is_read_again_after_an_error(bench):
    """What could not be read is not forgotten."""
    create(bench, 1)
    bench.group.faults.on(
        "listAllDevices",
        testing.fail(
            testing.libvirt_error(
                libvirt.VIR_ERR_ACCESS_DENIED, "no", libvirt.VIR_FROM_NODEDEV
            )
        ),
    )

    with pytest.raises(exception.AccessDenied):
        bench.watched.inventory(warm=True)

    assert bench.watched.inventory(warm=True) == bench.fresh.inventory()


def test_watched_again_after_a_reconnection(bench):
    """A new connection has its own events, and starts with a full look."""
    create(bench, 1)
    bench.watched.reconnect()
    create(bench, 3)
    bench.watched.inventory(warm=True)
    create(bench, 2)

    assert bench.watched.inventory(warm=True) == bench.fresh.inventory()


def test_host_without_events(bench):
    """A host that tells no events cannot be watched, and says so."""
    host = bench.open()
    bench.group.faults.on(
        "nodeDeviceEventRegisterAny",
        testing.fail(
            testing.libvirt_error(
                libvirt.VIR_ERR_NO_SUPPORT, "none", libvirt.VIR_FROM_NODEDEV
            )
        ),
    )

    with pytest.raises(exception.LibvirtFailed):
        host.keep_watch()

    assert host.inventory(warm=True) == bench.fresh.inventory()
