# SPDX-License-Identifier: Apache-2.0
"""What cannot succeed is refused before anything is changed."""

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.lab import guests
from tests.lab.command import Answer, Command
from tests.lab.hosts import PORTS, LabHost
from tests.lab.scenes import Guest

Refuse = Callable[..., Answer]


@pytest.fixture
def refuse(a: LabHost, b: LabHost, command: Command) -> Refuse:
    """Return what asks for a migration that must change nothing."""

    def refuse(name: str, *, code: str, status: int = 1) -> Answer:
        before = (a.inventory(), b.inventory())
        check = command.run(
            *("check", name, "-c", a.client_uri, "--to", b.client_uri),
            *("--peer-uri", b.peer_uri),
        )
        answer = command.run(
            *("migrate", name, "-c", a.client_uri, *b.towards)
        )
        assert (answer.status, answer.code) == (status, code), answer
        assert answer.document["result"] == "refused", answer
        assert (a.inventory(), b.inventory()) == before
        return check

    return refuse


@contextlib.contextmanager
def unused_port() -> Iterator[int]:
    """Lend a port of this machine where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_no_instance_is_left(
    b: LabHost, start: Callable[..., Guest], refuse: Refuse
) -> None:
    """One free port is enough for an mtty-1, but not for an mtty-2."""
    guest = start("mtty-1", "mtty-2")
    define(b, "holder", b.fill(PORTS - 1))

    check = refuse(guest.name, code="too-few-mdevs")

    assert check.refusals == ["too-few-mdevs"]


def define(host: LabHost, name: str, mdevs: list[str]) -> None:
    """Define a guest that holds mdevs without running."""
    with host.connected() as connection:
        connection.defineXML(guests.guest_xml(name, mdevs))


def test_a_type_is_missing(
    b: LabHost, start: Callable[..., Guest], refuse: Refuse
) -> None:
    """A destination that does not offer one of the types is refused."""
    guest = start("mtty-1", "mtty-2")

    with b.without_type("mtty-2"):
        check = refuse(guest.name, code="mdev-type-missing")

    assert check.refusals == ["mdev-type-missing"]


def test_a_device_blocks_its_migration(
    start: Callable[..., Guest], refuse: Refuse
) -> None:
    """What QEMU itself says of a blocker is in the check's detail."""
    guest = start("mtty-1", migratable=False)

    check = refuse(guest.name, code="migration-blocked")

    assert check.refusals == ["migration-blocked"]
    assert "dirty tracking" in str(check.document["checks"])


def test_the_source_does_not_list_an_mdev(
    a: LabHost, start: Callable[..., Guest], refuse: Refuse
) -> None:
    """An mdev of the guest whose type is not known is not skipped."""
    guest = start("mtty-1", "mtty-2")
    a.announce(guest.mdevs[0], "remove")
    try:
        check = refuse(guest.name, code="guest-mdev-not-listed")
    finally:
        a.announce(guest.mdevs[0], "add")

    assert check.refusals == ["guest-mdev-not-listed"]


def test_the_guest_does_not_run(a: LabHost, refuse: Refuse) -> None:
    """A guest that is shut off has nothing to live-migrate."""
    define(a, "shut-off", a.make_mdevs("mtty-1"))

    check = refuse("shut-off", code="guest-not-running")

    assert check.refusals == ["guest-not-running"]


def test_there_is_no_such_guest(refuse: Refuse) -> None:
    """A guest that the source does not know is named in the answer."""
    check = refuse("no-such-guest", code="guest-not-found")

    assert (check.status, check.code) == (1, "guest-not-found")


def test_both_hosts_are_the_same(
    a: LabHost, command: Command, start: Callable[..., Guest]
) -> None:
    """A host cannot migrate a guest to itself."""
    guest = start("mtty-1")
    before = a.inventory()

    answer = command.run(
        *("migrate", guest.name, "-c", a.client_uri, *a.towards)
    )

    assert (answer.status, answer.code) == (1, "same-host")
    assert a.inventory() == before


def test_a_host_cannot_be_reached(a: LabHost, command: Command) -> None:
    """Exit code 3 and the URI say which host it was."""
    with unused_port() as port:
        uri = f"qemu+tcp://127.0.0.1:{port}/system"
        answer = command.run("check", "any", "-c", a.client_uri, "--to", uri)

    assert (answer.status, answer.code) == (3, "host-unreachable")
    assert uri in answer.document["error"]["message"]
