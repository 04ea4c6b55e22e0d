# SPDX-License-Identifier: Apache-2.0
"""Is a guest that has arrived seen, and its claim given up?"""

import libvirt
import pytest

from mdev_migrate import exception, testing
from mdev_migrate.core.phases import Step
from mdev_migrate.limits import Limits
from tests import scenes


class _AtVerify(scenes.Silent):
    """Does something when the guest is about to be verified."""

    def __init__(self, act):
        self._act = act

    def step(self, step, detail):
        if step is Step.VERIFY:
            self._act()


def _break_next_call(scene, effect):
    """Let the next look at a guest on the destination take an effect."""

    def act():
        scene.group.faults.on("lookupByUUIDString", effect, host="host-b")

    return _AtVerify(act)


@pytest.mark.parametrize(
    "effect",
    [
        testing.lose_connection(),
        testing.lose_answer(),
        testing.fail(
            testing.libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "no luck")
        ),
    ],
)
def test_failed_look_at_the_destination_is_repeated(effect):
    """A guest that arrived is not called lost because one answer was."""
    scene = scenes.Scene(["mtty-1"])

    outcome = scene.migrate(observer=_break_next_call(scene, effect))

    assert scene.missed(outcome) == []


def test_destination_gone_after_arrival_leaves_a_warning():
    """The guest has moved, says libvirt; the claim waits for 'recover'."""
    limits = Limits(settle_s=0.01, busy_s=0.01, poll_s=0.001)
    scene = scenes.Scene(["mtty-1"], limits=limits)
    observer = _AtVerify(scene.there.stop_daemon)

    outcome = scene.migrate(observer=observer)

    assert outcome.result == "migrated"
    assert [text[:12] for text in outcome.warnings] == [
        "not verified",
        "the claim is",
    ]
    assert len(scene.claims()) == 1


def test_guest_stopped_after_arrival_gives_its_claim_up():
    """Verifying fails, and yet no claim is left without a migration."""
    scene = scenes.Scene(["mtty-1"])

    def stop():
        scene.there.open().lookupByName("vm").destroy()

    outcome = scene.migrate(observer=_AtVerify(stop))

    assert isinstance(outcome.error, exception.GuestNotOnTargets)
    assert scene.claims() == ()


def test_guest_gone_after_arrival_leaves_nothing_behind():
    """Of a guest without a definition nothing holds what was made for it.

    What was reused is there as before.
    """
    scene = scenes.Scene(["mtty-1", "mtty-1"], ["mtty-1"], persistent=False)
    before = set(scene.there.mdevs())

    def stop():
        scene.there.open().lookupByName("vm").destroy()

    outcome = scene.migrate(observer=_AtVerify(stop))

    assert isinstance(outcome.error, exception.GuestNotOnTargets)
    assert scene.claims() == ()
    assert set(scene.there.mdevs()) == before


def test_guest_redefined_after_arrival():
    """A definition with other mdevs is told, with both lists."""
    scene = scenes.Scene(["mtty-1"])

    def redefine():
        other = testing.guest_document("vm", scenes.builders.INSTANCE, [])
        scene.there.open().defineXML(other)

    outcome = scene.migrate(observer=_AtVerify(redefine))

    assert "it will start next without mdevs" in str(outcome.error)
    assert outcome.error.hint.startswith("leave it running")
    assert scene.claims() == ()
