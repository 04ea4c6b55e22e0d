# SPDX-License-Identifier: Apache-2.0
"""Is a guest that starts with its host started with its new one?"""

from __future__ import annotations

import libvirt
import pytest

from mdev_migrate import testing
from tests import scenes


def _flag(host: testing.SimulatedHost, value: int | None = None) -> int:
    guest = host.open().lookupByName("vm")
    if value is not None:
        guest.setAutostart(value)
    return int(guest.autostart())


@pytest.mark.parametrize("mdevs", [["mtty-1"], []])
@pytest.mark.parametrize("starts", [0, 1])
def test_as_on_the_source(mdevs, starts):
    """libvirt does not take that along."""
    scene = scenes.Scene(mdevs)
    _flag(scene.here, starts)

    outcome = scene.migrate()

    assert scene.missed(outcome) == []
    assert _flag(scene.there) == starts


def test_transient_guest():
    """It has no such flag to be asked for."""
    scene = scenes.Scene(["mtty-1"], persistent=False)

    outcome = scene.migrate()

    assert scene.missed(outcome) == []
    assert "autostart" not in {call.name for call in scene.here.calls}


def test_it_cannot_be_set():
    """The guest has moved; what is missing is said."""
    scene = scenes.Scene(["mtty-1"])
    _flag(scene.here, 1)
    error = testing.libvirt_error(libvirt.VIR_ERR_ACCESS_DENIED, "no")
    scene.group.faults.on("setAutostart", testing.fail(error), host="host-b")

    outcome = scene.migrate()

    assert outcome.result == "migrated"
    (warning,) = outcome.warnings
    assert "is not started when" in warning
    assert "virsh autostart" in warning


def test_it_cannot_be_asked():
    """No guest stays for that; that it is not set is said."""
    scene = scenes.Scene(["mtty-1"])
    _flag(scene.here, 1)
    error = testing.libvirt_error(libvirt.VIR_ERR_OPERATION_FAILED, "no link")
    scene.group.faults.on("autostart", testing.fail(error), host="host-a")

    outcome = scene.migrate()

    assert (outcome.result, _flag(scene.there)) == ("migrated", 0)
    (warning,) = outcome.warnings
    assert "whether it was on the source is not known" in warning
    assert "virsh autostart" in warning


def test_failed_migration_changes_nothing():
    """The source keeps the flag."""
    scene = scenes.Scene(["mtty-1"])
    _flag(scene.here, 1)

    def fail(step: testing.Step) -> None:
        if step.phase == "load":
            raise testing.libvirt_error(
                libvirt.VIR_ERR_OPERATION_FAILED, "no luck"
            )

    scene.group.pace = fail

    assert scene.migrate().result == "failed"
    assert _flag(scene.here) == 1
