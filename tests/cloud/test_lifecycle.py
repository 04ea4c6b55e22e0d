# SPDX-License-Identifier: Apache-2.0
"""A guest that was moved is a guest as any other."""

from collections.abc import Callable

from tests.cloud.compute_host import ComputeHost
from tests.cloud.openstack import OpenStack
from tests.cloud.test_journeys import go


def test_a_hard_reboot_and_a_shelf_after_a_migration(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
) -> None:
    """It keeps its mdev over the one, and gets one again after the other."""
    server = boot("one", a)
    go(openstack, server, a, b)
    mdevs = b.assigned(server)

    openstack.act(server, "reboot", type="HARD")
    openstack.wait_for_status(server, "ACTIVE")

    assert b.assigned(server) == mdevs
    count = b.count(server)
    assert b.see_counting(server, count) > count

    openstack.act(server, "shelve")
    openstack.wait_for_status(server, "SHELVED_OFFLOADED")

    assert openstack.allocations(server) == {}
    assert not b.has(server)

    openstack.act(server, "unshelve", host=a.compute)
    openstack.see_started(server, a)

    assert len(a.assigned(server)) == 1
    go(openstack, server, a, b)


def test_a_resize_on_its_host(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
) -> None:
    """It gets what its new flavor asks for, and takes all of it along."""
    server = boot("one", a)
    go(openstack, server, a, b)

    openstack.resize(server, "two", b)

    openstack.see_started(server, b)
    assert len(b.assigned(server)) == 2
    assert b.claims() == []
    go(openstack, server, b, a)


def test_a_cold_migration(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
) -> None:
    """It gets an mdev where it goes, and leaves none behind in use."""
    server = boot("one", a)
    go(openstack, server, a, b)

    openstack.migrate_cold(server, a)

    openstack.see_started(server, a)
    assert len(a.assigned(server)) == 1
    assert not b.has(server)
    assert a.claims() + b.claims() == []
    go(openstack, server, a, b)


def test_an_evacuation(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
) -> None:
    """Nova cannot, as it wants the lost host's provider; nothing is left.

    A Nova that can makes this fail.
    """
    server = boot("one", a)
    go(openstack, server, a, b)
    before, held = a.mdevs(), openstack.allocations(server)

    with openstack.lost(b):
        number = openstack.evacuate(server, a)

        assert openstack.end_of(server, number) in ("failed", "error")
        openstack.wait_for_status(server, "ACTIVE")
        assert openstack.host_of(server) == b.compute
        assert not a.has(server)
        a.see_mdevs(before)
        assert openstack.allocations(server) == held

    count = b.count(server)
    assert b.see_counting(server, count) > count
