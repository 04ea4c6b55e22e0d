# SPDX-License-Identifier: Apache-2.0
"""Hosts of two releases, as in the middle of an upgrade: conductors first.

Run by ``tools/cloud test --release 29.4.0 --compute a=28.3.1``.
"""

from collections.abc import Callable, Iterator

import pytest
from cloudlab.hosts import FLAVOURS

from tests.cloud.compute_host import ComputeHost
from tests.cloud.openstack import OpenStack
from tests.cloud.test_journeys import go


@pytest.fixture(scope="module", autouse=True, params=FLAVOURS)
def upgraded(
    openstack: OpenStack,
    b: ComputeHost,
    emptied: None,
    request: pytest.FixtureRequest,
) -> Iterator[str]:
    """Have the newer host run with the mixin, and without it."""
    if not openstack.is_mixed:
        pytest.skip("hosts of one release: tools/cloud test --compute")
    if request.param != FLAVOURS[0]:
        openstack.restart_compute(b, request.param)
    yield str(request.param)
    openstack.empty()
    if request.param != FLAVOURS[0]:
        openstack.restart_compute(b)


@pytest.mark.parametrize("flavor", ["one", "two"])
def test_a_guest_goes_to_the_newer_host_and_back(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
    flavor: str,
    upgraded: str,
) -> None:
    """It counts on, whoever chooses the mdevs."""
    if (upgraded, flavor) == ("stock", "two"):
        pytest.skip("stock takes a new mdev that is listed late for missing")
    server = boot(flavor, a)

    go(openstack, server, a, b)
    go(openstack, server, b, a)


def test_a_guest_without_mdevs(
    openstack: OpenStack,
    a: ComputeHost,
    b: ComputeHost,
    boot: Callable[..., str],
) -> None:
    """It is migrated as it would be without the mixin."""
    server = boot("plain", a)

    go(openstack, server, a, b)
    go(openstack, server, b, a)
