# SPDX-License-Identifier: Apache-2.0
"""What is told of a guest that is off when its definition does not move?"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import libvirt
import pytest

from mdev_migrate import exception, testing
from mdev_migrate.limits import Limits
from mdev_migrate.workflow import Outcome, Recovery
from mdev_migrate.workflow.shut_off import DefinitionMove
from mdev_migrate.workflow.values import Options
from tests import builders, scenes

OTHER = 0xC00


def _scene(spare_types: Iterable[str] = ()) -> scenes.Scene:
    """Return a guest that is off."""
    scene = scenes.Scene(["mtty-1"], spare_types)
    scene.here.open().lookupByName("vm").destroy()
    return scene


def _move(scene: scenes.Scene) -> Outcome:
    return DefinitionMove(
        scene.host(scene.here), scene.destination(), "vm", Options()
    ).run()


def _afterwards(scene: scenes.Scene, act: Callable[[str], None]) -> None:
    """Let somebody act on the definition right after it has moved."""
    document = scene.here.open().lookupByName("vm").XMLDesc()

    def move(_link: object, call: Callable[[], object]) -> object:
        moved = call()
        act(document)
        return moved

    scene.group.faults.on("migrateToURI3", move)


def _text(outcome: Outcome) -> str:
    assert outcome.error is not None
    return f"{outcome.error} | {outcome.error.hint}"


def test_what_migrate_warns_of():
    """Of a guest that is off it is told as well."""
    scene = _scene()
    error = testing.libvirt_error(libvirt.VIR_ERR_OPERATION_FAILED, "no link")
    scene.group.faults.on("autostart", testing.fail(error), host="host-a")
    scene.there.add_guest("odd", builders.instance(OTHER), running=False)
    scene.there.spoil("odd", lambda _: "<<<")

    outcome = _move(scene)

    assert outcome.result == "migrated"
    unreadable, autostart = outcome.warnings
    assert "guest not read: domain XML of odd" in unreadable
    assert "is not started when its new host boots" in autostart


def test_started_meanwhile():
    """It runs on the source: nobody is sent to the destination for it."""
    scene = _scene()
    _afterwards(scene, lambda xml: scene.here.open().createXML(xml, 0))

    outcome = _move(scene)

    assert isinstance(outcome.error, exception.GuestStartedMeanwhile)
    assert "it runs on qemu+tls://host-a" in _text(outcome)
    assert "do not start it on the destination" in _text(outcome)
    assert "it has left it" not in _text(outcome)
    assert (scene.where(), scene.claims()) == (["host-a"], ())


def test_started_meanwhile_can_follow():
    """As the hint says, it can be migrated to its definition, running."""
    scene = _scene()
    _afterwards(scene, lambda xml: scene.here.open().createXML(xml, 0))
    _move(scene)

    outcome = scene.migrate()

    assert outcome.error is None, outcome.error
    assert scene.where() == ["host-b"]
    assert scene.there.open().lookupByName("vm").isPersistent()
    assert len(scene.there.mdevs()) == 1


def test_started_before_it_could_move():
    """Nothing has moved, and it is told to try again."""
    scene = _scene()

    def start(_link: object, _call: object) -> None:
        scene.here.open().lookupByName("vm").create()
        raise testing.libvirt_error(
            libvirt.VIR_ERR_OPERATION_INVALID, "domain is already running"
        )

    scene.group.faults.on("migrateToURI3", start)

    outcome = _move(scene)

    assert isinstance(outcome.error, exception.GuestStarted)
    assert "try again" in _text(outcome)
    assert (scene.where(), scene.claims()) == (["host-a"], ())
    assert scene.there.mdevs() == {}


@pytest.mark.parametrize("spares", [0, 1])
def test_the_claim_was_ended_meanwhile(spares):
    """It stays: what it was to have may be gone, or another's by then."""
    scene = _scene(["mtty-1"] * spares)

    def recover(_link: object, call: Callable[[], object]) -> object:
        # Its owner, who is not heard for long, lives after all.
        for claim in scene.claims():
            scene.host(scene.there).claims.close(claim)
            Recovery(scene.destination(), [scene.host(scene.here)]).run()
        return call()

    scene.group.faults.on("autostart", recover, host="host-a")

    outcome = _move(scene)

    assert isinstance(outcome.error, exception.ClaimLost)
    assert scene.here.open().lookupByName("vm").isPersistent()
    assert (scene.claims(), len(scene.there.mdevs())) == ((), spares)
    assert _move(scene).result == "migrated"


def test_other_mdevs_meanwhile():
    """Both lists are told, and that nothing is lost."""
    scene = _scene()
    old, new = scene.sources[0], builders.uuid(OTHER)
    _afterwards(
        scene,
        lambda xml: scene.there.open().defineXML(xml.replace(old, new)),
    )

    outcome = _move(scene)

    assert isinstance(outcome.error, exception.DefinitionChanged)
    assert f"{new} found" in _text(outcome)
    assert "[" not in _text(outcome)
    assert "what it wrote" not in _text(outcome)


@pytest.mark.parametrize(
    "reason", ["no luck", "unable to connect to server: Connection refused"]
)
def test_it_stays(reason):
    """It is off: nobody says that it runs."""
    scene = _scene()
    scene.group.faults.on(
        "migrateToURI3",
        testing.fail(
            testing.libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, reason)
        ),
    )

    outcome = _move(scene)

    assert isinstance(outcome.error, exception.DefinitionNotMoved)
    assert "still runs" not in _text(outcome)
    assert "its definition is on the source as before" in _text(outcome)
    assert ("--peer-uri" in _text(outcome)) == ("connect" in reason)


def test_it_is_not_known():
    """It is off: the question is which host has its definition."""
    scene = _scene()
    scene.limits = Limits(settle_s=0.01, busy_s=0.01, poll_s=0.001)

    def move(_link: object, call: Callable[[], object]) -> None:
        call()
        scene.there.stop_daemon()
        raise testing.libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "no luck")

    scene.group.faults.on("migrateToURI3", move)

    outcome = _move(scene)

    assert isinstance(outcome.error, exception.DefinitionUnknown)
    assert "nothing was undone" not in _text(outcome)
    assert "which host has its definition" in _text(outcome)
