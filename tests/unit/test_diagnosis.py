# SPDX-License-Identifier: Apache-2.0
"""Is a host's trouble named, and told from what only may be one?"""

from dataclasses import replace

from mdev_migrate import model
from mdev_migrate.core import cards, diagnosis
from tests import builders

WELL = diagnosis.Machine(
    mdevctl="/usr/sbin/mdevctl", has_mdev_bus=True, daemon="libvirtd"
)
CARD = cards.Card(
    "pci_0000_3b_00_0",
    "an NVIDIA A40",
    "nvidia",
    functions=16,
    most_functions=16,
)


def _found(machine: diagnosis.Machine, name: str) -> diagnosis.Finding:
    (finding,) = (
        each for each in diagnosis.machine(machine) if each.name == name
    )
    return finding


def test_what_cannot_be_read_is_named():
    """One device of many, by its name, with the reason."""
    bad = model.Unreadable("mdev", "mdev_1", "mdev_1: it has no type")
    inventory = replace(
        builders.inventory([builders.parent(mtty_1=4)]), unreadable=(bad,)
    )

    finding = list(diagnosis.parents(inventory, ()))[-1]

    assert (finding.name, finding.result) == ("readable", "wrong")
    assert "mdev not read: mdev_1" in finding.detail


def test_a_machine_that_is_well():
    """Nothing is asked for."""
    findings = list(diagnosis.machine(WELL))

    assert {each.result for each in findings} == {"well"}


def test_files_of_tls_are_needed_by_some_alone():
    """They are named, and nobody is told that something is wrong."""
    finding = _found(
        replace(WELL, missing={"migration": ("/pki/ca-cert.pem",)}),
        "tls-migration",
    )

    assert finding.result == "unknown"
    assert "/pki/ca-cert.pem" in finding.detail


def test_no_daemon():
    """What a daemon may lock is not known without one."""
    finding = _found(replace(WELL, daemon=""), "lock-limit")

    assert (finding.result, finding.advice != "") == ("unknown", True)


def test_a_small_limit_of_locked_memory():
    """64 KiB, as a shell has it, are too few for a guest with an mdev."""
    finding = _found(replace(WELL, locked_bytes=65536), "lock-limit")

    assert finding.result == "unknown"
    assert "65536 bytes" in finding.detail


def test_a_large_limit_of_locked_memory():
    """What is large enough is said, and nothing advised."""
    finding = _found(replace(WELL, locked_bytes=2**40), "lock-limit")

    assert (finding.result, finding.advice) == ("well", "")


def test_a_card_whose_functions_serve():
    """A card lacks nothing whose virtual functions are the parents."""
    function = cards.Card(
        "pci_0000_3b_00_4", "an NVIDIA A40", "nvidia", is_function=True
    )
    parent = builders.parent(function.name, mtty_1=4)

    assert cards.lacks([CARD, function], [parent]) == ()
    assert len(cards.lacks([CARD, function], [])) == 1


def test_a_device_that_is_no_card():
    """A disk, and a network card, are none that mdevs are cut from."""
    disk = (
        "<device><name>block_sda</name><capability type='storage'/></device>"
    )
    network = (
        "<device><name>pci_0000_01_00_0</name><capability type='pci'>"
        "<class>0x020000</class></capability></device>"
    )

    assert (cards.read(disk), cards.read(network)) == (None, None)
