# SPDX-License-Identifier: Apache-2.0
"""Guests that are paused, or that start with something else next time."""

from __future__ import annotations

import libvirt
import pytest
from lxml import etree

from mdev_migrate import exception, testing
from mdev_migrate.core import guest_xml
from mdev_migrate.testing import SimulatedHost
from mdev_migrate.workflow import GuestCheck, Outcome, Report
from tests import builders, scenes

INACTIVE = libvirt.VIR_DOMAIN_XML_INACTIVE
LATER = builders.uuid(0xA)


def _check(scene: scenes.Scene) -> Report:
    return GuestCheck(
        scene.host(scene.here), scene.destination(), "vm"
    ).check()


def _named(host: SimulatedHost, flags: int = 0) -> frozenset[str]:
    text = host.open().lookupByName("vm").XMLDesc(flags)
    return guest_xml.named_mdevs(text)


def _redefine(scene: scenes.Scene, *mdevs: str, memory: str = "") -> None:
    """Let the guest have other mdevs when it starts next."""
    text = testing.guest_document("vm", builders.INSTANCE, mdevs)
    if memory:
        root = etree.fromstring(text)
        root.find("memory").text = memory
        text = etree.tostring(root, encoding="unicode")
    scene.here.open().defineXML(text)
    scene.before = scene.snapshot()


def _fail_to_load(step: testing.Step) -> None:
    if step.phase == "load":
        raise testing.libvirt_error(
            libvirt.VIR_ERR_OPERATION_FAILED, "no luck"
        )


class TestPaused:
    @pytest.fixture(params=[["mtty-1"], []])
    def scene(self, request: pytest.FixtureRequest) -> scenes.Scene:
        """Return a guest that somebody paused, with and without an mdev."""
        scene = scenes.Scene(request.param)
        scene.here.open().lookupByName("vm").suspend()
        return scene

    def _state(self, host: SimulatedHost) -> int:
        return int(host.open().lookupByName("vm").state()[0])

    def test_arrives_paused(self, scene):
        """That is said, and is no trouble."""
        outcome = scene.migrate()

        assert (outcome.result, outcome.error) == ("migrated", None)
        assert outcome.warnings == [
            "guest vm is paused on host-a, and stays so"
        ]
        assert self._state(scene.there) == libvirt.VIR_DOMAIN_PAUSED
        assert set(scene.there.used_mdevs()) == set(
            outcome.target_mdevs.values()
        )

    def test_can_be_resumed_there(self, scene):
        """It is all there."""
        scene.migrate()

        scene.there.open().lookupByName("vm").resume()

        assert self._state(scene.there) == libvirt.VIR_DOMAIN_RUNNING

    def test_failure_leaves_it_paused(self, scene):
        """As it was."""
        scene.group.pace = _fail_to_load

        outcome = scene.migrate()

        assert outcome.result == "failed"
        assert self._state(scene.here) == libvirt.VIR_DOMAIN_PAUSED
        assert scene.snapshot() == scene.before

    def test_what_blocks_it_is_asked(self):
        """As of a guest that runs."""
        scene = scenes.Scene(["mtty-1"], blockers=["out of luck"])
        scene.here.open().lookupByName("vm").suspend()

        found = {check.name: check.result for check in _check(scene).checks}

        assert found["guest-running"] == "passed"
        assert found["migration-blockers"] == "refused"


PAUSED = libvirt.VIR_DOMAIN_PAUSED


class TestStandsStill:
    """libvirt and QEMU say which of those they migrate."""

    @pytest.mark.parametrize(
        "reason",
        [
            libvirt.VIR_DOMAIN_PAUSED_UNKNOWN,
            libvirt.VIR_DOMAIN_PAUSED_IOERROR,
            libvirt.VIR_DOMAIN_PAUSED_WATCHDOG,
            libvirt.VIR_DOMAIN_PAUSED_FROM_SNAPSHOT,
            libvirt.VIR_DOMAIN_PAUSED_CRASHED,
            # VIR_DOMAIN_PAUSED_API_ERROR; older bindings do not name it.
            14,
        ],
    )
    def test_moved(self, reason):
        """It arrives as one that somebody paused does."""
        scene = scenes.Scene(["mtty-1"])
        scene.here.stand_still("vm", PAUSED, reason)

        outcome = scene.migrate()

        assert (outcome.result, outcome.error) == ("migrated", None)
        assert outcome.warnings == [
            "guest vm is paused on host-a, and stays so"
        ]

    @pytest.mark.parametrize(
        ("state", "reason", "why", "advice"),
        [
            (libvirt.VIR_DOMAIN_PMSUSPENDED, 0, "sleeps", "dompmwakeup"),
            (libvirt.VIR_DOMAIN_CRASHED, 1, "has crashed", "destroy"),
            (libvirt.VIR_DOMAIN_SHUTDOWN, 1, "being shut down", "wait"),
            (libvirt.VIR_DOMAIN_NOSTATE, 0, "no state", "start the guest"),
            (
                PAUSED,
                libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED,
                "post-copy failed",
                "--postcopy-resume",
            ),
            (
                PAUSED,
                libvirt.VIR_DOMAIN_PAUSED_STARTING_UP,
                "being started",
                "wait",
            ),
            (
                PAUSED,
                libvirt.VIR_DOMAIN_PAUSED_MIGRATION,
                "on its way",
                "wait",
            ),
        ],
    )
    def test_refused(self, state, reason, why, advice):
        """Why it does not run is told, and what to do about it."""
        scene = scenes.Scene(["mtty-1"])
        scene.here.stand_still("vm", state, reason)

        outcome = scene.migrate()

        assert isinstance(outcome.error, exception.GuestNotRunning)
        assert "is not running: it " in str(outcome.error)
        assert why in str(outcome.error)
        assert advice in outcome.error.hint


