# SPDX-License-Identifier: Apache-2.0
"""What if a host reboots while a guest is on its way?"""

from __future__ import annotations

import pytest

from mdev_migrate import testing
from tests import crashes

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)
#: Before the copy, in it, and when the guest is about to run.
PHASES = [("prepare", 0), ("copy", 1), ("copy", 5), ("load", 0), ("finish", 0)]


@pytest.fixture
def world() -> crashes.Crashes:
    """Return hosts and a guest with two mdevs, one to be reused."""
    return crashes.Crashes(crashes.kinds(2), ["mtty-1"])


def dies(world: crashes.Crashes) -> None:
    """Let the process die that migrates, and a new one recover."""
    assert not crashes.run(world.migrate)
    world.restart()


def migrate_and_reboot(
    world: crashes.Crashes,
    host: testing.SimulatedHost,
    when: tuple[str, int],
    *,
    killed: bool,
) -> None:
    """Migrate, and reboot a host at one step; a new process follows a dead.

    :param killed: the process that migrates dies at the same moment.
    """

    def pace(step: testing.Step) -> None:
        if (step.phase, step.number) == when:
            if killed:
                world.group.kill_process()
            host.reboot()

    world.group.pace = pace
    if killed:
        dies(world)
    else:
        assert world.migrate().result == "failed"


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize(("phase", "number"), PHASES)
def test_the_destination(world, phase, number, killed):
    """The guest stays; nothing is left claimed, and a retry succeeds."""
    migrate_and_reboot(
        world, world.scene.there, (phase, number), killed=killed
    )
    world.group.pace = lambda _: None
    # Not defined, so the reboot took it, unless it was made again.
    world.spares = set()

    world.recover()

    assert (world.arrived(), world.claims()) == (False, ())
    assert world.group.violations() == []
    assert world.scene.there.unusable_mdevs() == set()
    outcome = world.migrate()
    assert (outcome.result, world.arrived()) == ("migrated", True)


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize(("phase", "number"), PHASES)
def test_the_source(world, phase, number, killed):
    """The guest is stopped by that, not by us; nothing is left of it."""
    before = set(world.scene.there.mdevs())
    migrate_and_reboot(world, world.scene.here, (phase, number), killed=killed)

    world.recover()

    assert world.claims() == ()
    assert world.group.violations() == []
    assert set(world.scene.there.mdevs()) == before
    assert world.scene.there.unusable_mdevs() == set()


def test_after_it_arrived(world):
    """A guest that the destination's reboot stops leaves no claim behind."""
    world.group.faults.on("migrateToURI3", testing.die_after(), nth=2)
    dies(world)
    world.scene.there.reboot()

    world.recover()

    assert world.claims() == ()
    assert world.group.violations() == []
