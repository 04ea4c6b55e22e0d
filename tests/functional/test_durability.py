# SPDX-License-Identifier: Apache-2.0
"""Does a target survive a reboot of its host as its source mdev did?"""

from __future__ import annotations

from collections.abc import Iterable

import libvirt
import pytest

from mdev_migrate import testing
from mdev_migrate.testing import SimulatedHost
from mdev_migrate.workflow import GuestCheck, Options, Outcome
from tests import builders, scenes

TRANSIENT = {"persistent": False, "autostart": False}
DEFINED = {"persistent": True, "autostart": False}
STARTED = {"persistent": True, "autostart": True}
A, B = builders.uuid(0xB00), builders.uuid(0xB01)


def _add(
    host: SimulatedHost,
    uuid: str,
    how: dict[str, bool],
    *,
    active: bool = True,
    kind: str = "mtty-1",
    parent: str | None = None,
) -> None:
    host.add_mdev(
        uuid, kind, parent, persistent=how["persistent"], active=active
    )
    _set(host, uuid, autostart=how["autostart"])


def _set(host: SimulatedHost, uuid: str, *, autostart: bool) -> None:
    (mdev,) = (m for m in host.devices.mdevs() if m.uuid == uuid)
    mdev.autostart = autostart


def _scene(source: dict[str, bool], **facts: object) -> scenes.Scene:
    """Return a guest whose mdev is defined or not."""
    scene = scenes.Scene(
        ["mtty-1"], persistent_mdevs=source["persistent"], **facts
    )
    _set(scene.here, scene.sources[0], autostart=source["autostart"])
    return scene


def _how(host: SimulatedHost, uuids: Iterable[str]) -> list[dict[str, bool]]:
    found = {m.uuid: m for m in host.all_mdevs()}
    return [
        {
            "persistent": found[uuid].persistent,
            "autostart": found[uuid].autostart,
        }
        for uuid in uuids
    ]


def _targets(outcome: Outcome) -> list[str]:
    assert outcome.error is None, outcome.error
    return list(outcome.target_mdevs.values())


@pytest.mark.parametrize("source", [DEFINED, STARTED])
@pytest.mark.parametrize("spare", [TRANSIENT, DEFINED, STARTED, None])
def test_at_least_as_durable(source, spare):
    """Whatever is there, or nothing: what was defined is."""
    scene = _scene(source)
    if spare is not None:
        _add(scene.there, A, spare)

    outcome = scene.migrate()

    (how,) = _how(scene.there, _targets(outcome))
    assert how["persistent"]
    assert how["autostart"] >= source["autostart"]
    assert outcome.warnings == []


def test_guest_starts_after_the_next_boot():
    """As it would have on the host that it has left."""
    scene = _scene(STARTED)
    _add(scene.there, A, TRANSIENT)
    scene.migrate()

    scene.there.reboot()

    scene.there.open().lookupByName("vm").create()


@pytest.mark.parametrize("source", [TRANSIENT, DEFINED, STARTED])
def test_that_spare_is_preferred(source):
    """Of several, the one that needs no change comes first."""
    scene = _scene(source)
    for number, how in enumerate([STARTED, TRANSIENT, DEFINED]):
        _add(scene.there, builders.uuid(0xB00 + number), how)

    outcome = scene.migrate()

    assert _how(scene.there, _targets(outcome)) == [source]


def test_parent_with_that_spare_is_preferred():
    """It does not matter which parent has it."""
    parents = [testing.MttyParent("mtty_a"), testing.MttyParent("mtty_b")]
    scene = _scene(STARTED, destination_parents=parents)
    _add(scene.there, A, TRANSIENT, parent="mtty_a")
    _add(scene.there, B, STARTED, parent="mtty_b")

    assert _targets(scene.migrate()) == [B]


def test_transient_source_leaves_a_transient_spare():
    """Nothing is defined that was not."""
    scene = _scene(TRANSIENT)
    _add(scene.there, A, TRANSIENT)

    assert _how(scene.there, _targets(scene.migrate())) == [TRANSIENT]


class TestSeveral:
    """Each source mdev has a target that is as durable."""

    def test_mixed(self):
        """The order of neither side matters."""
        scene = scenes.Scene(["mtty-1"] * 2)
        scene.here.open()
        (first, second) = scene.sources
        for mdev in scene.here.devices.mdevs():
            mdev.persistent = mdev.autostart = mdev.uuid == second
        _add(scene.there, A, STARTED)
        _add(scene.there, B, TRANSIENT)

        outcome = scene.migrate()

        assert outcome.target_mdevs == {first: B, second: A}

    def test_one_of_them_is_created(self):
        """What is created for a defined one is not given to the other."""
        scene = scenes.Scene(["mtty-1"] * 2)
        (first, second) = scene.sources
        for mdev in scene.here.devices.mdevs():
            mdev.persistent = mdev.autostart = mdev.uuid == first
        _add(scene.there, A, TRANSIENT)

        outcome = scene.migrate()

        assert _how(
            scene.there, [outcome.target_mdevs[u] for u in (first, second)]
        ) in ([STARTED, TRANSIENT], [STARTED, STARTED])


