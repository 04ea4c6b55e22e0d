# SPDX-License-Identifier: Apache-2.0
"""One cloud for all tests, empty before and after each file of them."""

from collections.abc import Callable, Generator, Iterator

import pytest
from cloudlab import results, state, whole
from cloudlab.layout import WorkFolder

from tests.cloud.compute_host import ComputeHost
from tests.cloud.openstack import OpenStack

_ended = pytest.StashKey[dict[str, pytest.TestReport]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write down how a scenario ended, when all of it is over."""
    report = yield
    reports = item.stash.setdefault(_ended, {})
    reports[report.when or ""] = report
    cloud = state.load(WorkFolder.default())
    if (
        report.when == "teardown"
        and cloud is not None
        and (not cloud.is_mixed or "test_mixed" in item.nodeid)
    ):
        ends = {each.outcome for each in reports.values()}
        result = next(
            each for each in ("failed", "skipped", "passed") if each in ends
        )
        took = reports.get("call", report).duration
        work = WorkFolder.default()
        results.note(work, cloud.release, item.nodeid, result, took)
    return report


@pytest.fixture(scope="session")
def openstack() -> OpenStack:
    """Return the cloud that runs."""
    work = WorkFolder.default()
    cloud = state.load(work)
    if cloud is None:
        pytest.skip("no cloud was started: use tools/cloud test")
    assert whole.is_whole(work, cloud), "see tools/cloud status"
    return OpenStack(work, cloud)


@pytest.fixture(scope="module", autouse=True)
def emptied(openstack: OpenStack) -> Iterator[None]:
    """Begin and end with no server and no mdev."""
    openstack.empty()
    yield
    openstack.empty()


@pytest.fixture(autouse=True)
def sound(openstack: OpenStack) -> Iterator[None]:
    """See that no test leaves a claim, or has crashed a kernel."""
    yield
    hosts = (openstack.a, openstack.b)
    for host in hosts:
        host.mend()
    left = {host.name: (host.claims(), host.crashes()) for host in hosts}
    assert left == {host.name: ([], "") for host in hosts}


@pytest.fixture(scope="module")
def a(openstack: OpenStack) -> ComputeHost:
    """Return the host that guests begin on."""
    return openstack.a


@pytest.fixture(scope="module")
def b(openstack: OpenStack) -> ComputeHost:
    """Return the host that guests go to."""
    return openstack.b


@pytest.fixture
def boot(openstack: OpenStack) -> Iterator[Callable[..., str]]:
    """Return what boots a server that is deleted after the test."""
    made = []

    def boot(flavor: str, host: ComputeHost, image: str = "guest") -> str:
        server = openstack.create(flavor, host, image)
        made.append(server)
        openstack.see_started(server, host)
        return server

    yield boot
    openstack.remove(made)
