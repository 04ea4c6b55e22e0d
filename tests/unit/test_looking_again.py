# SPDX-License-Identifier: Apache-2.0
"""Does a second look at a host, which reads less, find as much?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mdev_migrate import exception, libvirt_host, testing
from mdev_migrate.core import claim_xml
from tests import builders

GUEST, MDEV = "guest-a", builders.uuid(1)
CLAIM = builders.claim(builders.target(builders.mdev(0xC0), created=True))


class Bench:
    """A host with a guest and an mdev, and two ways to it."""

    def __init__(self) -> None:
        group = testing.SimulatedGroup()
        self.host = group.add_host("host", [testing.MttyParent()])
        self.looking, self.fresh = (
            libvirt_host.LibvirtHost(self.host.uris[0], opener=group.open)
            for _ in range(2)
        )
        self.host.add_mdev(MDEV, "mtty-1")
        self.host.add_guest(GUEST, builders.INSTANCE, [MDEV])
        self.connection = group.open(self.host.uris[0])

    @property
    def guest(self) -> Any:
        """Return the guest."""
        return self.connection.lookupByName(GUEST)


@pytest.fixture
def bench() -> Bench:
    """Return a host."""
    return Bench()


EVENTS: dict[str, Callable[[Bench], object]] = {
    "nothing": lambda bench: None,
    "guest is paused": lambda bench: bench.guest.suspend(),
    "guest is stopped": lambda bench: bench.guest.destroy(),
    "guest is forgotten": lambda bench: bench.guest.undefine(),
    "another guest comes": lambda bench: bench.host.add_guest(
        "other", builders.uuid(0xA0), []
    ),
    "an mdev is created": lambda bench: bench.host.add_mdev(
        builders.uuid(2), "mtty-2"
    ),
    "a claim is made": lambda bench: bench.fresh.claims.define(
        CLAIM, claim_xml.Form()
    ),
}


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_what_happened_since(bench: Bench, event: Callable[[Bench], object]):
    """It finds what a first look would."""
    before = bench.looking.inventory()
    event(bench)

    again = bench.looking.inventory(since=before)

    assert again == bench.fresh.inventory()


def test_why_a_guest_is_paused(bench: Bench):
    """No list tells whether it is for somebody or for a migration."""
    bench.guest.suspend()
    before = bench.looking.inventory()
    known = tuple(replace(guest, suspended=False) for guest in before.guests)

    again = bench.looking.inventory(since=replace(before, guests=known))

    assert again == before


def test_mdev_that_was_defined_meanwhile(bench: Bench):
    """It is read anew, whatever was known of it."""
    before = bench.looking.inventory()
    known = tuple(replace(mdev, persistent=True) for mdev in before.mdevs)

    again = bench.looking.inventory(since=replace(before, mdevs=known))

    assert again == before


def test_one_uuid_under_two_parents(bench: Bench):
    """Which of two it is no name tells for sure: it is read anew."""
    before = bench.looking.inventory()
    (mdev,) = before.mdevs
    known = (replace(mdev, parent="pci_0000_09_00_0"), mdev)

    again = bench.looking.inventory(since=replace(before, mdevs=known))

    assert again == before


@pytest.mark.parametrize("first", [True, False])
def test_connection_that_breaks_meanwhile(bench: Bench, first: bool):
    """It is the host that cannot be asked, not a guest that is unreadable."""
    before = None if first else bench.looking.inventory()
    bench.host.add_guest("other", builders.uuid(0xA0), [])
    bench.host.faults.on("XMLDesc", testing.lose_connection())

    with pytest.raises(exception.HostUnreachable):
        bench.looking.inventory(since=before)