class TestDefinedAndNotActive:
    """It is started and used before another is made beside it."""

    @pytest.mark.parametrize("source", [TRANSIENT, DEFINED, STARTED])
    def test_started(self, source):
        """And survives as before, or as its source did."""
        scene = _scene(source)
        _add(scene.there, A, DEFINED, active=False)

        outcome = scene.migrate()

        assert _targets(outcome) == [A]
        (how,) = _how(scene.there, [A])
        assert how["persistent"]
        assert how["autostart"] == source["autostart"]

    def test_active_one_comes_first(self):
        """Nothing need be started then."""
        scene = _scene(DEFINED)
        _add(scene.there, A, DEFINED, active=False)
        _add(scene.there, B, DEFINED)

        assert _targets(scene.migrate()) == [B]

    def test_on_another_parent(self):
        """Also where another parent has more room."""
        parents = [
            testing.MttyParent("mtty_a"),
            testing.MttyParent("mtty_b", 2),
        ]
        scene = _scene(DEFINED, destination_parents=parents)
        _add(scene.there, A, DEFINED, active=False, parent="mtty_b")

        assert _targets(scene.migrate()) == [A]

    def test_of_a_guest_that_is_shut_off(self):
        """It is that guest's."""
        scene = _scene(DEFINED)
        _add(scene.there, A, DEFINED, active=False)
        scene.there.add_guest("off", builders.instance(9), [A], running=False)

        assert A not in _targets(scene.migrate())

    def test_with_other_attributes_or_type(self):
        """It would not serve."""
        scene = _scene(DEFINED)
        _add(scene.there, A, DEFINED, active=False, kind="mtty-2")
        scene.there.add_mdev(
            B, "mtty-1", attributes={"a": "1"}, persistent=True, active=False
        )

        assert {A, B}.isdisjoint(_targets(scene.migrate()))

    def test_chosen(self):
        """Also by its UUID."""
        scene = _scene(DEFINED)
        _add(scene.there, A, DEFINED, active=False)
        _add(scene.there, B, DEFINED)

        outcome = scene.migrate(options=Options(targets={scene.sources[0]: A}))

        assert scene.missed(outcome) == []
        assert _targets(outcome) == [A]

    def test_full_parent(self):
        """There is no room to start it: another parent has some."""
        parents = [
            testing.MttyParent("mtty_a", 1),
            testing.MttyParent("mtty_b", 1),
        ]
        scene = _scene(DEFINED, destination_parents=parents)
        _add(scene.there, A, DEFINED, active=False, parent="mtty_a")
        _add(scene.there, B, TRANSIENT, parent="mtty_a")
        scene.there.add_guest("on", builders.instance(9), [B])

        (target,) = _targets(scene.migrate())

        assert target not in (A, B)

    @pytest.mark.parametrize(
        "phase", [("prepare", 0), ("copy", 1), ("load", 0)]
    )
    def test_failure_leaves_it_defined(self, phase):
        """And not active, as it was."""
        scene = _scene(DEFINED)
        _add(scene.there, A, DEFINED, active=False)
        scene.before = scene.snapshot()

        def fail(step: testing.Step) -> None:
            if (step.phase, step.number) == phase:
                raise testing.libvirt_error(
                    libvirt.VIR_ERR_OPERATION_FAILED, "no luck"
                )

        scene.group.pace = fail

        outcome = scene.migrate()

        assert outcome.result == "failed"
        assert scene.broken_promises(outcome) == []


@pytest.mark.parametrize("spare", [TRANSIENT, DEFINED])
def test_it_cannot_be_defined(spare):
    """The guest has moved; what is missing is said."""
    scene = _scene(STARTED)
    _add(scene.there, A, spare)
    name = "nodeDeviceDefineXML" if spare is TRANSIENT else "setAutostart"
    error = testing.libvirt_error(libvirt.VIR_ERR_ACCESS_DENIED, "no")
    scene.group.faults.on(name, testing.fail(error), host="host-b")

    outcome = scene.migrate()

    assert outcome.result == "migrated"
    (warning,) = outcome.warnings
    assert A in warning
    assert "does not survive a reboot" in warning


def test_check_says_so():
    """Before anything is done."""
    scene = _scene(STARTED)
    _add(scene.there, A, TRANSIENT)

    report = GuestCheck(
        scene.host(scene.here), scene.destination(), "vm"
    ).check()

    (found,) = (c for c in report.checks if c.name == "available-mdevs")
    assert found.detail.endswith(
        "1 to reuse, 0 to create; 1 will be defined, as on the source"
    )
    assert _how(scene.there, [A]) == [TRANSIENT]


def test_failed_migration_defines_nothing():
    """A spare that was transient is transient again."""
    scene = _scene(STARTED)
    _add(scene.there, A, TRANSIENT)
    scene.before = scene.snapshot()

    def fail(step: testing.Step) -> None:
        if step.phase == "load":
            raise testing.libvirt_error(
                libvirt.VIR_ERR_OPERATION_FAILED, "no luck"
            )

    scene.group.pace = fail

    outcome = scene.migrate()

    assert outcome.result == "failed"
    assert scene.broken_promises(outcome) == []
