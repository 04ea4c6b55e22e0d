# SPDX-License-Identifier: Apache-2.0
"""A command is killed outright: recover makes good what it left."""

import os
import random
import signal
from collections.abc import Callable

from tests.lab.command import Command
from tests.lab.hosts import LabHost
from tests.lab.scenes import BUSY, SLOW, Guest

KILLS = int(os.environ.get("MDEV_LAB_KILLS", "3"))
SEED = os.environ.get("MDEV_LAB_SEED") or os.urandom(4).hex()
#: Seconds after which a slow migration is well into its copy, and a fast one
#: may be over.
LATEST_S = 15.0


def place_of(guest: Guest, *hosts: LabHost) -> LabHost:
    """Return the one host that a guest runs on."""
    (place,) = (host for host in hosts if guest.name in host.guests())
    return place


def other_than(place: LabHost, *hosts: LabHost) -> LabHost:
    """Return the other one of two hosts."""
    (other,) = (host for host in hosts if host is not place)
    return other


def kill_one(
    command: Command, guest: Guest, place: LabHost, to: LabHost, number: int
) -> None:
    """Start a migration and kill the command, once it is under way or over."""
    moment = random.Random(f"{SEED} {number}").uniform(0.0, LATEST_S)  # noqa: S311 - no secret
    # Every third one is fast, and may arrive.
    slow = SLOW if number % 3 else ()
    print(f"seed {SEED}: kill {number} {slow} at {moment:.2f} s")  # noqa: T201
    running = command.start(
        *("migrate", guest.name, "-c", place.client_uri, *to.towards), *slow
    )
    running.let_run(moment)
    running.signal(signal.SIGKILL)
    running.stop()


def test_the_command_is_killed_at_random_moments(
    a: LabHost, b: LabHost, command: Command, start: Callable[..., Guest]
) -> None:
    """The guest runs on one host, and only its mdevs are on the other."""
    guest = start("mtty-1", "mtty-2", **BUSY)
    place, count = a, a.count(guest.name)

    for number in range(KILLS):
        to = other_than(place, a, b)
        before = to.mdevs()
        kill_one(command, guest, place, to, number)

        recovered = command.run("recover", "--abort", "-c", to.client_uri)

        assert recovered.status == 0, recovered
        after = place_of(guest, a, b)
        count = after.see_counting(guest.name, count)
        if after is place:
            assert to.mdevs() == before
        else:
            assert sorted(to.mdevs().values()) == ["mtty-1", "mtty-2"]
        claims = command.run("claims", "-c", to.client_uri).document
        assert claims["claims"] == []
        place = after

    to = other_than(place, a, b)
    last = command.run(
        "migrate", guest.name, "-c", place.client_uri, *to.towards
    )
    assert last.status == 0, last
    assert to.see_counting(guest.name, count) > count
