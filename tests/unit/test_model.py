# SPDX-License-Identifier: Apache-2.0
"""Do the values keep what they promise?"""

import doctest

import pytest

from mdev_migrate import model
from tests import builders


def test_examples():
    """The examples in the module's docstrings are true."""
    assert doctest.testmod(model).failed == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "aaaaaaaa00004000800000000000000002",
        "{aaaaaaaa-0000-4000-8000-000000000002}",
        "aaaaaaaa-0000-4000-8000-000000000002\n",
        "aaaaaaaa-0000-4000-8000-00000000000g",
        "../../../aaaa-0000-4000-8000-000000000002",
        "aaaaaaaa-0000-4000-8000-00000000000\u0662",
        "aaaaaaaa-0000-4000-8000-00000000000\u212a",
    ],
)
def test_only_hyphenated_uuids(text):
    """What is not a hyphenated UUID passes no border."""
    with pytest.raises(ValueError, match="not a UUID"):
        model.normalise_uuid(text)


def test_upper_case_uuid():
    """A UUID is spelled in lower case from the border on."""
    text = builders.INSTANCE.upper()

    found = model.normalise_uuid(text)

    assert found == builders.INSTANCE


@pytest.mark.parametrize(
    ("number", "version"),
    [(0, "0.0.0"), (8_006_000, "8.6.0"), (10_000_999, "10.0.999")],
)
def test_unpack_a_version(number, version):
    """The integer that libvirt reports is read field by field."""
    assert str(model.Version.unpack(number)) == version


def test_unpack_a_negative_version():
    """A number that libvirt never reports is no version."""
    with pytest.raises(ValueError, match="not a libvirt version: -1"):
        model.Version.unpack(-1)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("6", (6, 0, 0)),
        ("6.12", (6, 12, 0)),
        ("6.12.9+bpo-cloud", (6, 12, 9)),
        ("5.18.0-rc3+", (5, 18, 0)),
        ("5.18-generic.7", (5, 18, 0)),
    ],
)
def test_parse_a_kernel_release(text, version):
    """Missing fields count as 0, and what follows is left out."""
    assert model.Version.parse(text) == version


@pytest.mark.parametrize("text", ["", "v6.1", "-1"])
def test_parse_what_is_no_version(text):
    """A text without a leading number is no version."""
    with pytest.raises(ValueError, match="not a version"):
        model.Version.parse(text)


def test_versions_compare_as_numbers():
    """Version 10 is later than version 9."""
    assert model.Version(10, 0, 0) > model.Version(9, 99, 99)


def test_offer_of_a_type():
    """A parent tells how it offers a type, and None for others."""
    parent = builders.mtty(21)

    offers = [parent.offer("mtty-2"), parent.offer("mtty-3")]

    assert offers == [model.MdevType("mtty-2", "vfio-pci", 10), None]


def test_assigned_by_guests_that_are_shut_off():
    """A defined guest holds its mdevs."""
    off = builders.guest("off", 1, active=False, running=False)
    found = builders.inventory(guests=[off])

    assigned = found.assigned()

    assert assigned == {builders.uuid(1): off}


def test_assigned_names_the_guest_that_runs():
    """Of two guests that name an mdev, the active one is told."""
    on, off = (
        builders.guest("b-on", 1),
        builders.guest("a-off", 1, active=False),
    )
    found = builders.inventory(guests=[on, off])

    assigned = found.assigned()

    assert assigned == {builders.uuid(1): on}


@pytest.mark.parametrize(
    ("processed", "device", "moved"),
    [(None, None, None), (5, None, 5), (None, 7, 7), (5, 7, 12), (0, 0, 0)],
)
def test_bytes_moved(processed, device, moved):
    """What libvirt did not say is left out, and is not 0."""
    progress = model.JobProgress(
        data_processed=processed, device_transferred=device
    )

    assert progress.bytes_moved() == moved
