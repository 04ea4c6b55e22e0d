# SPDX-License-Identifier: Apache-2.0
"""What if a host lists something that it cannot describe?

One device or guest that cannot be read hides no other, and is named. What
must not be guessed is refused: the type of a guest's own mdev, and which
mdevs a guest of the destination holds.
"""

from __future__ import annotations

from collections.abc import Callable

import libvirt
import pytest

from mdev_migrate import exception, model, testing
from tests.functional.conftest import INSTANCE, MDEV_1, MDEV_2, TARGET, World

BAD = "99999999-1111-4222-8333-444444444444"
OTHER = "bbbbbbbb-0000-4000-8000-000000000001"


def _undecodable(document: str) -> str:
    return document.encode().replace(b"<", b"\xff<", 3).decode()


def _refused(_document: str) -> str:
    raise testing.libvirt_error(
        libvirt.VIR_ERR_INTERNAL_ERROR, "no attribute in sysfs"
    )


def _without_api(document: str) -> str:
    return document.replace("<deviceAPI>vfio-pci</deviceAPI>", "", 1)


#: How a document may come out of a daemon.
SPOILT: dict[str, Callable[[str], str]] = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda _: "",
    "undecodable": _undecodable,
    "not XML": lambda text: text.replace("<name>", "<name>\x01"),
    "entities": lambda text: f"<!DOCTYPE a [<!ENTITY b 'c'>]>{text}",
    "refused": _refused,
}
WITHOUT: dict[str, Callable[[str], str]] = {
    "uuid": lambda text: text.replace("uuid>", "uid>"),
    "wrong uuid": lambda text: text.replace(BAD, "5"),
    "type": lambda text: text.replace("<type ", "<kind "),
    "parent": lambda text: text.replace("parent>", "papa>"),
}
ANY_MDEV = pytest.mark.parametrize(
    "change", [*SPOILT.values(), *WITHOUT.values()], ids=[*SPOILT, *WITHOUT]
)
ANY = pytest.mark.parametrize("change", SPOILT.values(), ids=SPOILT)


def _device_name(host: testing.SimulatedHost, uuid: str) -> str:
    (name,) = (m.name for m in host.all_mdevs() if m.uuid == uuid)
    return name


class TestShown:
    @ANY_MDEV
    def test_one_mdev(self, world: World, change):
        """The others are listed; the one is named, and the exit code tells."""
        world.add_guest({MDEV_1: "mtty-1"})
        world.source.add_mdev(BAD, "mtty-1")
        name = _device_name(world.source, BAD)
        world.source.spoil(name, change)

        answer = world.run("list", "--json")

        assert answer.code == 1
        assert [mdev["uuid"] for mdev in answer.json["mdevs"]] == [MDEV_1]
        (warning,) = answer.json["warnings"]
        assert name in warning
        assert name in answer.err

    @ANY_MDEV
    def test_types_need_no_mdev(self, world: World, change):
        """What an mdev's document lacks does not concern its parent."""
        world.source.add_mdev(BAD, "mtty-1")
        world.source.spoil(_device_name(world.source, BAD), change)

        answer = world.run("types")

        assert (answer.code, answer.err) == (0, "")
        assert "mtty_mtty  mtty-1" in answer.out

    @ANY
    def test_one_parent(self, world: World, change):
        """The other parents' types are shown."""
        pair = testing.two_hosts(
            [testing.MttyParent(), testing.MttyParent("mtty_bad")]
        )
        world.source, world.group = pair[0], pair[0].group
        world.source.spoil("mtty_bad", change)

        answer = world.run("types", "--json")

        assert answer.code == 1
        (parent,) = answer.json["parents"]
        assert parent["parent"] == "mtty_mtty"
        assert "mtty_bad" in answer.json["warnings"][0]

    def test_one_type(self, world: World):
        """The other types of its parent are shown."""
        world.source.spoil("mtty_mtty", _without_api)

        answer = world.run("types", "--json")

        assert answer.code == 1
        (parent,) = answer.json["parents"]
        assert [kind["type"] for kind in parent["types"]] == ["mtty-2"]
        assert "mtty-1 of mtty_mtty" in answer.json["warnings"][0]

    def test_nothing_else(self, world: World):
        """A host is not said to have none of what it has."""
        world.source.add_mdev(BAD, "mtty-1")
        world.source.spoil(_device_name(world.source, BAD), _refused)
        world.source.spoil("mtty_mtty", _refused)

        for command in ("list", "types"):
            answer = world.run(command)
            assert (answer.code, answer.out) == (1, "")
            assert "not read" in answer.err

    @ANY
    def test_one_guest(self, world: World, change):
        """Who else holds an mdev is shown; the guest is named."""
        world.add_guest({MDEV_1: "mtty-1"})
        world.source.add_guest("odd", OTHER)
        world.source.spoil("odd", change)

        answer = world.run("list", "--json")

        assert answer.code == 1
        assert answer.json["mdevs"][0]["held_by"] == "vm"
        assert "odd" in answer.json["warnings"][0]

    def test_gone_meanwhile(self, world: World):
        """What is not there any more is no trouble at all."""
        world.source.add_mdev(BAD, "mtty-1")
        name = _device_name(world.source, BAD)

        def vanish(_document: str) -> str:
            raise testing.libvirt_error(
                libvirt.VIR_ERR_NO_NODE_DEVICE, f"no node device '{name}'"
            )

        world.source.spoil(name, vanish)

        assert world.run("list").code == 0


