# SPDX-License-Identifier: Apache-2.0
"""Both hosts have their instances in one directory."""

from collections.abc import Callable, Iterator

import pytest

from tests.cloud.compute_host import ComputeHost
from tests.cloud.openstack import OpenStack
from tests.cloud.test_journeys import see_moved
from tests.lab.hosts import until


@pytest.fixture(scope="module", autouse=True)
def shared(
    openstack: OpenStack, a: ComputeHost, b: ComputeHost, emptied: None
) -> Iterator[None]:
    """Mount the common directory, for this file."""
    for host in (a, b):
        host.share_instances()
    openstack.wait_for_computes()
    yield
    openstack.empty()
    for host in (a, b):
        host.unshare_instances()
    openstack.wait_for_computes()


def test_a_guest_goes_there_and_back(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
) -> None:
    """Its directory stays when the guest has left a host."""
    server = boot("one", a)

    see_moved(openstack, server, a, b)

    assert a.has_directory(server)

    see_moved(openstack, server, b, a)

    assert b.has_directory(server)


def test_a_dead_qemu_of_the_destination(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
) -> None:
    """What the destination undoes spares the directory of the guest."""
    server = boot("one", a, "guest-busy")
    before = b.mdevs()
    number = openstack.start_copying(server, a, b)
    count = a.count(server)

    b.kill_qemu(server)

    assert openstack.end_of(server, number) == "failed"
    openstack.wait_for_status(server, "ACTIVE")
    assert a.see_counting(server, count) > count
    until("end of claims", lambda: not b.claims())
    b.see_mdevs(before)
    assert a.has_directory(server)

    openstack.act(server, "reboot", type="HARD")
    openstack.see_started(server, a)
