# SPDX-License-Identifier: Apache-2.0
"""Does every promise hold whatever call of a migration fails, and how?

The calls are found by recording a run in which nothing fails, and one whose
copy fails, so that the calls of undoing are tried too. Then each call fails
in each way, once, on hosts of its own.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable

import libvirt
import pytest

from mdev_migrate import testing
from tests import scenes, soak

Effect = Callable[[], testing.Effect]

EFFECTS: dict[str, Effect] = {
    "error": lambda: testing.fail(
        testing.libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "out of luck")
    ),
    "busy": lambda: testing.fail(
        testing.libvirt_error(libvirt.VIR_ERR_OPERATION_TIMEOUT, "(held)")
    ),
    "connection-lost": testing.lose_connection,
    "answer-lost": testing.lose_answer,
    "time-out": lambda: testing.hang(threading.Event(), 0.002),
}
DEATHS: dict[str, Effect] = {
    "death-before": testing.die,
    "death-after": testing.die_after,
}
#: How many mdevs the guest has.
COUNTS = (1, 2, 5) if soak.SOAKING else (1, 2)


def _scene(count: int, *, copy_fails: bool) -> scenes.Scene:
    """Return a guest with mdevs, some to be reused and some created."""
    kinds = itertools.islice(itertools.cycle(("mtty-1", "mtty-2")), count)
    scene = scenes.Scene(kinds, ["mtty-1"] * (count // 2))
    if copy_fails:
        scene.group.pace = _fail_the_copy
    return scene


def _fail_the_copy(step: testing.Step) -> None:
    if (step.phase, step.number) == ("copy", 3):
        raise testing.libvirt_error(
            libvirt.VIR_ERR_OPERATION_FAILED, "the copy failed"
        )


def _points(count: int, *, copy_fails: bool) -> list[testing.CallPoint]:
    """Return every call of a run in which nothing else fails."""
    scene = _scene(count, copy_fails=copy_fails)
    scene.migrate()
    return testing.call_points(scene.group.faults.calls)


def _try(
    count: int,
    point: testing.CallPoint,
    effect: testing.Effect,
    *,
    copy_fails: bool,
) -> list[str] | None:
    """Return the promises that broke; None if the call was not made."""
    scene = _scene(count, copy_fails=copy_fails)
    scene.group.faults.at(point, effect)
    outcome = scene.migrate()
    scene.group.wait_for_migrations()
    if scene.group.faults.pending():
        return None
    broken = scene.broken_promises(outcome)
    scene.group.pace = lambda _: None
    if outcome.result != "migrated":
        again = scene.migrate()
        broken += [f"again: {text}" for text in scene.broken_promises(again)]
        if again.result != "migrated":
            broken.append(f"again: {again.error}")
    return broken


def _report(title: str, results: dict[testing.CallPoint, list[str] | None]):
    met = {
        point: found for point, found in results.items() if found is not None
    }
    broken = {point: found for point, found in met.items() if found}
    print(  # noqa: T201
        f"{title}: {len(met)} cases, {len(results) - len(met)} calls not "
        f"made again, {len(broken)} violations"
    )
    return broken


@pytest.mark.parametrize("copy_fails", [False, True])
@pytest.mark.parametrize("kind", EFFECTS)
@pytest.mark.parametrize("count", COUNTS)
def test_any_call_fails(count, kind, copy_fails):
    """The guest is safe, nothing is left behind, and a retry succeeds."""
    points = _points(count, copy_fails=copy_fails)

    results = {
        point: _try(count, point, EFFECTS[kind](), copy_fails=copy_fails)
        for point in points
    }

    title = f"{count} mdevs, {kind}, copy fails: {copy_fails}"
    assert _report(title, results) == {}


def _die(
    count: int,
    point: testing.CallPoint,
    effect: testing.Effect,
    *,
    copy_fails: bool,
) -> list[str] | None:
    """Return how the guest was harmed; None if the call was not made."""
    scene = _scene(count, copy_fails=copy_fails)
    scene.group.faults.at(point, effect)
    try:
        scene.migrate()
    except testing.ProcessDied:
        pass
    else:
        if scene.group.faults.pending():
            return None
    scene.group.wait_for_migrations()
    scene.new_process()
    return scene.group.violations()


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)
@pytest.mark.parametrize("copy_fails", [False, True])
@pytest.mark.parametrize("kind", DEATHS)
@pytest.mark.parametrize("count", COUNTS)
def test_the_process_dies_at_any_call(count, kind, copy_fails):
    """The guest runs on exactly one host, and no host crashed."""
    points = _points(count, copy_fails=copy_fails)

    results = {
        point: _die(count, point, DEATHS[kind](), copy_fails=copy_fails)
        for point in points
    }

    title = f"{count} mdevs, {kind}, copy fails: {copy_fails}"
    assert _report(title, results) == {}


def test_the_record_covers_both_hosts():
    """A clean run migrates, and calls both hosts."""
    scene = _scene(2, copy_fails=False)

    outcome = scene.migrate()

    hosts = Counter(call.host for call in scene.group.faults.calls)
    assert (outcome.result, set(hosts)) == ("migrated", {"host-a", "host-b"})