class TestNeeded:
    @ANY_MDEV
    def test_by_the_guest(self, world: World, change):
        """A guest whose own mdev cannot be read is refused, naming it."""
        world.add_guest({MDEV_1: "mtty-1", BAD: "mtty-1"})
        name = _device_name(world.source, BAD)
        world.source.spoil(name, change)

        found = world.run("check", "vm", "--to", world.there, "--json").json

        (refused,) = (c for c in found["checks"] if c["result"] == "refused")
        assert refused["code"] == "guest-mdev-unreadable"
        assert name in refused["detail"]

    @ANY
    def test_the_guest_itself(self, world: World, change):
        """Its name is in the error."""
        world.add_guest()
        world.source.spoil("vm", change)

        answer = world.run("check", "vm", "--to", world.there)

        assert answer.code == 1
        assert "vm" in answer.err.splitlines()[0]

    @ANY_MDEV
    def test_by_nobody(self, world: World, change):
        """Elsewhere on the source it does not matter."""
        world.add_guest()
        world.source.add_mdev(BAD, "mtty-1")
        world.source.spoil(_device_name(world.source, BAD), change)

        assert world.run("migrate", "vm", "--to", world.there).code == 0


class TestDestination:
    def _checks(self, world: World) -> dict[str, dict[str, str]]:
        found = world.run("check", "vm", "--to", world.there, "--json").json
        return {check["name"]: check for check in found["checks"]}

    @ANY_MDEV
    def test_mdev_is_not_reused(self, world: World, change):
        """It is left alone, named in a warning, and another is made."""
        world.add_guest({MDEV_1: "mtty-1"})
        world.destination.add_mdev(BAD, "mtty-1")
        name = _device_name(world.destination, BAD)
        world.destination.spoil(name, change)

        checks = self._checks(world)
        answer = world.run("migrate", "vm", "--to", world.there, "--json")

        assert checks["readable-host"]["code"] == "partly-unreadable"
        assert name in checks["readable-host"]["detail"]
        assert answer.code == 0
        assert any(name in text for text in answer.json["warnings"])
        assert BAD not in answer.json["target_mdevs"].values()

    @ANY
    def test_guest_may_hold_any_mdev(self, world: World, change):
        """What a guest holds that cannot be read is given to nobody."""
        world.add_guest({MDEV_1: "mtty-1"})
        for uuid in (TARGET, MDEV_2):
            world.destination.add_mdev(uuid, "mtty-1")
        world.destination.add_guest("odd", OTHER, [TARGET], running=False)
        world.destination.spoil("odd", change)

        answer = world.run("migrate", "vm", "--to", world.there, "--json")

        assert answer.code == 0
        assert {TARGET, MDEV_2}.isdisjoint(
            answer.json["target_mdevs"].values()
        )
        assert any("odd" in text for text in answer.json["warnings"])

    @ANY
    def test_parent(self, world: World, change):
        """A refusal for want of a type names the parent that may have it."""
        world.add_guest()
        world.destination.spoil("mtty_mtty", change)

        checks = self._checks(world)

        assert "mtty_mtty" in checks["readable-host"]["detail"]
        assert checks["mdev-types"]["result"] == "refused"
        assert "mtty_mtty" in checks["mdev-types"]["detail"]
        assert "nodedev-dumpxml" in checks["mdev-types"]["hint"]

    @pytest.mark.parametrize(
        "options", [(), ("--target", f"{MDEV_1}={TARGET}")]
    )
    def test_guest_may_hold_the_last_one(self, world: World, options):
        """A refusal for want of mdevs names the guest that may hold one."""
        pair = testing.two_hosts(None, [testing.MttyParent(ports=1)])
        world.source, world.destination = pair
        world.group = pair[0].group
        world.add_guest({MDEV_1: "mtty-1"})
        world.destination.add_mdev(TARGET, "mtty-1")
        world.destination.add_guest("odd", OTHER)
        world.destination.spoil("odd", _refused)

        answer = world.run("migrate", "vm", "--to", world.there, *options)

        assert answer.code == 1
        assert answer.err.count("odd") == 1
        assert "there may be more: guest not read: odd" in answer.err
        assert "virsh dumpxml" in answer.err

    @pytest.mark.parametrize(
        ("mdev_type", "code"), [("mtty-1", 1), ("mtty-2", 0)]
    )
    def test_type(self, world: World, mdev_type, code):
        """Who needs the type is refused, naming it; nobody else is."""
        world.add_guest({MDEV_1: mdev_type})
        world.destination.spoil("mtty_mtty", _without_api)

        answer = world.run("migrate", "vm", "--to", world.there)

        assert answer.code == code
        assert "mtty-1 of mtty_mtty: <deviceAPI> is missing" in answer.err

    def test_nothing_to_say(self, world: World):
        """Of a host that can be read there is no such check."""
        world.add_guest()

        assert "readable-host" not in self._checks(world)


@pytest.mark.parametrize("act", ["remove_mdev", "recycle_mdev"])
@ANY_MDEV
def test_unreadable_is_not_gone(world: World, act, change):
    """An mdev that is to be removed is not taken for removed."""
    world.destination.add_mdev(BAD, "mtty-1")
    world.destination.spoil(_device_name(world.destination, BAD), change)
    host = world._open(world.there)

    with pytest.raises(exception.DocumentUnreadable, match="mdev_99999999"):
        getattr(host, act)(model.Mdev(BAD, "mtty-1", "mtty_mtty"))

    assert BAD in world.destination.mdevs()


def test_instance_is_where_it_was(world: World):
    """The guest of the refused migration still runs."""
    world.add_guest({BAD: "mtty-1"})
    world.source.spoil(_device_name(world.source, BAD), _refused)

    answer = world.run("migrate", "vm", "--to", world.there)

    assert (answer.code, world.source.running_guests()) == (1, {INSTANCE})
