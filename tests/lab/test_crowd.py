# SPDX-License-Identifier: Apache-2.0
"""Several commands that share nothing empty into one host, nearly full."""

from collections.abc import Callable

from tests.lab import guests, proxy
from tests.lab.command import Command
from tests.lab.hosts import PORTS, LabHost
from tests.lab.scenes import BUSY, Guest, Scene

#: It takes the better part of a minute, and comes to an end.
ON_ITS_WAY = (
    *("--bandwidth", "2"),
    *("--downtime", "10000", "--max-downtime", "60000"),
)


def test_all_migrate_that_there_is_room_for(
    a: LabHost, b: LabHost, command: Command, start: Callable[..., Guest]
) -> None:
    """Four guests, two mdevs to reuse and one free port: three arrive.

    Each command chooses the same mdevs first.
    """
    crowd = [start("mtty-1") for _ in range(4)]
    counts = [a.count(guest.name) for guest in crowd]
    held = b.fill(PORTS - 3)
    with b.connected() as connection:
        connection.defineXML(guests.guest_xml("holder", held))
    b.make_mdevs("mtty-1", "mtty-1")

    started = [
        command.start("migrate", guest.name, "-c", a.client_uri, *b.towards)
        for guest in crowd
    ]
    answers = [running.end() for running in started]

    moved = [answer.status == 0 for answer in answers]
    assert moved.count(True) == 3, answers
    assert [a.code for a in answers if a.code] == ["too-few-mdevs"], answers
    targets = [
        target
        for answer in answers
        if answer.status == 0
        for target in answer.document["target_mdevs"].values()
    ]
    assert len(set(targets)) == 3
    assert set(b.mdevs()) == {*held, *targets}
    assert b.inventory().claims.all == ()
    for guest, gone, count in zip(crowd, moved, counts, strict=True):
        host = b if gone else a
        assert host.see_counting(guest.name, count) > count


def test_two_commands_for_one_guest(scene: Callable[..., Scene]) -> None:
    """One migrates it; the other is refused, and leaves nothing."""
    set_up = scene(reused=True)

    answers = [each.end() for each in (set_up.migrate(), set_up.migrate())]

    assert sorted(answer.status for answer in answers) == [0, 1], answers
    b, guest = set_up.b, set_up.guest.name
    assert b.see_counting(guest, set_up.count) > set_up.count
    assert b.mdevs() == set_up.before
    assert b.inventory().claims.all == ()


def test_the_owner_is_cut_off_while_the_guest_moves(
    scene: Callable[..., Scene],
) -> None:
    """He is not heard, and his guest comes: nothing is undone before it.

    When he is let in again, he ends his migration as any other.
    """
    set_up = scene(reused=True, **BUSY)
    a, b, name = set_up.a, set_up.b, set_up.guest.name
    recover = ("recover", "-c", b.client_uri, "--source", a.client_uri)
    with proxy.open_to(b.port) as way:
        uri = f"qemu+tcp://127.0.0.1:{way.port}/system"
        towards = [uri if word == b.client_uri else word for word in b.towards]
        running = set_up.command.start(
            *("migrate", name, "-c", a.client_uri, *towards, *ON_ITS_WAY)
        )
        set_up.wait_for_copy()
        way.close()
        meanwhile = set_up.command.run(*recover)
    with proxy.open_to(b.port, port=way.port):
        answer = running.end()

    actions = [claim["action"] for claim in meanwhile.document["claims"]]
    assert actions in (["kept"], ["finished"]), meanwhile
    assert answer.status == 0, answer
    assert b.see_counting(name, set_up.count) > set_up.count
    assert set_up.command.run(*recover).status == 0
    assert b.inventory().claims.all == ()
    assert b.mdevs() == set_up.before
