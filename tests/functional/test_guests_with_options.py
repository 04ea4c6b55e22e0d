# SPDX-License-Identifier: Apache-2.0
"""What of guests that have an mdev by an option for QEMU?

libvirt keeps no book of it: only the document names it.
"""

from __future__ import annotations

import libvirt
import pytest

from mdev_migrate import testing
from tests import builders
from tests.functional.conftest import INSTANCE, MDEV_1, TARGET, World

OTHER = "bbbbbbbb-0000-4000-8000-000000000001"


@pytest.mark.parametrize("running", [True, False])
class TestOther:
    """Another guest of the destination has it."""

    def test_is_not_given_away(self, world: World, running):
        """Another mdev is made for the guest that comes."""
        world.add_guest({MDEV_1: "mtty-1"})
        world.destination.add_mdev(TARGET, "mtty-1")
        world.destination.add_guest(
            "other",
            OTHER,
            xml=builders.guest_by_option("other", OTHER, TARGET),
            running=running,
        )

        answer = world.run("migrate", "vm", "--to", world.there, "--json")

        assert answer.code == 0
        assert TARGET not in answer.json["target_mdevs"].values()

    def test_is_shown(self, world: World, running):
        """A list says who holds it."""
        world.source.add_mdev(MDEV_1, "mtty-1")
        world.source.add_guest(
            "other",
            OTHER,
            xml=builders.guest_by_option("other", OTHER, MDEV_1),
            running=running,
        )

        (mdev,) = world.run("list", "--json").json["mdevs"]

        assert mdev["held_by"] == "other"


def _with_file(name: str, uuid: str, *mdevs: str) -> str:
    """Return a guest whose QEMU reads a file of options."""
    document = testing.guest_document(name, uuid, mdevs)
    args = "".join(f"<q:arg value='{w}'/>" for w in ("-readconfig", "/a.cfg"))
    return document.replace(
        "</domain>",
        "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>"
        f"{args}</q:commandline></domain>",
    )


def test_what_a_file_of_options_may_name(world: World):
    """No mdev that exists is given away, and that guest is named for it."""
    world.add_guest({MDEV_1: "mtty-1"})
    world.destination.add_mdev(TARGET, "mtty-1")
    world.destination.add_guest("odd", OTHER, xml=_with_file("odd", OTHER))

    chosen = world.run(
        *("check", "vm", "--to", world.there),
        *("--target", f"{MDEV_1}={TARGET}", "--json"),
    )
    answer = world.run("migrate", "vm", "--to", world.there, "--json")

    (refused,) = (c for c in chosen.json["checks"] if c["result"] == "refused")
    assert "odd: QEMU may be given mdevs in a file" in refused["detail"]
    assert TARGET not in answer.json["target_mdevs"].values()
    assert "odd: QEMU may be given" in answer.json["warnings"][0]


def test_own_file_of_options(world: World):
    """The guest moves; what nobody sees of it is said."""
    world.source.add_mdev(MDEV_1, "mtty-1")
    world.source.add_guest(
        "vm", INSTANCE, xml=_with_file("vm", INSTANCE, MDEV_1)
    )

    answer = world.run("migrate", "vm", "--to", world.there, "--json")

    assert answer.code == 0
    (warning,) = answer.json["warnings"]
    assert "guest vm: QEMU may be given mdevs in a file" in warning


def test_inactive_document_only(world: World):
    """What a running guest starts with next is kept for it."""
    world.add_guest({MDEV_1: "mtty-1"})
    world.destination.add_mdev(TARGET, "mtty-1")
    world.destination.add_guest("other", OTHER)
    world.destination.open().defineXML(
        builders.guest_by_option("other", OTHER, TARGET)
    )

    answer = world.run("migrate", "vm", "--to", world.there, "--json")

    assert answer.code == 0
    assert TARGET not in answer.json["target_mdevs"].values()


@pytest.mark.parametrize("command", ["check", "plan", "migrate"])
@pytest.mark.parametrize("only_inactive", [True, False])
def test_guest_that_leaves(world: World, command, only_inactive):
    """It is refused with a code, and not taken for one without mdevs."""
    world.source.add_mdev(MDEV_1, "mtty-1")
    document = builders.guest_by_option("vm", OTHER, MDEV_1)
    if only_inactive:
        world.source.add_guest("vm", OTHER)
        world.source.open().defineXML(document)
    else:
        world.source.add_guest("vm", OTHER, xml=document)

    answer = world.run(command, "vm", "--to", world.there, "--json")

    found = answer.json
    codes = (
        [found["error"]["code"]]
        if command == "migrate"
        else [
            check["code"]
            for check in found["checks"]
            if check["result"] == "refused"
        ]
    )
    assert (answer.code, codes) == (1, ["guest-mdev-by-options"])


class TestSimulation:
    """QEMU opens what libvirt does not know of."""

    def test_in_use(self, world: World):
        """Two guests cannot have it, and it cannot be destroyed."""
        world.source.add_mdev(MDEV_1, "mtty-1")
        world.source.add_guest(
            "other",
            OTHER,
            xml=builders.guest_by_option("other", OTHER, MDEV_1),
        )

        with pytest.raises(libvirt.libvirtError, match="resource busy"):
            world.source.add_guest("vm", MDEV_1, [MDEV_1])
        (device,) = world.source.open().listAllDevices(
            libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV
        )
        with pytest.raises(libvirt.libvirtError, match="in use"):
            device.destroy()

    def test_not_there(self, world: World):
        """A guest whose option names nothing does not start."""
        with pytest.raises(libvirt.libvirtError, match="No such file"):
            world.source.add_guest(
                "other",
                OTHER,
                xml=builders.guest_by_option("other", OTHER, MDEV_1),
            )
