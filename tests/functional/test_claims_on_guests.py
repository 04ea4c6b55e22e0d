# SPDX-License-Identifier: Apache-2.0
"""A claim that is well formed and untrue takes nothing from a guest."""

import itertools

import pytest

from mdev_migrate import model
from mdev_migrate.core import claim_life, claim_xml
from tests import builders, crashes

VICTIM = builders.uuid(0xABC)
OWNER = builders.instance(77)


def _claim(instance_uuid, created, step, parent):
    """Return a claim on the victim's mdev that nobody works on."""
    target = model.Target(
        model.Mdev(VICTIM, "mtty-1", parent), created, builders.uuid(0xD00)
    )
    return model.Claim(
        instance_uuid=instance_uuid,
        token=builders.uuid(0xF00),
        targets=(target,),
        owner="somebody",
        guest="victim",
        source="host-a",
        source_uuid="",
        step=step,
    )


@pytest.mark.parametrize("state", ["running", "paused", "off"])
@pytest.mark.parametrize("instance_uuid", [OWNER, builders.INSTANCE])
def test_a_guest_keeps_its_mdev(state, instance_uuid):
    """Whatever the claim says of it, and whatever recovery is told."""
    for created, step, gone in itertools.product(
        (True, False), claim_life.STEPS, (True, False)
    ):
        world = crashes.Crashes(["mtty-1"], ["mtty-1"])
        there = world.scene.there
        there.add_mdev(VICTIM, "mtty-1")
        there.add_guest("victim", OWNER, [VICTIM])
        guest = there.open().lookupByName("victim")
        {"running": int, "paused": guest.suspend, "off": guest.destroy}[
            state
        ]()
        mdev = there.mdevs()[VICTIM]
        forged = _claim(instance_uuid, created, step, mdev.parent)
        world.scene.host(there).claims.define(forged, claim_xml.Form())

        world.group.faults.forget_calls()

        world.recovery(source_gone=gone, abort=gone).run()

        assert VICTIM in there.mdevs()
        if state != "off":
            # Nor was it destroyed and made again, as one may be that waits
            # for its own guest, which is off.
            called = {name for _, name in there.calls}
            assert called.isdisjoint({"destroy", "nodeDeviceCreateXML"})
        assert there.open().lookupByName("victim").isActive() == (
            state != "off"
        )
