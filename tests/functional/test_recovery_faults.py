# SPDX-License-Identifier: Apache-2.0
"""Does recovery keep the promises whatever call a process died at?

The calls are found by recording runs in which nobody dies. Then a process
dies at each of them, once, on hosts of its own; a new process recovers, and
the guest is migrated from where it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from mdev_migrate import testing
from tests import crashes, soak

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)
#: Only so many calls are tried, evenly spread.
TRIED = 1000 if soak.SOAKING else 14
#: Waits long enough for a call that begins late.
PATIENT = dataclasses.replace(crashes.LIMITS, listed_s=0.5, stable_s=0.5)
#: How many mdevs, how many of them find one to reuse, and whether the copy
#: fails.
CASES = [
    (1, 0, False),
    (1, 1, True),
    (2, 1, False),
    (2, 1, True),
    (5, 2, True),
    (5, 5, False),
]


def _make(case: tuple[int, int, bool]) -> crashes.Crashes:
    count, spares, copy_fails = case
    world = crashes.Crashes(
        crashes.kinds(count), crashes.kinds(count)[:spares]
    )
    if copy_fails:
        world.group.pace = crashes.fail_the_copy
    return world


def _points(
    world: crashes.Crashes, work: Callable[[], object]
) -> list[testing.CallPoint]:
    """Return every call of a piece of work in which nothing else fails."""
    world.group.faults.forget_calls()
    work()
    return testing.call_points(world.group.faults.calls)


def _some(
    points: list[testing.CallPoint], first: int = 0
) -> list[testing.CallPoint]:
    """Return as many calls as are to be tried."""
    stride = -(-len(points) // TRIED)
    return points[first % stride :: stride]


def _settled(world: crashes.Crashes) -> list[str]:
    """Recover in a new process; return the promises that do not hold."""
    world.restart()
    world.group.pace = lambda _: None
    world.recover()
    return world.broken() + world.broken_after_retry()


def _report(title: str, results: dict[object, list[str]]) -> object:
    broken = {point: found for point, found in results.items() if found}
    print(f"{title}: {len(results)} cases, {len(broken)} violations")  # noqa: T201
    return broken


@pytest.mark.parametrize("death", [testing.die, testing.die_after])
@pytest.mark.parametrize("case", CASES)
def test_the_process_dies_at_any_call(case, death):
    """After recovery the promises hold, and a retry succeeds."""
    recorded = _make(case)
    results = {}
    after = death is testing.die_after
    for point in _some(_points(recorded, recorded.migrate), first=after):
        world = _make(case)
        world.group.faults.forget_calls()
        world.group.faults.at(point, death())
        crashes.run(world.migrate)
        if not world.group.faults.pending():
            results[point] = _settled(world)

    title = f"mdevs, reused, copy fails: {case}, {death.__name__}"
    assert _report(title, results) == {}


WRECKS = [
    ("nodeDeviceCreateXML", testing.die_after, 1),
    ("migrateToURI3", testing.die_after, 2),
    ("migrateToURI3", testing.die, 2),
]


@pytest.mark.parametrize("copy_fails", [False, True])
@pytest.mark.parametrize("wreck", WRECKS)
def test_the_recovery_dies_at_any_call(wreck, copy_fails):
    """A recovery that was killed is finished by the next one."""
    name, death, nth = wreck

    def make() -> crashes.Crashes:
        world = _make((2, 1, copy_fails))
        world.group.faults.on(name, death(), nth=nth)
        assert not crashes.run(world.migrate)
        world.restart()
        world.group.faults.forget_calls()
        return world

    recorded = make()
    results = {}
    for point in _some(_points(recorded, recorded.recover)):
        world = make()
        world.group.faults.at(point, testing.die())
        crashes.run(world.recover)
        world.group.faults.clear()  # It may have had to look less often.
        results[point] = _settled(world)

    assert _report(f"recovery, {wreck}", results) == {}


#: Calls that change a host.
CHANGES = ("nodeDeviceCreateXML", "migrateToURI3", "destroy")
#: Before which calls of a recovery a late call begins.
MOMENTS = range(1, 13) if soak.SOAKING else (1, 5, 9)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("copy_fails", [False, True])
def test_a_call_begins_late(copy_fails, moment):
    """A call that the host begins while recovery looks does no harm."""
    case = (2, 1, copy_fails)
    recorded = _make(case)
    results = {}
    for point in _points(recorded, recorded.migrate):
        if point.name not in CHANGES:
            continue
        world = _make(case)
        world.limits = PATIENT
        world.group.faults.forget_calls()
        late = testing.Late()
        world.group.faults.at(point, late)
        assert not crashes.run(world.migrate)
        world.restart()
        world.group.faults.on("*", _begin(late), nth=moment)
        world.recover()
        if world.group.faults.pending():
            world.group.faults.clear()
            late.begin()  # When the recovery, of fewer calls, is over.
        results[point] = _settled(world)

    assert _report(f"late, copy fails: {copy_fails}, {moment}", results) == {}


def _begin(late: testing.Late) -> testing.Effect:
    def effect(_link: object, call: Callable[[], object]) -> object:
        late.begin()
        return call()

    return effect
