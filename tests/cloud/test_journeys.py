# SPDX-License-Identifier: Apache-2.0
"""The API moves guests, and the state of their mdevs with them."""

from collections.abc import Callable

import pytest
from cloudlab.hosts import CLASSES, PARENTS, TYPES

from tests.cloud.compute_host import ComputeHost
from tests.cloud.openstack import OpenStack


def go(
    openstack: OpenStack, server: str, source: ComputeHost, to: ComputeHost
) -> None:
    """Migrate a server; see all of it there and nothing left behind."""
    see_moved(openstack, server, source, to)
    assert not source.has_directory(server)


def see_moved(
    openstack: OpenStack, server: str, source: ComputeHost, to: ComputeHost
) -> None:
    """Migrate a server; see it there, and the source without it."""
    before = source.count(server)
    held = openstack.allocations(server)
    wanted = len(source.assigned(server))
    others = to.mdevs()

    number = openstack.migrate(server, to)
    end = openstack.end_of(server, number)

    assert end == "completed", openstack.reasons(server)
    openstack.wait_for_status(server, "ACTIVE")
    assert openstack.host_of(server) == to.compute
    count = max(before, to.count(server))
    assert to.see_counting(server, count) > count
    assert len(to.assigned(server)) == wanted
    assert to.mdevs().keys() - others.keys() <= to.assigned(server)
    assert not source.has(server)
    assert to.claims() == source.claims() == []
    assert openstack.allocations(server) == {
        name.replace(source.node, to.node): amounts
        for name, amounts in held.items()
    }
    migration = openstack.migration(server, number)["uuid"]
    assert openstack.allocations(migration) == {}


#: What each flavor has of the two resource classes.
_AMOUNTS = {
    "plain": (0, 0),
    "one": (1, 0),
    "two": (2, 0),
    "dual": (0, 1),
    "mixed": (1, 1),
}
#: The first Nova that gives a guest of two classes a device of each.
_FIRST_MIXED = 33


@pytest.mark.parametrize("flavor", _AMOUNTS)
def test_a_guest_goes_there_and_back(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
    flavor: str,
) -> None:
    """It counts on, and finds the mdevs that it had before on its way back."""
    if flavor == "mixed" and openstack.major < _FIRST_MIXED:
        pytest.skip(f"Nova {openstack.release}: {_FIRST_MIXED} and later only")
    server = boot(flavor, a)
    first = a.assigned(server)
    types = sorted(a.mdevs()[mdev] for mdev in first)
    assert types == sorted(
        mdev_type
        for mdev_type, amount in zip(TYPES, _AMOUNTS[flavor], strict=True)
        for _ in range(amount)
    )
    assert _used(openstack, a) == _AMOUNTS[flavor]

    go(openstack, server, a, b)

    assert sorted(b.mdevs()[mdev] for mdev in b.assigned(server)) == types
    assert _used(openstack, b) == _AMOUNTS[flavor]
    assert _used(openstack, a) == (0, 0)

    go(openstack, server, b, a)

    # Before Nova 30 mdevs are not kept, and these are made anew.
    assert a.assigned(server) == first
    assert "completed" in {
        each["Status"]
        for each in openstack.client(
            "server", "migration", "list", "--server", server
        )
    }


def _used(openstack: OpenStack, host: ComputeHost) -> tuple[int, ...]:
    """Return how much of a host's parents is in use, as Placement says."""
    return tuple(
        openstack.usage(f"{host.node}_{parent}", resource)
        for parent, resource in zip(PARENTS, CLASSES, strict=True)
    )
