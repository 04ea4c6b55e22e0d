# SPDX-License-Identifier: Apache-2.0
"""Does each option of a migration's way reach libvirt, or say why not?"""

import pathlib
from typing import Any

import libvirt
import pytest

from tests import builders
from tests.functional.conftest import MDEV_1, MDEV_2, World

_ALWAYS = {"destination_xml", "persistent_xml"}


def _asked(world: World, *args: str) -> tuple[dict[str, Any], int]:
    """Migrate with some options; return what libvirt was asked for."""
    world.add_guest()
    answer = world.run("migrate", "vm", "--to", world.there, *args)
    assert (answer.code, answer.err.count("error:")) == (0, 0)
    request = world.source.requests[-1]
    others = {
        name: value
        for name, value in request.parameters.items()
        if name not in _ALWAYS
    }
    return others, request.flags


@pytest.mark.parametrize(
    ("args", "parameters", "flag"),
    [
        (
            ("--parallel", "4"),
            {"parallel.connections": 4},
            libvirt.VIR_MIGRATE_PARALLEL,
        ),
        (
            ("--tls-destination", "gpu-2"),
            {"tls.destination": "gpu-2"},
            libvirt.VIR_MIGRATE_TLS,
        ),
        (("--tls",), {}, libvirt.VIR_MIGRATE_TLS),
        (
            ("--listen-address", "192.0.2.7"),
            {"listen_address": "192.0.2.7"},
            0,
        ),
        (
            ("--switchover-bandwidth", "1000"),
            {"bandwidth.avail.switchover": 1000 * 2**20},
            0,
        ),
        (("--bandwidth", "100"), {"bandwidth": 100}, 0),
        (
            ("--copy-storage-all",),
            {},
            libvirt.VIR_MIGRATE_NON_SHARED_DISK,
        ),
        (
            ("--copy-storage-inc", "--migrate-disks", "vda,vdb"),
            {"migrate_disks": ["vda", "vdb"]},
            libvirt.VIR_MIGRATE_NON_SHARED_INC,
        ),
        (
            ("--copy-storage-all", "--disks-port", "49999"),
            {"disks_port": 49999},
            libvirt.VIR_MIGRATE_NON_SHARED_DISK,
        ),
        (
            ("--param", "graphics_uri=spice://192.0.2.7"),
            {"graphics_uri": "spice://192.0.2.7"},
            0,
        ),
        (
            ("--param", "compression=mt", "--param", "compression=xbzrle"),
            {"compression": ["mt", "xbzrle"]},
            libvirt.VIR_MIGRATE_COMPRESSED,
        ),
        (
            (
                *("--param", "compression=zstd"),
                *("--param", "compression.zstd.level=3"),
            ),
            {"compression": "zstd", "compression.zstd.level": 3},
            libvirt.VIR_MIGRATE_COMPRESSED,
        ),
    ],
)
def test_reaches_libvirt(
    world: World, args: tuple[str, ...], parameters: dict[str, Any], flag: int
):
    """Parameters and flags are libvirt's, in its units."""
    asked, flags = _asked(world, *args)

    assert asked == parameters
    assert flags & flag == flag
    assert flags & ~flag == (
        libvirt.VIR_MIGRATE_LIVE
        | libvirt.VIR_MIGRATE_PEER2PEER
        | libvirt.VIR_MIGRATE_PERSIST_DEST
        | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    )


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("--postcopy", "QEMU refuses it with a VFIO device"),
        ("--auto-converge", "the downtime limit is raised instead"),
        ("--tunnelled", "no way back"),
    ],
)
@pytest.mark.parametrize("command", ["check", "plan", "migrate"])
def test_closed_ways(world: World, command: str, option: str, why: str):
    """What no guest with mdevs can use is an error that says why."""
    world.add_guest()

    answer = world.run(command, "vm", "--to", world.there, option)

    assert answer.code == 2
    assert f"{option}: there is none: " in answer.err
    assert why in answer.err
    assert world.source.requests == []


@pytest.mark.parametrize(
    ("args", "code", "reason"),
    [
        (("--copy-storage-all", "--copy-storage-inc"), 2, "exclude each"),
        (("--migrate-disks", "vda"), 1, "no copying of storage found"),
        (("--param", "bandwidth=3"), 1, "give --bandwidth needed"),
        (("--param", "bandwidth.postcopy=3"), 1, "no post-copy"),
        (("--param", "nothing"), 2, "is not NAME=VALUE"),
        (("--param", "destination_name=b"), 1, "a guest keeps its name"),
        (("--copy-storage-all", "--migrate-disks", ","), 2, "names no disk"),
        (
            ("--target", f"{MDEV_1}=x", "--target", f"{MDEV_1.upper()}=y"),
            2,
            f"{MDEV_1} has two",
        ),
        (("--xml", "/nonexistent"), 2, "No such file"),
        (("--downtime", "900", "--max-downtime", "800"), 1, "1 to 800"),
    ],
)
def test_what_cannot_be_meant(
    world: World, args: tuple[str, ...], code: int, reason: str
):
    """It is refused before anything is changed."""
    world.add_guest()

    answer = world.run("migrate", "vm", "--to", world.there, *args)

    assert answer.code == code
    assert reason in answer.err
    assert world.source.requests == []


