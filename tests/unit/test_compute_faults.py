# SPDX-License-Identifier: Apache-2.0
"""Are all claims ended whatever call a destination under Nova fails at?

The calls to libvirt are found by recording a migration that is checked,
prepared and rolled back. Then each of them fails once, in every way, on hosts
of its own. What is left is left to the periodic task, or to the service that
is started anew.
"""

import contextlib
import os

import libvirt
import pytest

from mdev_migrate import model, testing
from tests import builders, standin

SPARE = builders.uuid(0xB0)
TYPES = {builders.uuid(number): standin.TYPE for number in (1, 2)}
#: Without MDEV_MIGRATE_SOAK every so many calls are tried.
STRIDE = 1 if os.environ.get("MDEV_MIGRATE_SOAK") else 6


def _error():
    return testing.fail(
        testing.libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "no")
    )


ERRORS = {
    "error": _error,
    "connection lost": testing.lose_connection,
    "answer lost": testing.lose_answer,
}
DEATHS = {"death": testing.die, "death after it": testing.die_after}


def _make(driver_class):
    """Return two computes; one of two target mdevs is there already."""
    cloud = standin.Cloud(driver_class)
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


def _broken(cloud):
    """Return the promises that do not hold, now and after a retry."""
    problems = []
    for number in (1, 2):
        cloud.over(number)
        cloud.destination.get_available_resource("node")
        if cloud.claimed() or cloud.claims() != model.Claims():
            problems.append(f"{number}: {cloud.claimed()} {cloud.claims()}")
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
def test_a_call_fails(kernel, driver_class, kind):
    """The same service goes on, and nothing is left."""
    points = _points(_make(driver_class))
    results = {}
    for point in points[::STRIDE]:
        cloud = _make(driver_class)
        cloud.there.faults.at(point, ERRORS[kind]())
        with contextlib.suppress(standin.Refused):
            _fail(cloud)
        results[point] = _broken(cloud)

    assert _report(f"{driver_class.__name__}, {kind}", results) == {}


@pytest.mark.parametrize("driver_class", standin.MIXED)
@pytest.mark.parametrize("kind", DEATHS)
def test_the_service_dies_at_a_call(kernel, driver_class, kind):
    """It is started anew, and nothing is left."""
    points = _points(_make(driver_class))
    results = {}
    for point in points[1::STRIDE]:
        cloud = _make(driver_class)
        cloud.there.faults.at(point, DEATHS[kind]())
        with pytest.raises(testing.ProcessDied):
            _fail(cloud)
        cloud.there.group.new_process()
        cloud.destination = cloud.start(cloud.there)
        cloud.over()
        cloud.destination.init_host("host-b")
        results[point] = _broken(cloud)

    assert _report(f"{driver_class.__name__}, {kind}", results) == {}
