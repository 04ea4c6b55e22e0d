# SPDX-License-Identifier: Apache-2.0
"""A host is emptied to two others, and filled again."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import libvirt
import pytest

from tests.lab import guests
from tests.lab.command import Answer, Command
from tests.lab.hosts import PORTS, LabHost, until
from tests.lab.scenes import Guest

DISK = "/var/log/vda.img"
CHECKSUM = f"sha256sum {DISK}"
#: Does not fit into 300 ms at this bandwidth: the limit must be raised.
BUSY = {"dirty_mib": 8}
HOW = ("--copy-storage-all", "--max-downtime", "60000")
SLOW = ("--bandwidth", "4")


def _let_end(host: LabHost) -> bool:
    """Let who is on its way arrive; tell whether nobody is any more."""
    quiet = True
    for name in host.guests():
        try:
            if host.has_job(name):
                quiet = False
                with host.connected() as connection:
                    domain = connection.lookupByName(name)
                    domain.migrateSetMaxDowntime(60_000, 0)
        except libvirt.libvirtError:
            quiet = False  # It has just left.
    return quiet


def _fill(host: LabHost, left: int) -> None:
    """Leave so many ports of a host: a definition holds the others."""
    mdevs = host.make_mdevs(*["mtty-2"] * ((PORTS - left) // 2))
    with host.connected() as connection:
        connection.defineXML(guests.guest_xml("resident", mdevs))


@pytest.fixture
def tell(
    capsys: pytest.CaptureFixture[str],
) -> Callable[[str, float, Answer], None]:
    """Return what prints how long a drain took, and each guest's stop."""

    def tell(what: str, began: float, answer: Answer) -> None:
        lines = [f"{what}: {time.monotonic() - began:.1f} s"]
        for each in answer.document["guests"]:
            for tried in each["tried"]:
                lines.append(
                    f"  {each['guest']} ({', '.join(each['types'])}): "
                    f"{tried['result']} in {tried['seconds']:.1f} s, "
                    f"downtime {tried['downtime_ms']} ms, "
                    f"limit {tried['limit_ms']} ms"
                )
        with capsys.disabled():
            sys.stdout.write("\n" + "\n".join(lines) + "\n")

    return tell


@pytest.mark.timeout(900)
def test_a_host_is_emptied_to_two_others_and_filled_again(
    a: LabHost,
    b: LabHost,
    c: LabHost,
    command: Command,
    start: Callable[..., Guest],
    tell: Callable[[str, float, Answer], None],
    tmp_path: Path,
) -> None:
    """Killed in the middle and called again, it goes on; all come back.

    One destination has room for few, one guest needs a longer stop than the
    drain begins with, one has a disk that the hosts do not share.
    """
    _fill(c, left=2)
    a.run(f"head -c 16M /dev/urandom >{DISK}")
    for host in (b, c):
        host.run(f"truncate -s 16M {DISK}")
    content = a.run(CHECKSUM)
    own = start("mtty-1", disk=DISK)
    quick = [
        start(*kinds)
        for kinds in (
            ["mtty-1"],
            ["mtty-2"],
            ["mtty-1", "mtty-2"],
            ["mtty-2"],
        )
    ]
    busy = start("mtty-1", **BUSY)
    names = {guest.name for guest in (own, *quick, busy)}
    counts = {name: a.count(name) for name in names}
    note = ("--note", str(tmp_path / "note"))
    there = ("drain", "-c", a.client_uri, *b.towards, *c.towards, *HOW, *SLOW)

    began = time.monotonic()
    # Until the kill it is not among them, so that it is left for afterwards.
    killed = command.start(*there, *note, "--except", busy.name)
    until("guest that has left", lambda: len(a.guests()) < len(names))
    killed.stop()
    until("end of what was under way", lambda: _let_end(a), 120)
    left = a.guests()
    again = command.run(*there, *note)
    tell("emptied, killed in the middle", began, again)

    assert again.status == 0, again
    assert {busy.name} < left < names
    assert {each["guest"] for each in again.document["guests"]} == left
    (slow,) = (
        each for each in again.document["guests"] if each["guest"] == busy.name
    )
    assert 300 < slow["tried"][-1]["limit_ms"] <= 60_000
    assert a.guests() == set()
    assert b.guests() | c.guests() == names
    assert b.guests()
    assert c.guests()
    where = b if own.name in b.guests() else c
    assert where.run(CHECKSUM) == content
    for name in names:
        (b if name in b.guests() else c).see_counting(name, counts[name])

    for host in (b, c):
        began = time.monotonic()
        back = command.run(
            *("drain", "-c", host.client_uri, *a.towards, *HOW),
            *("--from-drain", note[1]),
        )
        tell("brought back from one host", began, back)
        assert back.status == 0, back

    assert a.guests() == names
    assert a.run(CHECKSUM) == content
    for host in (a, b, c):
        host.run(f"rm {DISK}")
