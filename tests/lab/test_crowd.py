# SPDX-License-Identifier: Apache-2.0
"""Several commands at once share a destination that is nearly full."""

from collections.abc import Callable

from tests.lab import guests
from tests.lab.command import Command
from tests.lab.hosts import PORTS, LabHost
from tests.lab.scenes import Guest

#: What a command that comes too late may say.
TOO_LATE = {
    "too-few-mdevs",
    "target-mdev-missing",
    "target-mdevs-raced",
    "mdev-creation-failed",
}


def test_as_many_succeed_as_there_is_room_for(
    a: LabHost, b: LabHost, command: Command, start: Callable[..., Guest]
) -> None:
    """Three guests, one mdev to reuse and one free port: two arrive."""
    crowd = [start("mtty-1") for _ in range(3)]
    counts = [a.count(guest.name) for guest in crowd]
    held = b.fill(PORTS - 2)
    with b.connected() as connection:
        connection.defineXML(guests.guest_xml("holder", held))
    b.make_mdevs("mtty-1")

    started = [
        command.start("migrate", guest.name, "-c", a.client_uri, *b.towards)
        for guest in crowd
    ]
    answers = [running.end() for running in started]

    moved = [answer.status == 0 for answer in answers]
    assert moved.count(True) == 2, answers
    assert {a.code for a in answers if a.code} <= TOO_LATE, answers
    targets = [
        target
        for answer in answers
        if answer.status == 0
        for target in answer.document["target_mdevs"].values()
    ]
    assert len(set(targets)) == 2
    assert set(b.mdevs()) == {*held, *targets}
    for guest, gone, count in zip(crowd, moved, counts, strict=True):
        host = b if gone else a
        assert host.see_counting(guest.name, count) > count
