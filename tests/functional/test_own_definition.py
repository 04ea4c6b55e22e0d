# SPDX-License-Identifier: Apache-2.0
"""A guest comes back to a host that has kept its old definition, shut off.

What that definition holds is held for this guest, and for nobody else.
"""

from __future__ import annotations

import libvirt
import pytest

from mdev_migrate import exception, testing
from mdev_migrate.workflow import Outcome
from tests import builders, scenes

OLD, OLDER, SPARE = (builders.uuid(0xB00 + n) for n in range(3))


def _leave(scene: scenes.Scene, *mdevs: str, name: str = "vm") -> None:
    """Give the destination the guest's definition with other mdevs."""
    scene.there.add_guest(name, builders.INSTANCE, mdevs, running=False)
    scene.before = scene.snapshot()


def _nvidia(instances: int) -> testing.NvidiaParent:
    return testing.NvidiaParent(
        "pci_0000_06_00_0", {"nvidia-1": instances, "nvidia-2": instances}
    )


def _targets(outcome: Outcome) -> list[str]:
    assert outcome.error is None, outcome.error
    return sorted(outcome.target_mdevs.values())


@pytest.mark.parametrize("instances", [1, 4])
def test_its_mdev_is_reused(instances):
    """On a full host, and on one with room."""
    scene = scenes.Scene(
        ["nvidia-1"],
        source_parents=[_nvidia(1)],
        destination_parents=[_nvidia(instances)],
    )
    scene.there.add_mdev(OLD, "nvidia-1")
    _leave(scene, OLD)

    outcome = scene.migrate()

    assert _targets(outcome) == [OLD]
    assert list(scene.there.mdevs()) == [OLD]


def test_before_another_that_is_spare():
    """Otherwise it would be left for nobody."""
    scene = scenes.Scene(["mtty-1"])
    for uuid in (builders.uuid(0xA), OLD):
        scene.there.add_mdev(uuid, "mtty-1")
    _leave(scene, OLD)

    assert _targets(scene.migrate()) == [OLD]


def test_before_a_parent_that_has_all():
    """One of two is its own; the other is created beside it."""
    parents = [testing.MttyParent("mtty_a"), testing.MttyParent("mtty_b")]
    scene = scenes.Scene(["mtty-1"] * 2, destination_parents=parents)
    for uuid in (OLDER, SPARE):
        scene.there.add_mdev(uuid, "mtty-1", "mtty_a")
    scene.there.add_mdev(OLD, "mtty-1", "mtty_b")
    _leave(scene, OLD)

    assert OLD in _targets(scene.migrate())


def test_one_of_two_serves():
    """The other type is found elsewhere."""
    scene = scenes.Scene(["mtty-1", "mtty-2"])
    scene.there.add_mdev(OLD, "mtty-1")
    scene.there.add_mdev(OLDER, "mtty-1")
    _leave(scene, OLD, OLDER)

    targets = _targets(scene.migrate())

    assert len({OLD, OLDER}.intersection(targets)) == 1


def test_more_than_the_guest_has():
    """What is left to nobody is said, with what removes it."""
    scene = scenes.Scene(["mtty-1"])
    for uuid in (OLD, OLDER):
        scene.there.add_mdev(uuid, "mtty-1")
    _leave(scene, OLD, OLDER)

    outcome = scene.migrate()

    (left,) = {OLD, OLDER}.difference(_targets(outcome))
    (warning,) = outcome.warnings
    assert f"nobody has {left} (mtty-1 on mtty_mtty) any more" in warning
    assert "virsh nodedev-destroy" in warning


def test_its_mdev_of_another_type_fills_the_card():
    """The refusal says that nobody else has it, and what removes it."""
    scene = scenes.Scene(
        ["nvidia-1"],
        source_parents=[_nvidia(1)],
        destination_parents=[_nvidia(1)],
    )
    scene.there.add_mdev(OLD, "nvidia-2")
    _leave(scene, OLD)

    outcome = scene.migrate()

    assert isinstance(outcome.error, exception.TooFewMdevs)
    assert f"{OLD} (nvidia-2 on " in str(outcome.error)
    assert "of the guest's own old definition" in str(outcome.error)
    assert "virsh nodedev-destroy" in outcome.error.hint
    assert list(scene.there.mdevs()) == [OLD]


def test_both_serve():
    """Each is reused."""
    scene = scenes.Scene(["mtty-1"] * 2)
    for uuid in (OLD, OLDER):
        scene.there.add_mdev(uuid, "mtty-1")
    _leave(scene, OLD, OLDER)

    assert _targets(scene.migrate()) == [OLD, OLDER]


def test_defined_and_not_active():
    """It is started for its guest."""
    scene = scenes.Scene(["mtty-1"])
    scene.there.add_mdev(OLD, "mtty-1", persistent=True, active=False)
    _leave(scene, OLD)

    assert _targets(scene.migrate()) == [OLD]


def test_its_mdev_is_gone():
    """Another is found, as for any guest."""
    scene = scenes.Scene(["mtty-1"])
    _leave(scene, OLD)

    (target,) = _targets(scene.migrate())

    assert target != OLD


def test_another_guest_has_it_too():
    """What two hold is not given to one of them."""
    scene = scenes.Scene(["mtty-1"])
    scene.there.add_mdev(OLD, "mtty-1")
    scene.there.add_guest("other", builders.instance(9), [OLD])
    _leave(scene, OLD)

    (target,) = _targets(scene.migrate())

    assert target != OLD


def test_another_instance_has_the_name():
    """That is a stranger, whose mdev is its own."""
    scene = scenes.Scene(["mtty-1"])
    scene.there.add_mdev(OLD, "mtty-1")
    scene.there.add_guest("vm", builders.instance(9), [OLD], running=False)
    scene.before = scene.snapshot()

    outcome = scene.migrate()

    assert isinstance(outcome.error, exception.GuestOnDestination)
    assert scene.broken_promises(outcome) == []


def test_definition_of_another_name():
    """libvirt takes no guest whose UUID has another name there."""
    scene = scenes.Scene(["mtty-1"])
    scene.there.add_mdev(OLD, "mtty-1")
    _leave(scene, OLD, name="renamed")

    outcome = scene.migrate()

    assert isinstance(outcome.error, exception.GuestOnDestination)


def test_active_copy():
    """A guest that runs on both hosts is never replaced."""
    scene = scenes.Scene(["mtty-1"])
    scene.there.add_mdev(OLD, "mtty-1")
    scene.there.add_guest("vm", builders.INSTANCE, [OLD])

    outcome = scene.migrate()

    assert isinstance(outcome.error, exception.GuestOnDestination)
    assert scene.there.used_mdevs() == {OLD: "vm"}


@pytest.mark.parametrize(
    "phase", [("prepare", 0), ("copy", 1), ("copy", 3), ("load", 0)]
)
def test_failed_migration_leaves_it(phase):
    """The definition keeps its mdev, and that is usable."""
    scene = scenes.Scene(["mtty-1"])
    scene.there.add_mdev(OLD, "mtty-1")
    _leave(scene, OLD)

    def fail(step: testing.Step) -> None:
        if (step.phase, step.number) == phase:
            raise testing.libvirt_error(
                libvirt.VIR_ERR_OPERATION_FAILED, "no luck"
            )

    scene.group.pace = fail

    outcome = scene.migrate()

    assert outcome.result == "failed"
    assert scene.broken_promises(outcome) == []
    scene.group.pace = lambda _: None
    assert _targets(scene.migrate()) == [OLD]
