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
    before = source.count(server)
    held = openstack.allocations(server)
    wanted = len(source.assigned(server))

    number = openstack.migrate(server, to)
    end = openstack.end_of(server, number)

    assert end == "completed", openstack.reasons(server)
    openstack.wait_for_status(server, "ACTIVE")
    assert openstack.host_of(server) == to.compute
    assert to.see_counting(server, before) > before
    assert len(to.assigned(server)) == wanted
    assert not source.has(server)
    assert not source.has_directory(server)
    assert to.claims() == source.claims() == []
    assert openstack.allocations(server) == {
        name.replace(source.node, to.node): amounts
        for name, amounts in held.items()
    }
    migration = openstack.migration(server, number)["uuid"]
    assert openstack.allocations(migration) == {}


@pytest.mark.parametrize("flavor", ["one", "two"])
def test_a_guest_goes_there_and_back(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
    flavor: str,
) -> None:
    """It counts on, and finds the mdevs that it had before on its way back."""
    server = boot(flavor, a)
    first = a.assigned(server)
    provider = f"{a.node}_{PARENTS[0]}"
    amount = {"one": 1, "two": 2}[flavor]
    assert openstack.usage(provider, CLASSES[0]) == amount

    go(openstack, server, a, b)

    assert set(b.mdevs().values()) == {TYPES[0]}
    assert openstack.usage(provider, CLASSES[0]) == 0

    go(openstack, server, b, a)

    # Before Nova 30 mdevs are not kept, and these are made anew.
    assert a.assigned(server) == first
    assert "completed" in {
        each["Status"]
        for each in openstack.client(
            "server", "migration", "list", "--server", server
        )
    }
