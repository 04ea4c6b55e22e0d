# SPDX-License-Identifier: Apache-2.0
"""Trouble at random moments: recover makes good what it left, each time."""

import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.lab.command import Command, Running
from tests.lab.hosts import LabHost
from tests.lab.scenes import BUSY, PATIENT, SLOW, Guest

ROUNDS = int(os.environ.get("MDEV_LAB_ROUNDS", "1"))
SEED = os.environ.get("MDEV_LAB_SEED") or os.urandom(4).hex()
TYPES = ["mtty-1", "mtty-2"]
#: One of three migrations is fast and may arrive; the others end by their time
#: limit if by nothing else. Each with the seconds in which trouble comes.
FAST = (PATIENT, 8.0)
ENDLESS = ((*SLOW, "--timeout", "25"), 15.0)
#: Seconds: libvirt gives a link up after 30.
LONGEST_CUT_S = 40.0
#: The command said itself that it does not know where the guest is.
NOT_KNOWN = {"outcome-unknown", "host-unreachable"}


@dataclass(frozen=True, slots=True)
class Round:
    """One migration that trouble comes to.

    :ivar place: the host that the guest leaves.
    """

    place: LabHost
    to: LabHost
    running: Running
    chance: random.Random

    def kill_command(self) -> None:
        """End the command with no chance to clean up."""
        self.running.signal(signal.SIGKILL)
        self.running.stop()

    def restart(self, host: LabHost) -> None:
        """Restart a host's libvirtd, in good order or not."""
        host.libvirtd(self.chance.choice(("stop", "kill")))
        host.libvirtd("start")

    def restart_source(self) -> None:
        """Restart libvirtd on the source."""
        self.restart(self.place)

    def restart_destination(self) -> None:
        """Restart libvirtd on the destination."""
        self.restart(self.to)

    def cut_link(self) -> None:
        """Cut the link between the hosts and restore it."""
        self.to.plug_link(up=False)
        self.running.let_run(self.chance.uniform(1.0, LONGEST_CUT_S))
        self.to.plug_link(up=True)

    def kill_and_restart(self) -> None:
        """Kill the command, and restart either libvirtd."""
        self.kill_command()
        self.restart(self.chance.choice((self.place, self.to)))

    def kill_and_cut_link(self) -> None:
        """Kill the command, and leave the link cut."""
        self.to.plug_link(up=False)
        self.kill_command()


TROUBLES: list[Callable[[Round], None]] = [
    Round.kill_command,
    Round.restart_source,
    Round.restart_destination,
    Round.cut_link,
    Round.kill_and_restart,
    Round.kill_and_cut_link,
]


def place_of(guest: Guest, *hosts: LabHost) -> LabHost:
    """Return the one host that a guest runs on."""
    (place,) = (host for host in hosts if guest.name in host.guests())
    return place


def other_than(place: LabHost, *hosts: LabHost) -> LabHost:
    """Return the other one of two hosts."""
    (other,) = (host for host in hosts if host is not place)
    return other


@dataclass(slots=True)
class Journeys:
    """A guest that is migrated to and fro.

    :ivar home: the mdevs that an administrator made for it on host a.
    :ivar place: where it runs.
    :ivar count: how far it was seen to count.
    """

    a: LabHost
    b: LabHost
    command: Command
    guest: Guest
    home: dict[str, str]
    place: LabHost
    count: int = 0

    def start(self, *how: str) -> Running:
        """Start to migrate the guest to the other host."""
        to = other_than(self.place, self.a, self.b)
        journey = (self.guest.name, "-c", self.place.client_uri, *to.towards)
        return self.command.start("migrate", *journey, *how)

    def trouble(self, make: Callable[[Round], None], number: int) -> None:
        """Migrate the guest, make trouble, recover; see what is left."""
        to = other_than(self.place, self.a, self.b)
        chance = random.Random(f"{SEED} {make.__name__} {number}")  # noqa: S311 - no secret
        how, latest_s = chance.choice((FAST, ENDLESS, ENDLESS))
        moment = chance.uniform(0.0, latest_s)
        print(f"seed {SEED}: {make.__name__} {number}", end=" ")  # noqa: T201
        print(f"{how[0]} at {moment:.2f} s", end=": ", flush=True)  # noqa: T201
        running = self.start(*how)
        running.let_run(moment)
        make(Round(self.place, to, running, chance))
        answer = running.end()

        for host in (to, self.place):
            other = other_than(host, to, self.place)
            recovered = self.command.run(
                *("recover", "--abort", "-c", host.client_uri),
                *("--source", other.client_uri),
            )
            assert recovered.status == 0, recovered

        to.plug_link(up=True)
        self.see_promises()
        arrived = self.place is to
        print(answer.code or answer.status, arrived, flush=True)  # noqa: T201
        if answer.document and answer.code not in NOT_KNOWN:
            assert (answer.status == 0) == arrived, answer

    def see_promises(self) -> None:
        """See the guest on one host, and on both only the mdevs due."""
        self.place = place_of(self.guest, self.a, self.b)
        self.count = self.place.see_counting(self.guest.name, self.count)
        left = other_than(self.place, self.a, self.b)
        assert left.inventory().guests == ()
        assert self.a.mdevs() == self.home
        there = TYPES if self.place is self.b else []
        assert sorted(self.b.mdevs().values()) == there
        for host in (self.a, self.b):
            claims = self.command.run("claims", "-c", host.client_uri).document
            assert claims["claims"] == []

    def see_next_succeed(self) -> None:
        """See that nothing stands in the way of the next migration."""
        left = self.place
        answer = self.start(*PATIENT).end()
        assert answer.status == 0, answer
        self.see_promises()
        assert self.place is not left


@pytest.mark.parametrize("make", TROUBLES, ids=lambda make: make.__name__)
def test_trouble_at_random_moments(
    a: LabHost,
    b: LabHost,
    command: Command,
    start: Callable[..., Guest],
    make: Callable[[Round], None],
) -> None:
    """The guest runs on one host, its mdevs alone are left, and it moves."""
    guest = start(*TYPES, **BUSY)
    journeys = Journeys(a, b, command, guest, home=a.mdevs(), place=a)

    for number in range(ROUNDS):
        journeys.trouble(make, number)
        journeys.see_next_succeed()