class TestPendingChange:
    """Each document arrives with what it has."""

    def _warning(self, outcome: Outcome) -> str:
        assert outcome.error is None, outcome.error
        (warning,) = outcome.warnings
        return warning

    def test_other_memory(self):
        """What is not about mdevs is nothing to speak of."""
        scene = scenes.Scene(["mtty-1"])
        _redefine(scene, *scene.sources, memory="131072")

        outcome = scene.migrate()

        assert outcome.warnings == []
        later = scene.there.open().lookupByName("vm").XMLDesc(INACTIVE)
        assert "131072" in later
        assert _named(scene.there) == _named(scene.there, INACTIVE)

    def test_one_more(self):
        """It gets a target of its type, which is kept for the guest."""
        scene = scenes.Scene(["mtty-1"])
        scene.here.add_mdev(LATER, "mtty-2")
        _redefine(scene, *scene.sources, LATER)

        outcome = scene.migrate()

        assert f"with {LATER}" in self._warning(outcome)
        targets = outcome.target_mdevs
        assert _named(scene.there) == {targets[scene.sources[0]]}
        assert _named(scene.there, INACTIVE) == set(targets.values())
        kinds = {
            uuid: mdev.mdev_type for uuid, mdev in scene.there.mdevs().items()
        }
        assert kinds[targets[LATER]] == "mtty-2"

    def test_one_more_that_is_only_defined(self):
        """Its type is known too."""
        scene = scenes.Scene(["mtty-1"])
        scene.here.add_mdev(LATER, "mtty-1", persistent=True, active=False)
        _redefine(scene, *scene.sources, LATER)

        outcome = scene.migrate()

        assert outcome.error is None
        assert len(_named(scene.there, INACTIVE)) == 2

    def test_one_less(self):
        """The guest has it until it stops."""
        scene = scenes.Scene(["mtty-1"] * 2)
        first, second = scene.sources
        _redefine(scene, first)

        outcome = scene.migrate()

        assert f"without {second}" in self._warning(outcome)
        targets = outcome.target_mdevs
        assert _named(scene.there) == set(targets.values())
        assert _named(scene.there, INACTIVE) == {targets[first]}

    def test_another_in_its_place(self):
        """Both are provided."""
        scene = scenes.Scene(["mtty-1"])
        scene.here.add_mdev(LATER, "mtty-1")
        _redefine(scene, LATER)

        outcome = scene.migrate()

        targets = outcome.target_mdevs
        assert outcome.error is None
        assert _named(scene.there) == {targets[scene.sources[0]]}
        assert _named(scene.there, INACTIVE) == {targets[LATER]}

    def test_none_now(self):
        """A guest whose first mdev waits for its next start."""
        scene = scenes.Scene([])
        scene.here.add_mdev(LATER, "mtty-1")
        _redefine(scene, LATER)

        outcome = scene.migrate()

        assert outcome.error is None
        assert _named(scene.there) == set()
        assert _named(scene.there, INACTIVE) == {outcome.target_mdevs[LATER]}

    def test_one_that_nobody_lists(self):
        """It stays in the document, and that is said."""
        scene = scenes.Scene(["mtty-1"])
        _redefine(scene, *scene.sources, LATER)

        outcome = scene.migrate()

        assert f"no host lists, {LATER}" in self._warning(outcome)
        assert LATER in _named(scene.there, INACTIVE)
        assert LATER not in scene.there.mdevs()

    def test_check_and_plan(self):
        """They say it before; the difference is of the live XML."""
        scene = scenes.Scene(["mtty-1"])
        scene.here.add_mdev(LATER, "mtty-1")
        _redefine(scene, *scene.sources, LATER)
        check = GuestCheck(scene.host(scene.here), scene.destination(), "vm")

        report = check.check()

        (found,) = (c for c in report.checks if c.name == "guest-xml")
        assert (found.result, report.allowed) == ("passed", True)
        assert LATER in found.detail
        assert LATER not in check.difference(report)
        assert scene.sources[0] in check.difference(report)

    def test_failure_undoes_both(self):
        """What was made for the next start as well."""
        scene = scenes.Scene(["mtty-1"])
        scene.here.add_mdev(LATER, "mtty-1")
        _redefine(scene, *scene.sources, LATER)
        scene.group.pace = _fail_to_load

        outcome = scene.migrate()

        assert outcome.result == "failed"
        assert scene.broken_promises(outcome) == []
