# SPDX-License-Identifier: Apache-2.0
"""The commands of the page about emptying a host, on real hosts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import pages
from tests.lab.command import Command
from tests.lab.hosts import LabHost
from tests.lab.scenes import PATIENT, Guest

#: A host of the page that the lab has not.
THIRD = "qemu+tls://gpu-3/system"


def _translated(
    words: list[str], a: LabHost, b: LabHost, note: Path
) -> list[str] | None:
    """Return a command of the page for two hosts, None if it needs three."""
    hosts = {
        "qemu+tls://gpu-1/system": a,
        "qemu+tls://gpu-2/system": b,
    }
    name, *rest = words
    told = [name]
    source = a
    while rest:
        word = rest.pop(0)
        if word == "-c":
            uri = rest.pop(0)
            if uri == THIRD:
                return None
            source = hosts[uri]
        elif word == "--to":
            uri = rest.pop(0)
            if uri != THIRD:
                there = hosts[uri]
                told += ["--to", there.client_uri]
                told += ["--peer-uri", there.peer_uri]
                if name == "drain":
                    told += ["--migrate-uri", there.migrate_uri]
        elif word == "gpu-1.note":
            told.append(str(note))
        else:
            told.append(word)
    if "--to" not in told:
        return None
    more = PATIENT if name == "drain" else ()
    return [*told, "-c", source.client_uri, *more]


@pytest.mark.timeout(600)
def test_a_host_is_emptied_as_the_page_says(
    a: LabHost,
    b: LabHost,
    command: Command,
    start: Callable[..., Guest],
    tmp_path: Path,
) -> None:
    """From the doctor to the way back, each command does what it says."""
    names = {start("mtty-1").name, start("mtty-2").name}
    where = []

    for words in pages.commands("operators.rst", "Emptying a host"):
        told = _translated(words, a, b, tmp_path / "note")
        if told is not None:
            answer = command.run(*told)
            assert answer.status == 0, (told, answer)
            where.append((words[0], a.guests(), b.guests()))

    assert where == [
        ("doctor", names, set()),
        ("drain", names, set()),
        ("drain", set(), names),
        ("drain", names, set()),
    ]


def test_the_source_is_asked_to_reach_its_peer(
    a: LabHost, b: LabHost, command: Command, start: Callable[..., Guest]
) -> None:
    """A closed port and a name that is none refuse, and change nothing."""
    guest = start("mtty-1")
    before = a.count(guest.name)
    journey = ("check", guest.name, "-c", a.client_uri, "--to", b.client_uri)

    for uri in (
        "qemu+tcp://10.77.0.2:9/system",
        "qemu+tcp://nobody.invalid/system",
        "qemu+tls://10.77.0.2/system",
    ):
        answer = command.run(*journey, "--peer-uri", uri)
        assert answer.refusals == ["peer-unreachable"], answer

    reached = command.run(*journey, "--peer-uri", b.peer_uri)
    assert reached.status == 0, reached
    assert not a.has_job(guest.name)
    assert b.inventory().guests == ()
    assert a.see_counting(guest.name, before) > before


def test_a_guest_that_is_off_moves_with_its_mdevs(
    a: LabHost, b: LabHost, command: Command, start: Callable[..., Guest]
) -> None:
    """Its definition arrives, and it starts there on its targets."""
    guest = start("mtty-1")
    with a.connected() as connection:
        connection.lookupByName(guest.name).destroy()

    answer = command.run("drain", "-c", a.client_uri, *b.towards, "--shut-off")

    assert answer.status == 0, answer
    (moved,) = answer.document["guests"]
    (target,) = moved["tried"][0]["target_mdevs"].values()
    with b.connected() as connection:
        domain = connection.lookupByName(guest.name)
        assert target in domain.XMLDesc()
        domain.create()
    assert b.see_counting(guest.name, 0)
    with a.connected() as connection:
        assert connection.listAllDomains(0) == []
