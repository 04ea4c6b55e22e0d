# SPDX-License-Identifier: Apache-2.0
"""What if libvirt's access control does not let us make a call?

A permission that is missing is missing for every call that needs it.
"""

import threading
from collections.abc import Callable
from typing import Any

import libvirt
import pytest

from mdev_migrate import exception, libvirt_host, testing
from tests import builders, crashes, scenes

#: More than any migration here makes of one name.
_ALWAYS = 2000


def _denial() -> libvirt.libvirtError:
    return testing.libvirt_error(
        libvirt.VIR_ERR_ACCESS_DENIED, "'QEMU' denied access"
    )


def _deny(scene: scenes.Scene, name: str, host: str = "*") -> None:
    for nth in range(1, _ALWAYS):
        scene.group.faults.on(
            name, testing.fail(_denial()), host=host, nth=nth
        )


def _fail_the_copy(step: testing.Step) -> None:
    if (step.phase, step.number) == ("copy", 3):
        raise testing.libvirt_error(
            libvirt.VIR_ERR_OPERATION_FAILED, "the copy failed"
        )


def _scene() -> scenes.Scene:
    """Return a guest with two mdevs: one to be reused, one created."""
    return scenes.Scene(("mtty-1", "mtty-2"), ("mtty-1",))


def _called(host: str) -> list[str]:
    """Return what is called on a host, of which time decides nothing."""
    scene = _scene()
    scene.migrate()
    names = {c.name for c in scene.group.faults.calls if c.host == host}
    return sorted(names - {"open", "jobStats", "abortJob"})


#: Without these nobody releases a claim.
_RELEASING = (("host-b", "lookupByUUIDString"), ("host-b", "undefine"))


@pytest.mark.parametrize(
    ("host", "name"),
    [(host, name) for host in ("host-a", "host-b") for name in _called(host)],
)
def test_any_permission_is_missing(host, name):
    """The error says so, by its code or its reason, and nothing is lost."""
    scene = _scene()
    _deny(scene, name, host)

    outcome = scene.migrate()

    scene.group.faults.clear()
    if outcome.error is not None:
        assert outcome.error.code in {
            "access-denied",
            "claims-denied",
            "migration-denied",
        }
        assert "denied access" in str(outcome.error)
    if (host, name) in _RELEASING:
        # Who may define a claim and not undefine it is told, and left with it.
        assert any("denied access" in text for text in outcome.warnings)
        for claim in scene.claims():
            scene.host(scene.there).claims.undefine(claim)
    assert scene.broken_promises(outcome) == []


class TestUndoing:
    def _fail(self, scene: scenes.Scene) -> Any:
        scene.group.pace = _fail_the_copy
        _deny(scene, "destroy", "host-b")
        return scene.migrate()

    def test_the_claim_is_kept(self):
        """What may not be destroyed stays claimed, and is not called busy."""
        scene = _scene()

        outcome = self._fail(scene)

        assert isinstance(outcome.error, exception.MigrationFailed)
        (claim,) = scene.claims()
        targets = frozenset(outcome.target_mdevs.values())
        assert {mdev.uuid for mdev in claim.mdevs} == targets
        undone = [w for w in outcome.warnings if w.startswith("not undone")]
        assert len(undone) == 2
        assert all("denied access" in warning for warning in undone)
        assert not any("busy" in warning for warning in undone)

    def test_it_is_not_tried_again(self):
        """What is denied once is denied a minute later."""
        scene = _scene()

        self._fail(scene)

        calls = [c.name for c in scene.group.faults.calls]
        # Its two targets, each once.
        assert calls.count("destroy") == 2

    def test_the_next_migration_settles_it(self):
        """Once it is allowed, a retry undoes the rest and succeeds."""
        scene = _scene()
        self._fail(scene)
        scene.group.faults.clear()
        scene.group.pace = lambda step: None

        again = scene.migrate()

        assert again.result == "migrated"
        assert scene.broken_promises(again) == []


class TestClearingBehind:
    def test_the_source_may_not_be_changed(self):
        """A guest that has moved leaves an mdev and a warning, no claim."""
        scene = scenes.Scene()
        assert scene.migrate().result == "migrated"
        _deny(scene, "destroy", "host-b")
        scene.group.faults.forget_calls()

        outcome = scene.migrate(back=True)

        assert outcome.result == "migrated"
        (warning,) = outcome.warnings
        assert "not removed from the source" in warning
        assert "denied access" in warning
        calls = [c.name for c in scene.group.faults.calls]
        assert calls.count("destroy") == 1
        assert scene.claims() == ()


