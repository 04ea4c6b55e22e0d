# SPDX-License-Identifier: Apache-2.0
"""What a destination cannot take is refused, and the reason is told."""

from collections.abc import Callable

import pytest
from cloudlab.hosts import CARDS, PARENTS, TYPES

from tests.cloud.compute_host import ComputeHost
from tests.cloud.openstack import OpenStack
from tests.cloud.test_stock import FIRST

#: The parent takes 24 of the smaller type or 12 of the larger.
FULL = 12
#: The first Nova that shows a destination's words to who asked.
FIRST_EVENTS = 29


def see_refused(
    openstack: OpenStack,
    server: str,
    to: ComputeHost,
    code: str,
    teller: ComputeHost | None = None,
) -> None:
    """Ask for a migration; see it refused for a reason, once, in one line.

    Who asked reads the reason, too.

    :param teller: the host whose log tells it, if not the destination.
    """
    source = openstack.a
    count = source.count(server)
    before, held = to.mdevs(), openstack.allocations(server)
    teller = teller or to
    mark = teller.log_size()

    number = openstack.migrate(server, to)

    assert openstack.end_of(server, number) == "error"
    openstack.wait_for_status(server, "ACTIVE")
    assert openstack.host_of(server) == source.compute
    assert source.see_counting(server, count) > count
    to.see_mdevs(before)
    assert to.claims() == []
    assert openstack.allocations(server) == held
    told = [
        line
        for line in teller.log(mark).splitlines()
        if "mdev_migrate" in line
    ]
    assert not [line for line in told if " ERROR mdev_migrate" in line]
    (refusal,) = [line for line in told if ": refused: " in line]
    assert f"({code}: " in refusal
    if openstack.major >= FIRST_EVENTS:
        assert f"({code}: " in openstack.reasons(server)


def test_a_full_parent(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
) -> None:
    """The operator is told how many were wanted, and how many are left."""
    server = boot("one", a)
    # Placement has not heard of them yet.
    b.fill(PARENTS[0], TYPES[1], FULL)

    see_refused(openstack, server, b, "too-few-mdevs")

    # A nova-compute that starts would offer nothing of a parent without room.
    b.clean()


def test_a_type_that_is_not_enabled(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
) -> None:
    """Placement compares classes; a guest can have its own type alone."""
    server = boot("one", a)
    openstack.restart_compute(
        b,
        **{
            "devices": {"enabled_mdev_types": TYPES[1]},
            f"mdev_{TYPES[1]}": {
                "device_addresses": ",".join(CARDS),
                "mdev_class": "VGPU",
            },
        },
    )
    try:
        see_refused(openstack, server, b, "mdev-type-not-enabled")
    finally:
        openstack.restart_compute(b)


#: What Python runs first: the host's libvirt calls itself an older one.
_OLD_LIBVIRT = """\
import libvirt

libvirt.virConnect.getLibVersion = lambda connection: 8_005_000
"""


def test_an_old_libvirt(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
) -> None:
    """A destination whose libvirt cannot migrate mdevs takes none."""
    server = boot("one", a)
    openstack.restart_compute(b, first=_OLD_LIBVIRT)
    try:
        see_refused(openstack, server, b, "libvirt-too-old")
    finally:
        openstack.restart_compute(b)


def test_a_peer_without_the_mixin(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
) -> None:
    """What the destination does not claim is not sent to it.

    Since Nova 29 it chooses mdevs by itself, and is served.
    """
    if openstack.major >= FIRST:
        pytest.skip(f"Nova {openstack.release}: such a peer can")
    server = boot("one", a)
    openstack.restart_compute(b, "stock")
    try:
        see_refused(openstack, server, b, "peer-too-old", teller=a)
    finally:
        openstack.restart_compute(b)
