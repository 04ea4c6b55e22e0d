# SPDX-License-Identifier: Apache-2.0
"""The command on hosts of Nova's, while Nova works."""

import signal
from collections.abc import Callable, Iterator

import pytest
from cloudlab.hosts import PARENTS, TYPES

from tests.cloud.compute_host import ComputeHost
from tests.cloud.openstack import OpenStack
from tests.lab.command import Command
from tests.lab.hosts import until

OWN = "beside"


@pytest.fixture
def command() -> Iterator[Command]:
    """Return the command, which does not outlive the test."""
    command = Command()
    yield command
    command.stop_all()


@pytest.fixture
def own_mdev(a: ComputeHost, b: ComputeHost) -> Iterator[str]:
    """Return the mdev of a busy guest on host a that is not Nova's."""
    (mdev,) = a.fill(PARENTS[0], TYPES[0], 1)
    a.lab.start_guest(OWN, [mdev], persistent=True, dirty_mib=48)
    yield mdev
    for host in (a, b):
        host.remove_guest(OWN)


def test_a_migration_of_each_at_one_moment(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
    own_mdev: str,
    command: Command,
) -> None:
    """Neither takes what the other has claimed, and both claims are seen."""
    server = boot("one", a)
    assert own_mdev not in a.assigned(server)
    (existing,) = b.fill(PARENTS[0], TYPES[0], 1)
    towards = ["-c", a.client_uri, *b.lab.towards]
    migrating = command.start("migrate", OWN, *towards, "--bandwidth", "1")
    until("the command's claim", b.claims, 120)

    number = openstack.migrate(server, b)
    both = until("claims of both", lambda: b.claims()[1:] and b.claims(), 300)

    assert len(both) == 2
    assert openstack.end_of(server, number) == "completed"
    openstack.wait_for_status(server, "ACTIVE")
    assert existing not in b.assigned(server)
    migrating.signal(signal.SIGINT)
    assert migrating.end().code == "migration-aborted"
    assert b.claims() == []
