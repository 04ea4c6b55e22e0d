# SPDX-License-Identifier: Apache-2.0
"""One cloud for all tests, empty before and after each."""

from collections.abc import Iterator

import pytest
from cloudlab import state, whole
from cloudlab.layout import WorkFolder

from tests.cloud.compute_host import ComputeHost
from tests.cloud.openstack import OpenStack


@pytest.fixture(scope="session")
def openstack() -> OpenStack:
    """Return the cloud that runs."""
    work = WorkFolder.default()
    cloud = state.load(work)
    if cloud is None or not whole.is_whole(work, cloud):
        pytest.skip("no cloud runs: use tools/cloud test")
    found = OpenStack(work, cloud)
    found.remove_all()
    found.a.clean()
    found.b.clean()
    return found


@pytest.fixture(autouse=True)
def emptied(openstack: OpenStack) -> Iterator[None]:
    """Leave no server and no mdev; see that no kernel crashed."""
    yield
    openstack.remove_all()
    claims = openstack.a.claims() + openstack.b.claims()
    crashes = [openstack.a.clean(), openstack.b.clean()]
    assert crashes == ["", ""]
    assert claims == []


@pytest.fixture
def a(openstack: OpenStack) -> ComputeHost:
    """Return the host that guests begin on."""
    return openstack.a


@pytest.fixture
def b(openstack: OpenStack) -> ComputeHost:
    """Return the host that guests go to."""
    return openstack.b