def test_target_for_no_mdev(world: World):
    """A guest without mdevs has none to choose a target for."""
    world.add_guest({})

    answer = world.run(
        *("migrate", "vm", "--to", world.there),
        *("--target", f"{MDEV_1}=mtty_mtty"),
    )

    assert answer.code == 1
    assert "none, as the guest has no mdevs" in answer.err
    assert not world.destination.running_guests()


def test_definition_of_a_transient_guest(world: World, tmp_path: pathlib.Path):
    """It has none, and gets none: that is not passed over."""
    world.add_guest(persistent=False)
    path = tmp_path / "vm.xml"
    path.write_text(world.source.open().lookupByName("vm").XMLDesc(0))

    answer = world.run(
        *("migrate", "vm", "--to", world.there),
        *("--persistent-xml", str(path)),
    )

    assert answer.code == 1
    assert "a transient guest found" in answer.err
    assert not world.destination.running_guests()


def test_parameter_that_libvirt_does_not_know(world: World):
    """libvirt says so, and nothing is left behind."""
    world.add_guest()
    before = world.snapshot()

    answer = world.run(
        "migrate", "vm", "--to", world.there, "--param", "speed=high"
    )

    assert answer.code == 1
    assert "parameter 'speed' not supported" in answer.err
    assert world.snapshot() == before


class TestGivenXml:
    """A document of the user's in place of the guest's own."""

    def _document(self, world: World) -> str:
        return str(world.source.open().lookupByName("vm").XMLDesc(0))

    def test_base(self, world: World, tmp_path: pathlib.Path):
        """It is what the guest becomes, with its target mdevs."""
        world.add_guest()
        path = tmp_path / "vm.xml"
        path.write_text(
            self._document(world).replace(
                "</uuid>", "</uuid><title>moved</title>", 1
            )
        )

        answer = world.run(
            *("migrate", "vm", "--to", world.there, "--json"),
            *("--xml", str(path), "--persistent-xml", str(path)),
        )

        arrived = world.destination.open().lookupByName("vm")
        assert answer.json["result"] == "migrated"
        for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
            document = arrived.XMLDesc(flags)
            assert "<title>moved</title>" in document
            assert MDEV_1 not in document
            for target in answer.json["target_mdevs"].values():
                assert target in document

    @pytest.mark.parametrize(
        ("old", "new", "code"),
        [
            ("<name>vm</name>", "<name>other</name>", "option-invalid"),
            (MDEV_2, MDEV_2[:-1] + "9", "guest-mdevs-changed"),
            ("</domain>", "", "xml-malformed"),
        ],
    )
    def test_not_of_this_guest(
        self,
        world: World,
        tmp_path: pathlib.Path,
        old: str,
        new: str,
        code: str,
    ):
        """Another guest's document, or one with other mdevs, is refused."""
        world.add_guest()
        path = tmp_path / "vm.xml"
        path.write_text(self._document(world).replace(old, new))

        answer = world.run(
            *("check", "vm", "--to", world.there, "--json"),
            *("--persistent-xml", str(path)),
        )

        (refused,) = (
            check
            for check in answer.json["checks"]
            if check["result"] == "refused"
        )
        assert (answer.code, refused["code"]) == (1, code)


class TestTarget:
    """A target that the user chooses."""

    def test_reaches_the_guest(self, world: World):
        """The guest runs on the one that was named."""
        world.add_guest()
        for number in range(3):
            world.destination.add_mdev(builders.uuid(number), "mtty-1")

        answer = world.run(
            *("migrate", "vm", "--to", world.there, "--json"),
            *("--target", f"{MDEV_1}={{{builders.uuid(2).upper()}}}"),
            *("--target", f"{MDEV_2}=mtty_mtty"),
        )

        targets = answer.json["target_mdevs"]
        assert (answer.code, targets[MDEV_1]) == (0, builders.uuid(2))
        assert set(targets.values()) == set(world.destination.used_mdevs())

    @pytest.mark.parametrize(
        ("given", "code", "words"),
        [
            (f"{MDEV_1}=mtty_other", 1, "target-unusable"),
            (f"{MDEV_1}={MDEV_2}", 1, "target-unusable"),
            (f"{builders.uuid(9)}=mtty_mtty", 1, "option-invalid"),
            ("vm=mtty_mtty", 2, "not a UUID"),
        ],
    )
    def test_refused(self, world: World, given: str, code: int, words: str):
        """What cannot be had is said before anything is claimed."""
        world.add_guest()

        answer = world.run(
            "plan", "vm", "--to", world.there, "--target", given
        )

        assert answer.code == code
        assert words in answer.out + answer.err
