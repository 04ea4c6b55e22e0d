# SPDX-License-Identifier: Apache-2.0
"""What fails on the way leaves the guest where it was, and nothing else.

One guest stays for all of them, on host a: too busy to arrive by itself at the
speed that it is sent with.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from cloudlab.api import ApiError

from tests.cloud.compute_host import ComputeHost
from tests.cloud.openstack import OpenStack
from tests.lab.command import Command
from tests.lab.hosts import until

#: What is undone at once, on emulated hosts; less than a period of the task
#: that would undo it, too.
_UNDONE_S = 30
#: A service that starts anew, and a period of its task.
_AWAY_S = 240
#: Less than a busy guest writes.
SPEED_MIB_S = 1
#: Nova looks at a job twice a second: of one that was cancelled and is gone by
#: then it knows only that the guest has not left.
ABORTED = ("cancelled", "failed")


@dataclass(frozen=True, slots=True)
class Stay:
    """A guest that is to stay, and what was there before its migration.

    :ivar plain: a guest without mdevs beside it.
    :ivar count: how far it had counted.
    :ivar before: the mdevs of the destination.
    :ivar held: its allocations.
    """

    openstack: OpenStack
    server: str
    plain: str
    count: int
    before: dict[str, str]
    held: dict[str, dict[str, int]]

    def start(self) -> int:
        """Start a migration, wait until it copies, return its number."""
        self.openstack.a.slow_down(self.server, SPEED_MIB_S)
        openstack = self.openstack
        return openstack.start_copying(self.server, openstack.a, openstack.b)

    def end(self) -> None:
        """End what a test that failed has left on its way."""
        openstack, server = self.openstack, self.server
        for number in openstack.running_migrations(server):
            with contextlib.suppress(ApiError):
                openstack.abort(server, number)
            openstack.end_of(server, number)

    def see_undone(self, number: int, limit_s: float = _UNDONE_S) -> None:
        """See the guest run on, and everything else as it was.

        What a service undoes that was away meanwhile takes its time.
        """
        self.see_staying(limit_s)
        openstack, server = self.openstack, self.server
        assert not openstack.b.has_directory(server)
        migration = openstack.migration(server, number)["uuid"]
        until(
            "end of the migration's allocations",
            lambda: openstack.allocations(migration) == {},
            limit_s,
        )
        assert openstack.allocations(server) == self.held

    def see_staying(self, limit_s: float) -> None:
        """See the guest run on, and no mdev and no claim left for it."""
        openstack, server = self.openstack, self.server
        openstack.wait_for_status(server, "ACTIVE")
        assert openstack.host_of(server) == openstack.a.compute
        counted = openstack.a.see_counting(server, self.count)
        assert counted > self.count
        until("end of its claims", lambda: not self._claims(), limit_s)
        until("end of what came", lambda: not openstack.b.has(server))
        openstack.b.see_mdevs(self.before)
        assert openstack.status(self.plain) == "ACTIVE"
        plain = openstack.a.count(self.plain)
        assert openstack.a.see_counting(self.plain, plain) > plain

    def _claims(self) -> list[str]:
        return self.openstack.a.claims() + self.openstack.b.claims()


@pytest.fixture(scope="module")
def servers(openstack: OpenStack, a: ComputeHost) -> tuple[str, str]:
    """Return a busy guest with an mdev, and one without any."""
    made = (
        openstack.create("one", a, "guest-busy"),
        openstack.create("plain", a),
    )
    for server in made:
        openstack.see_started(server, a)
    return made


@pytest.fixture
def stay(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    servers: tuple[str, str],
) -> Iterator[Stay]:
    """Return the guest that stays, before a migration of it."""
    server, plain = servers
    stay = Stay(
        openstack,
        server,
        plain,
        a.count(server),
        b.mdevs(),
        openstack.allocations(server),
    )
    yield stay
    stay.end()


def test_a_dead_qemu_of_the_destination(stay: Stay, b: ComputeHost) -> None:
    """What was created for the guest is gone, and what was claimed."""
    number = stay.start()

    b.kill_qemu(stay.server)

    assert stay.openstack.end_of(stay.server, number) == "failed"
    stay.see_undone(number)


def test_an_abort(stay: Stay, a: ComputeHost, b: ComputeHost) -> None:
    """Who aborts gets the guest back; nothing of it is an error.

    Until then the command shows Nova's claim, and whose it is.
    """
    mark = a.log_size()
    number = stay.start()

    shown = Command().run("claims", "-c", b.client_uri)
    stay.openstack.abort(stay.server, number)

    assert shown.status == 0, shown
    assert stay.server in json.dumps(shown.document)

    assert stay.openstack.end_of(stay.server, number) in ABORTED
    stay.see_undone(number)
    ours = [
        line
        for line in a.log(mark).splitlines()
        if "mdev_migrate" in line and " ERROR " in line
    ]
    assert ours == []


def test_an_abort_while_queued(
    stay: Stay, a: ComputeHost, boot: Callable[..., str]
) -> None:
    """One that waits for another to end is let go before it begins."""
    waiting = boot("one", a)
    held = stay.openstack.allocations(waiting)
    number = stay.start()
    queued = stay.openstack.migrate(waiting, stay.openstack.b)
    until(
        "migration in the queue",
        lambda: (
            stay.openstack.migration(waiting, queued)["status"] == "queued"
        ),
        120,
    )

    stay.openstack.abort(waiting, queued)

    assert stay.openstack.end_of(waiting, queued) == "cancelled"
    stay.openstack.wait_for_status(waiting, "ACTIVE")
    assert stay.openstack.host_of(waiting) == a.compute
    assert stay.openstack.allocations(waiting) == held
    # Nova does not tell the destination: it finds out by itself.
    until("one claim", lambda: len(stay.openstack.b.claims()) == 1, _AWAY_S)
    stay.openstack.abort(stay.server, number)
    assert stay.openstack.end_of(stay.server, number) in ABORTED
    stay.see_undone(number)


def test_a_cut_link(stay: Stay, a: ComputeHost, b: ComputeHost) -> None:
    """Each end gives the other up, and nothing of the migration is left.

    The link comes back then: QEMU may wait for an answer about a disk that it
    copies for as long as TCP does.
    """
    number = stay.start()

    b.plug_link(up=False)
    until("end of the connection", lambda: not a.has_peer(), 120)
    b.plug_link(up=True)

    assert stay.openstack.end_of(stay.server, number) == "failed"
    stay.see_undone(number, _AWAY_S)


def test_a_dead_libvirtd_of_the_destination(
    stay: Stay, b: ComputeHost
) -> None:
    """The incoming half is removed by the one that is started after it."""
    number = stay.start()

    b.libvirtd("kill")
    b.libvirtd("start")

    assert stay.openstack.end_of(stay.server, number) == "failed"
    stay.see_undone(number, _AWAY_S)


def test_a_dead_libvirtd_of_the_source(stay: Stay, a: ComputeHost) -> None:
    """The one that is started after it lets the guest run on."""
    number = stay.start()

    a.libvirtd("kill")
    a.libvirtd("start")

    assert stay.openstack.end_of(stay.server, number) in ("failed", "error")
    stay.see_undone(number, _AWAY_S)


def test_a_dead_nova_compute_of_the_destination(
    stay: Stay, b: ComputeHost
) -> None:
    """Claims outlive it, and the next one ends what it would have ended."""
    number = stay.start()
    claims = b.claims()
    assert len(claims) == 1

    stay.openstack.restart_compute(b)
    assert b.claims() == claims
    stay.openstack.abort(stay.server, number)

    assert stay.openstack.end_of(stay.server, number) in ABORTED
    stay.see_undone(number, _AWAY_S)


@pytest.mark.parametrize("name", ["conductor", "broker"])
def test_a_control_plane_that_is_away(stay: Stay, name: str) -> None:
    """The migration goes on meanwhile, and can be aborted afterwards."""
    number = stay.start()

    stay.openstack.restart(name, pause=_ten_seconds)
    # What is sent to a compute that has not come back to the broker is lost.
    stay.openstack.wait_for_computes()
    assert stay.openstack.a.is_copying(stay.server)
    stay.openstack.abort(stay.server, number)

    assert stay.openstack.end_of(stay.server, number) in ABORTED
    stay.see_undone(number, _AWAY_S)


def _ten_seconds() -> None:
    # How long it is away is what is tested.
    time.sleep(10)


def test_completion_by_force(stay: Stay, a: ComputeHost) -> None:
    """A guest with mdevs is not forced: it is said, and it can be aborted."""
    mark = a.log_size()
    number = stay.start()

    stay.openstack.force_complete(stay.server, number)
    until("word on it", lambda: "not forced to complete" in a.log(mark), 120)
    assert stay.openstack.status(stay.server) == "MIGRATING"
    stay.openstack.abort(stay.server, number)

    assert stay.openstack.end_of(stay.server, number) in ABORTED
    stay.see_undone(number)


def test_a_timeout(stay: Stay, a: ComputeHost) -> None:
    """Nova aborts what takes too long, and all is as after an abort."""
    options = {
        "live_migration_completion_timeout": 15,
        "live_migration_timeout_action": "abort",
    }
    stay.openstack.restart_compute(a, libvirt=options)
    mark = a.log_size()
    try:
        number = stay.start()

        assert stay.openstack.end_of(stay.server, number) in ABORTED
        assert "Live migration not completed after" in a.log(mark)
        stay.see_undone(number)
    finally:
        stay.openstack.restart_compute(a)


def test_a_dead_nova_compute_of_the_source(
    stay: Stay, a: ComputeHost, b: ComputeHost
) -> None:
    """Nobody waits for the end any more; the next one brings it about.

    It does not tell the destination, where the claim ends all the same. Nova
    leaves there, as of any guest, the directory of the instance, and in
    Placement what the migration held, which its own tool finds.
    """
    number = stay.start()
    migration = stay.openstack.migration(stay.server, number)["uuid"]

    stay.openstack.restart_compute(a)

    assert stay.openstack.end_of(stay.server, number) in ("failed", "error")
    stay.see_staying(_AWAY_S)
    assert b.has_directory(stay.server)
    assert stay.openstack.allocations(migration)

    b.remove_directory(stay.server)
    stay.openstack.manage("placement", "audit", "--delete")

    assert stay.openstack.allocations(migration) == {}
