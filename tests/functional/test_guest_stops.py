# SPDX-License-Identifier: Apache-2.0
"""What if a guest is shut down, by its user or otherwise, on its way?"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import libvirt
import pytest

from mdev_migrate import exception, testing
from mdev_migrate.workflow import Outcome
from tests import scenes

PHASES = [
    ("begin", 0),
    ("prepare", 0),
    ("copy", 1),
    ("copy", 2),
    ("load", 0),
    ("finish", 0),
]


def _migrate_and(
    scene: scenes.Scene, act: Callable[[], Any], phase: tuple[str, int]
) -> Outcome:
    """Migrate the guest and do something when it comes to a step."""
    ended: list[Outcome] = []
    with scene.group.hold(*phase) as gate:
        thread = threading.Thread(target=lambda: ended.append(scene.migrate()))
        thread.start()
        gate.wait_reached()
        act()
    thread.join()
    return ended[0]


def _stop(scene: scenes.Scene) -> None:
    scene.here.open().lookupByName("vm").destroy()


def _text(outcome: Outcome) -> str:
    assert outcome.error is not None
    return f"{outcome.error} | {outcome.error.hint}"


@pytest.mark.parametrize("phase", PHASES)
def test_it_is_shut_off_on_the_source(phase):
    """That is said, and nobody is sent to look for it elsewhere."""
    scene = scenes.Scene(["mtty-1"], ["mtty-1"])

    outcome = _migrate_and(scene, lambda: _stop(scene), phase)

    assert isinstance(outcome.error, exception.GuestStopped)
    assert "was stopped by force on qemu+tls://host-a" in _text(outcome)
    assert "another host" not in _text(outcome)
    assert scene.claims() == ()
    assert list(scene.there.mdevs()) == [scenes.builders.uuid(scenes.SPARE)]
    assert scene.there.unusable_mdevs() == set()


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN, "was shut down"),
        (libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, "crashed"),
        (libvirt.VIR_DOMAIN_SHUTOFF_SAVED, "was saved to a file"),
        (libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN, "was stopped"),
        (99, "was stopped"),
    ],
)
def test_how(reason, words):
    """libvirt's reason is told."""
    scene = scenes.Scene(["mtty-1"])

    def stop() -> None:
        _stop(scene)
        state = scene.here.guests.state(scenes.builders.INSTANCE)
        state.reason = (libvirt.VIR_DOMAIN_SHUTOFF, reason)

    outcome = _migrate_and(scene, stop, ("copy", 1))

    assert isinstance(outcome.error, exception.GuestStopped)
    assert f"guest vm: {words} on " in str(outcome.error)


def _undefine(scene: scenes.Scene) -> None:
    _stop(scene)
    scene.here.open().lookupByName("vm").undefine()


@pytest.mark.parametrize(
    ("persistent", "act"), [(False, _stop), (True, _undefine)]
)
@pytest.mark.parametrize("phase", PHASES[1:])
def test_source_has_forgotten_it(persistent, act, phase):
    """It was stopped: while it was on its way nobody else could move it."""
    scene = scenes.Scene(["mtty-1"], persistent=persistent)

    outcome = _migrate_and(scene, lambda: act(scene), phase)

    assert isinstance(outcome.error, exception.GuestStopped)
    text = _text(outcome)
    assert "was stopped on qemu+tls://host-a" in text
    assert "does not know it any more" in text
    assert "definition" not in text
    assert "another host" not in text
    assert (scene.claims(), scene.there.mdevs()) == ((), {})


def test_gone_while_it_is_checked():
    """Nothing was begun, and it is not called an error of libvirt's."""
    scene = scenes.Scene(["mtty-1"], persistent=False)

    outcome = _migrate_and(scene, lambda: _stop(scene), ("begin", 0))

    assert isinstance(outcome.error, exception.GuestNotFound)
    assert outcome.result == "refused"
    assert (scene.claims(), scene.there.mdevs()) == ((), {})


def test_moved_away_by_somebody_who_kept_its_definition():
    """Shut off on the source, it must not be started there all the same."""
    scene = scenes.Scene(())
    third = scene.group.add_host("host-c", [testing.MttyParent()])

    def move(_link: object, _call: object) -> None:
        scene.here.open().lookupByName("vm").migrateToURI3(
            third.uris[0],
            {},
            libvirt.VIR_MIGRATE_LIVE
            | libvirt.VIR_MIGRATE_PEER2PEER
            | libvirt.VIR_MIGRATE_PERSIST_DEST,
        )
        raise testing.libvirt_error(
            libvirt.VIR_ERR_OPERATION_INVALID, "domain is not running"
        )

    scene.group.faults.on("migrateToURI3", move, nth=2)

    outcome = scene.migrate()

    assert isinstance(outcome.error, exception.GuestLost)
    assert "is shut off: it was migrated away" in _text(outcome)
    assert "third host" in _text(outcome)
    assert "start it where it is defined" not in _text(outcome)


