# SPDX-License-Identifier: Apache-2.0
"""What Nova without the mixin does in the same scenes.

Each test asserts what goes wrong there: one that fails says that Nova has
mended it, and that the page about the differences is to be changed.
"""

from collections.abc import Callable, Iterator

import pytest
from cloudlab.hosts import PARENTS, TYPES

from tests.cloud.compute_host import ComputeHost
from tests.cloud.openstack import OpenStack
from tests.cloud.test_failures import SPEED_MIB_S
from tests.lab.hosts import until

#: The first Nova whose guests with mdevs can be live-migrated.
FIRST = 29
#: The first that puts a guest into ERROR although it was rolled back.
FIRST_ERRORS = 32


@pytest.fixture(scope="module", autouse=True)
def stock(openstack: OpenStack, emptied: None) -> Iterator[None]:
    """Run Nova as it is on both hosts, for this file."""
    openstack.restart_computes("stock")
    yield
    openstack.empty()
    openstack.restart_computes("mixin")


def needs(openstack: OpenStack, major: int) -> None:
    """Skip a scene that comes about in later releases only."""
    if openstack.major < major:
        pytest.skip(f"Nova {openstack.release}: {major} and later only")


def test_one_mdev_is_promised_to_two_guests(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
) -> None:
    """The second of two migrations at one moment cannot arrive."""
    needs(openstack, FIRST)
    servers = [boot("one", a), boot("one", a)]
    b.fill(PARENTS[0], TYPES[0], 1)
    mark = a.log_size()

    numbers = [openstack.migrate(server, b) for server in servers]

    ends = [
        openstack.end_of(server, number)
        for server, number in zip(servers, numbers, strict=True)
    ]
    assert ends.count("completed") == 1
    (late,) = (
        server
        for server, end in zip(servers, ends, strict=True)
        if end != "completed"
    )
    assert openstack.host_of(late) == a.compute
    assert "in use by driver QEMU" in a.log(mark)


def test_a_dead_qemu_of_the_destination(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
) -> None:
    """The guest runs on in ERROR; what was created for it is left."""
    needs(openstack, FIRST_ERRORS)
    # One that is there would be taken.
    b.clean()
    server = boot("one", a, "guest-busy")
    number = openstack.start_copying(server, a, b)
    count = a.count(server)

    b.kill_qemu(server)

    assert openstack.end_of(server, number) in ("failed", "error")
    until("ERROR", lambda: openstack.status(server) == "ERROR", 120)
    assert a.see_counting(server, count) > count
    assert len(b.mdevs()) == 1


def test_a_dead_libvirtd_of_the_source(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
) -> None:
    """The guest, which has not left, runs on in ERROR."""
    needs(openstack, FIRST)
    server = boot("one", a, "guest-busy")
    a.slow_down(server, SPEED_MIB_S)
    openstack.start_copying(server, a, b)
    count = a.count(server)

    a.libvirtd("kill")
    a.libvirtd("start")

    until("ERROR", lambda: openstack.status(server) == "ERROR", 120)
    assert a.see_counting(server, count) > count


def test_a_guest_with_mdevs_is_refused(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
) -> None:
    """Before Nova 29 such a guest cannot be live-migrated."""
    if openstack.major >= FIRST:
        pytest.skip(f"Nova {openstack.release} can")
    server = boot("one", a)

    number = openstack.migrate(server, b)

    assert openstack.end_of(server, number) != "completed"
    assert openstack.host_of(server) == a.compute
