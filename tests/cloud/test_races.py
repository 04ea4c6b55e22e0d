# SPDX-License-Identifier: Apache-2.0
"""Several migrations at one moment get different mdevs."""

from collections.abc import Callable

from cloudlab.hosts import PARENTS, TYPES

from tests.cloud.compute_host import ComputeHost
from tests.cloud.openstack import OpenStack


def test_two_guests_and_one_available_mdev(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
) -> None:
    """Each gets its own: one is reused, one is created.

    Then they cross: each goes to the host that the other leaves.
    """
    servers = [boot("one", a), boot("one", a)]
    (existing,) = b.fill(PARENTS[0], TYPES[0], 1)

    migrate_all(openstack, dict.fromkeys(servers, b))

    taken = [b.assigned(server) for server in servers]
    assert sorted(map(len, taken)) == [1, 1]
    assert existing in taken[0] ^ taken[1]
    assert len(taken[0] | taken[1]) == 2

    migrate_all(openstack, {servers[0]: a})
    migrate_all(openstack, {servers[0]: b, servers[1]: a})


def migrate_all(
    openstack: OpenStack, journeys: dict[str, ComputeHost]
) -> None:
    """Migrate servers at one moment, and see all arrive."""
    source = {openstack.a: openstack.b, openstack.b: openstack.a}
    counts = {
        server: source[to].count(server) for server, to in journeys.items()
    }
    numbers = {
        server: openstack.migrate(server, to)
        for server, to in journeys.items()
    }
    for server, to in journeys.items():
        end = openstack.end_of(server, numbers[server])
        assert end == "completed", openstack.reasons(server)
        openstack.wait_for_status(server, "ACTIVE")
        assert openstack.host_of(server) == to.compute
        assert to.see_counting(server, counts[server]) > counts[server]
    assert openstack.a.claims() + openstack.b.claims() == []


def test_a_boot_and_a_migration(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
) -> None:
    """Nova's own choice for the one and ours for the other differ."""
    moved = boot("one", a)
    b.clean()
    (existing,) = b.fill(PARENTS[0], TYPES[0], 1)

    number = openstack.migrate(moved, b)
    booted = boot("one", b)

    assert openstack.end_of(moved, number) == "completed"
    openstack.wait_for_status(moved, "ACTIVE")
    taken = [b.assigned(moved), b.assigned(booted)]
    assert sorted(map(len, taken)) == [1, 1]
    assert existing in taken[0] ^ taken[1]
    assert b.see_counting(moved, 0)


def test_eight_guests_to_and_fro(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
) -> None:
    """All arrive, each with an mdev of its own, and all come back."""
    here = {boot("one", host): host for host in (a, b) * 4}
    other = {a: b, b: a}
    for _ in range(2):
        here = {server: other[host] for server, host in here.items()}
        migrate_all(openstack, here)
        for host in (a, b):
            mine = [s for s, where in here.items() if where is host]
            taken = [host.assigned(server) for server in mine]
            assert [len(mdevs) for mdevs in taken] == [1] * len(mine)
            assert len(set.union(*taken)) == len(mine)