class TestAbort:
    def test_it_is_told_once(self):
        """An abort that is denied is not sent again and again."""
        scene = scenes.Scene()
        stop, over = threading.Event(), threading.Event()
        told: list[str] = []

        class Observer(scenes.Silent):
            def warn(self, text: str) -> None:
                told.append(text)

        def pace(step: testing.Step) -> None:
            if (step.phase, step.number) == ("copy", 1):
                stop.set()
                over.wait(10)

        def deny(_link: object, _call: Callable[[], Any]) -> Any:
            over.set()
            raise _denial()

        scene.group.pace = pace
        for nth in range(1, _ALWAYS):
            scene.group.faults.on("abortJob", deny, nth=nth)

        outcome = scene.migrate(stop=stop, observer=Observer())

        assert outcome.result == "migrated"
        denied = [text for text in told if text.startswith("abort: ")]
        assert len(denied) == 1
        assert "denied access" in denied[0]


class TestMigrationCall:
    def test_the_destination_denies_it(self):
        """libvirt does not say who denied: the hint does."""
        scene = _scene()

        def deny(step: testing.Step) -> None:
            if step.phase == "prepare":
                raise _denial()

        scene.group.pace = deny

        outcome = scene.migrate()

        assert isinstance(outcome.error, exception.MigrationDenied)
        assert "destination" in outcome.error.hint
        assert scene.broken_promises(outcome) == []


@pytest.mark.parametrize(
    "code", [libvirt.VIR_ERR_ACCESS_DENIED, libvirt.VIR_ERR_OPERATION_DENIED]
)
def test_opening_is_denied(monkeypatch, code):
    """A host that denies access is reached: its URI is not at fault."""

    def deny(_uri: str) -> None:
        raise testing.libvirt_error(code, "'QEMU' denied access")

    monkeypatch.setattr(libvirt, "open", deny)

    with pytest.raises(exception.AccessDenied, match="qemu:///system"):
        libvirt_host.connect("qemu:///system")


def test_a_look_needs_no_password():
    """Only what is sent to libvirt is read with flags that need more.

    libvirt demands the permission to read passwords for the migratable
    form, even without passwords in it.
    """
    scene = scenes.Scene()
    domain = scene.here.open().lookupByUUIDString(builders.INSTANCE)

    text = scene.host(scene.here).live_xml(builders.INSTANCE)

    assert text == domain.XMLDesc(0)
    assert text != domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE)


class TestOpening:
    """A host that does not let us in is as good as out of reach."""

    def test_reopening_while_undoing(self):
        """One denied reopening ends no retries and hides no error."""
        scene = _scene()

        def pace(step: testing.Step) -> None:
            if (step.phase, step.number) == ("copy", 3):
                faults = scene.group.faults
                lose = testing.lose_connection()
                faults.on("listAllDevices", lose, host="host-b")
                faults.on("open", testing.fail(_denial()), host="host-b")
            _fail_the_copy(step)

        scene.group.pace = pace

        outcome = scene.migrate()

        assert isinstance(outcome.error, exception.MigrationFailed)
        assert outcome.warnings == []
        assert scene.broken_promises(outcome) == []

    @pytest.mark.parametrize("dry_run", [True, False])
    def test_the_source_of_a_guest_that_arrived(self, dry_run):
        """Its destination knows enough to settle the claim."""
        world = _killed_when_moved()
        _deny(world.scene, "getVersion", "host-a")

        (recovered,) = world.recovery().run(dry_run=dry_run)

        world.group.faults.clear()
        assert recovered.action == "finished"
        assert bool(world.claims()) == dry_run

    def test_a_source_that_denies_is_not_gone(self):
        """It runs, and may still send the guest, whatever is said of it."""
        world = _killed_when_moved()
        world.scene.there.open().lookupByName("vm").destroy()
        world.scene.there.open().lookupByName("vm").undefine()
        _deny(world.scene, "getVersion", "host-a")

        (recovered,) = world.recovery(source_gone=True).run()

        assert recovered.action == "kept"
        assert "denied access" in recovered.reason


def _killed_when_moved() -> crashes.Crashes:
    """Let a process die when its guest has moved."""
    world = crashes.Crashes(crashes.kinds(2), ["mtty-1"])
    world.group.faults.on("migrateToURI3", testing.die_after(), nth=2)
    crashes.run(world.migrate)
    world.restart()
    return world