class _At(scenes.Silent):
    """Does something when a step begins."""

    def __init__(self, step: str, act: Callable[[], Any]) -> None:
        self._step, self._act = step, act

    def step(self, step: Any, detail: str) -> None:
        if step.value == self._step:
            self._act()


def _move_on(scene: scenes.Scene, host: testing.SimulatedHost) -> None:
    """Let somebody else move the guest to a third host, and leave a rest."""
    third = scene.group.add_host("host-c", [testing.MttyParent()])
    host.open().lookupByName("vm").migrateToURI3(
        third.uris[0],
        {},
        libvirt.VIR_MIGRATE_LIVE
        | libvirt.VIR_MIGRATE_PEER2PEER
        | libvirt.VIR_MIGRATE_PERSIST_DEST,
    )


def test_moved_away_before_it_is_sent():
    """Nobody is told to start it: it runs elsewhere."""
    scene = scenes.Scene(())

    outcome = scene.migrate(
        observer=_At("prepare", lambda: _move_on(scene, scene.here))
    )

    assert isinstance(outcome.error, exception.GuestLost)
    assert "is shut off: it was migrated away" in _text(outcome)
    assert "third host" in _text(outcome)
    assert (scene.claims(), scene.where()) == ((), ["host-c"])


def test_moved_away_before_it_is_looked_at():
    """A refusal does not tell to start it, either."""
    scene = scenes.Scene(())
    _move_on(scene, scene.here)

    outcome = scene.migrate()

    assert isinstance(outcome.error, exception.GuestNotRunning)
    assert "is not running: it was migrated away" in _text(outcome)
    assert "do not start it here" in _text(outcome)
    assert "start the guest" not in _text(outcome)


@pytest.mark.parametrize("step", ["plan", "claim", "create", "prepare"])
@pytest.mark.parametrize(
    ("persistent", "act", "kind"),
    [
        (True, _stop, exception.GuestStopped),
        (True, _undefine, exception.GuestLost),
        (False, _stop, exception.GuestLost),
    ],
)
def test_stopped_before_it_is_sent(step, persistent, act, kind):
    """That is no failure of libvirt's; why, is told if it is known."""
    scene = scenes.Scene(["mtty-1"], persistent=persistent)

    outcome = scene.migrate(observer=_At(step, lambda: act(scene)))

    assert isinstance(outcome.error, kind)
    assert (scene.claims(), scene.there.mdevs()) == ((), {})


def _restart(scene: scenes.Scene) -> None:
    _stop(scene)
    scene.here.open().lookupByName("vm").create()


@pytest.mark.parametrize("phase", PHASES[1:])
def test_started_again(phase):
    """It is another process, which stays, and runs: so it is said."""
    scene = scenes.Scene(["mtty-1"])

    outcome = _migrate_and(scene, lambda: _restart(scene), phase)

    assert isinstance(outcome.error, exception.GuestRestarted)
    assert "started anew on qemu+tls://host-a" in _text(outcome)
    assert "it stays on qemu+tls://host-a" in _text(outcome)
    assert scene.where() == ["host-a"]
    assert (scene.claims(), scene.group.violations()) == ((), [])


@pytest.mark.parametrize("step", ["plan", "claim", "create", "prepare"])
def test_started_again_before_it_is_sent(step):
    """Then that process is what is sent."""
    scene = scenes.Scene(["mtty-1"])

    outcome = scene.migrate(observer=_At(step, lambda: _restart(scene)))

    assert (outcome.result, scene.where()) == ("migrated", ["host-b"])


def _end_there(scene: scenes.Scene) -> None:
    scene.there.open().lookupByName("vm").destroy()


def _undefine_there(scene: scenes.Scene) -> None:
    _end_there(scene)
    scene.there.open().lookupByName("vm").undefine()


@pytest.mark.parametrize(
    ("persistent", "act", "words", "deed"),
    [
        (
            True,
            _end_there,
            "it is shut off there now: it was stopped by force",
            "start it on the destination when it is wanted",
        ),
        (
            False,
            _end_there,
            "it is not there any more: it had no definition",
            "whoever started it can start it anew",
        ),
        (
            True,
            _undefine_there,
            "it is not there any more, nor is its definition",
            "look for it on your other hosts before you start it anywhere",
        ),
    ],
)
def test_right_after_arrival(persistent, act, words, deed):
    """It has left the source; how it ended is said, and what to do."""
    scene = scenes.Scene(["mtty-1"], persistent=persistent)

    outcome = scene.migrate(observer=_At("verify", lambda: act(scene)))

    assert isinstance(outcome.error, exception.GuestNotOnTargets)
    assert "has arrived on qemu+tls://host-b" in _text(outcome)
    assert words in _text(outcome)
    assert outcome.error.hint.startswith(deed)
    # A definition holds its mdev; without one nobody does.
    defined = act is _end_there and persistent
    assert len(scene.there.mdevs()) == defined
