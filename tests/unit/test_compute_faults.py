# SPDX-License-Identifier: Apache-2.0
"""Are all claims ended whatever call a destination under Nova fails at?

The calls to libvirt and to the ledger are found by recording a migration
that is checked, prepared and rolled back. Then each of them fails once, in
every way, on hosts of its own. What is left is left to the periodic task,
or to the service that is started anew.
"""

import contextlib
import os

import libvirt
import pytest

from mdev_migrate import exception, testing
from mdev_migrate.ledger import FileStore
from tests import builders, crashes, standin

SPARE = builders.uuid(0xB0)
TYPES = {builders.uuid(number): standin.TYPE for number in (1, 2)}
#: Without MDEV_MIGRATE_SOAK every so many calls are tried.
STRIDE = 1 if os.environ.get("MDEV_MIGRATE_SOAK") else 6


def _error():
    return testing.fail(
        testing.libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "no")
    )


def _unusable(_link, _call):
    raise exception.LedgerUnusable("/ledger", "full")


ERRORS = {
    "error": _error,
    "connection lost": testing.lose_connection,
    "answer lost": testing.lose_answer,
}
DEATHS = {"death": testing.die, "death after it": testing.die_after}


def _start(cloud, folder):
    """Start the destination's service, with claims in files."""
    facts = cloud.destination.mdev_compute.host.facts()
    cloud.stores["host-b"] = crashes.MortalStore(
        FileStore(folder, facts), cloud.there.faults
    )
    cloud.destination = cloud.start(cloud.there)


def _make(driver_class, folder):
    """Return two computes; one of two target mdevs is there already."""
    cloud = standin.Cloud(driver_class)
    _start(cloud, folder)
    cloud.there.add_mdev(SPARE, standin.TYPE, standin.PARENT)
    cloud.there.faults.forget_calls()
    return cloud


def _fail(cloud, number=1):
    """Do what Nova does with a migration that fails at its last step."""
    which = standin.instance()
    data = cloud.check(
        which,
        standin.allocations(count=2),
        cloud.migration(number),
        types=TYPES,
    )
    try:
        cloud.prepare(which, data)
    finally:
        cloud.roll_back(which, data)


def _over(cloud, number=1):
    cloud.migrations[cloud.migration(number).uuid] = ("over", None)


def _broken(cloud):
    """Return the promises that do not hold, now and after a retry."""
    problems = []
    for number in (1, 2):
        _over(cloud, number)
        cloud.destination.get_available_resource("node")
        if cloud.claimed():
            problems.append(f"{number}: claimed {cloud.claimed()}")
        left = [mdev.uuid for mdev in cloud.there.all_mdevs()]
        if left not in ([], [SPARE]):
            problems.append(f"{number}: left {left}")
        if number == 1:
            _fail(cloud, 2)
    return problems


def _points(cloud):
    _fail(cloud)
    found = testing.call_points(cloud.there.faults.calls)
    assert len(found) > 30
    return found


def _report(title, results):
    broken = {point: found for point, found in results.items() if found}
    print(f"{title}: {len(results)} cases, {len(broken)} violations")  # noqa: T201
    return broken


@pytest.mark.parametrize("driver_class", standin.MIXED)
@pytest.mark.parametrize("kind", ERRORS)
def test_a_call_fails(tmp_path, kernel, driver_class, kind):
    """The same service goes on, and nothing is left."""
    points = _points(_make(driver_class, tmp_path / "recorded"))
    results = {}
    for number, point in enumerate(points[::STRIDE]):
        if point.host == "ledger":
            continue
        cloud = _make(driver_class, tmp_path / str(number))
        cloud.there.faults.at(point, ERRORS[kind]())
        with contextlib.suppress(standin.Refused):
            _fail(cloud)
        results[point] = _broken(cloud)

    assert _report(f"{driver_class.__name__}, {kind}", results) == {}


@pytest.mark.parametrize("driver_class", standin.MIXED)
@pytest.mark.parametrize("kind", DEATHS)
def test_the_service_dies_at_a_call(tmp_path, kernel, driver_class, kind):
    """It is started anew, and nothing is left."""
    points = _points(_make(driver_class, tmp_path / "recorded"))
    results = {}
    for number, point in enumerate(points[1::STRIDE]):
        folder = tmp_path / str(number)
        cloud = _make(driver_class, folder)
        cloud.there.faults.at(point, DEATHS[kind]())
        with pytest.raises(testing.ProcessDied):
            _fail(cloud)
        cloud.there.group.new_process()
        cloud.destination._host._connection = cloud.there.open()
        _start(cloud, folder)
        _over(cloud)
        cloud.destination.init_host("host-b")
        results[point] = _broken(cloud)

    assert _report(f"{driver_class.__name__}, {kind}", results) == {}


@pytest.mark.parametrize("driver_class", standin.MIXED)
def test_the_ledger_fails(tmp_path, kernel, driver_class):
    """Once, before or after it was written; the same service goes on."""
    points = _points(_make(driver_class, tmp_path / "recorded"))
    results = {}
    for number, point in enumerate(points):
        if point.host != "ledger":
            continue
        cloud = _make(driver_class, tmp_path / str(number))
        cloud.there.faults.at(point, _unusable)
        with contextlib.suppress(standin.Refused):
            _fail(cloud)
        results[point] = _broken(cloud)

    assert _report(f"{driver_class.__name__}, ledger", results) == {}
