# SPDX-License-Identifier: Apache-2.0
"""How long does a check take where every answer has a long way?"""

import contextlib
import time
from collections.abc import Callable

import pytest

from mdev_migrate import libvirt_host, libvirt_reading
from mdev_migrate.workflow import Destination, GuestCheck, Options
from tests.lab import guests
from tests.lab.hosts import LabHost
from tests.lab.proxy import open_to
from tests.lab.scenes import Guest

#: Seconds from here to a host and back.
ROUND_TRIP_S = 0.02
MDEVS, GUESTS = 10, 6


def check_s(a: LabHost, b: LabHost, guest: str, delay_s: float) -> float:
    """Return how long a check takes once both hosts are open."""
    with contextlib.ExitStack() as stack:
        source, destination = (
            stack.enter_context(
                contextlib.closing(
                    libvirt_host.LibvirtHost(
                        f"qemu+tcp://127.0.0.1:{way.port}/system"
                    )
                )
            )
            for way in (
                stack.enter_context(open_to(host.port, delay_s))
                for host in (a, b)
            )
        )
        began = time.monotonic()
        options = Options(peer_uri=b.peer_uri)
        report = GuestCheck(
            source, Destination(destination), guest, options
        ).check()
        seconds = time.monotonic() - began
    assert report.allowed, report.checks
    return seconds


def test_few_round_trips(
    a: LabHost,
    b: LabHost,
    start: Callable[..., Guest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the way adds is that of some tens of round trips, not hundreds."""
    guest = start("mtty-1")
    mdevs = b.make_mdevs(*["mtty-1"] * MDEVS)
    with b.connected() as connection:
        for number in range(GUESTS):
            connection.defineXML(
                guests.guest_xml(f"off-{number}", [mdevs[number]])
            )

    here = check_s(a, b, guest.name, 0.0)
    there = check_s(a, b, guest.name, ROUND_TRIP_S / 2)
    monkeypatch.setattr(libvirt_reading, "_FEW", 1_000)
    one_by_one = check_s(a, b, guest.name, ROUND_TRIP_S / 2)

    trips = (there - here) / ROUND_TRIP_S
    print(  # noqa: T201
        f"check: {here:.2f} s, with a way of {ROUND_TRIP_S * 1000:.0f} ms "
        f"{there:.2f} s ({trips:.0f} round trips), one after the other "
        f"{one_by_one:.2f} s"
    )
    assert trips < 60
    assert there < one_by_one
