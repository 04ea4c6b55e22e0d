# SPDX-License-Identifier: Apache-2.0
"""By what is a guest found?"""

from __future__ import annotations

import pytest

from mdev_migrate import libvirt_host
from mdev_migrate.workflow import settling
from tests import builders, scenes
from tests.functional.conftest import INSTANCE, MDEV_1, World

SECOND = "bbbbbbbb-0000-4000-8000-000000000002"


def _number(world: World, name: str) -> str:
    return str(world.source.open().lookupByName(name).ID())


@pytest.mark.parametrize(
    "name", ["vm", "two words", " edges ", "1", "007", "-1", "ümläut"]
)
def test_by_name(world: World, name):
    """Whatever it is, and before a number."""
    world.source.add_guest("first", SECOND)
    world.add_guest({MDEV_1: "mtty-1"}, name=name)

    # What looks like an option is told by this that it is none.
    answer = world.run("check", "--to", world.there, "--json", "--", name)

    assert (answer.code, answer.json["guest"]) == (0, name)
    assert answer.json["instance_uuid"] == INSTANCE


@pytest.mark.parametrize("command", ["check", "plan", "migrate"])
def test_by_number(world: World, command):
    """As 'virsh list' shows it in its first column."""
    world.source.add_guest("first", SECOND)
    world.add_guest({MDEV_1: "mtty-1"})

    answer = world.run(
        command, _number(world, "vm"), "--to", world.there, "--json"
    )

    assert (answer.code, answer.json["guest"]) == (0, "vm")


def test_name_that_is_anothers_number(world: World):
    """The one that is named so is meant."""
    world.source.add_guest("first", SECOND)
    world.add_guest({MDEV_1: "mtty-1"}, name=_number(world, "first"))

    found = world._open(world.here).find_guest(_number(world, "first"))

    assert found.instance_uuid == INSTANCE


def test_name_that_is_anothers_uuid(world: World):
    """The one whose UUID it is is meant."""
    world.source.add_guest(INSTANCE, SECOND)
    world.add_guest({MDEV_1: "mtty-1"})

    found = world._open(world.here).find_guest(INSTANCE)

    assert found.name == "vm"


@pytest.mark.parametrize(
    "word",
    [
        INSTANCE.upper(),
        INSTANCE.replace("-", ""),
        f"{{{INSTANCE}}}",
        f" {INSTANCE[:4]}-{INSTANCE[4:]}",
    ],
)
def test_by_uuid_as_people_write_it(world: World, word):
    """With hyphens anywhere, as libvirt takes it, and in braces."""
    world.add_guest({MDEV_1: "mtty-1"})

    answer = world.run("check", word, "--to", world.there, "--json")
    drained = world.run(
        *("drain", "--dry-run", "--to", world.there, "--json"), "--only", word
    )

    assert (answer.code, answer.json["instance_uuid"]) == (0, INSTANCE)
    assert [each["guest"] for each in drained.json["guests"]] == ["vm"]


def test_name_that_looks_like_a_uuid(world: World):
    """Without its hyphens it is a name first, as it is for virsh."""
    bare = INSTANCE.replace("-", "")
    world.source.add_guest("first", INSTANCE)
    world.source.add_guest(bare, SECOND)

    assert world._open(world.here).find_guest(bare).instance_uuid == SECOND


@pytest.mark.parametrize(
    "word", ["99", "2147483648", "99999999999999999999", "-1", "x", "²", "{}"]
)
def test_nobody(world: World, word):
    """The hint says by what a guest is found."""
    world.add_guest()

    answer = world.run("check", "--to", world.there, "--json", "--", word)

    error = answer.json["error"]
    assert (answer.code, error["code"]) == (1, "guest-not-found")
    for way in ("name", "UUID", "number"):
        assert way in error["hint"]


def test_shut_off_guest_has_no_number(world: World):
    """It is found by its name."""
    world.add_guest({MDEV_1: "mtty-1"}, running=False)

    assert _number(world, "vm") == "-1"
    assert world._open(world.here).find_guest("vm").name == "vm"


def test_real_daemon():
    """libvirt's test driver numbers its guest as the others do."""
    host = libvirt_host.LibvirtHost.open("test:///default")

    assert host.find_guest("1").name == "test"


def test_nobody_is_looked_for_by_name():
    """A guest that is named so is not the one that has the UUID."""
    scene = scenes.Scene()
    scene.there.add_guest(builders.INSTANCE, SECOND)

    found = settling.find(scene.host(scene.there), builders.INSTANCE)

    assert found is None
