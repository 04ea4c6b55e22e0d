# SPDX-License-Identifier: Apache-2.0
"""Is a type of the same id the same profile?"""

from __future__ import annotations

import pytest

from mdev_migrate import exception, testing
from mdev_migrate.testing.parents import OfferedType, SharedParent
from mdev_migrate.workflow import GuestCheck, Options
from tests import builders, scenes

ID = "nvidia-222"


def _card(number: int, called: str) -> testing.Parent:
    """Return a card whose type is called something."""
    return SharedParent(
        f"pci_0000_0{number}_00_0", [OfferedType(ID, called)], units=4
    )


def _scene(*called: str) -> scenes.Scene:
    """Return a destination with cards that call the type so."""
    return scenes.Scene(
        [ID],
        source_parents=[_card(1, "GRID T4-1Q")],
        destination_parents=[
            _card(number, name) for number, name in enumerate(called, 2)
        ],
    )


def test_another_profile_is_refused():
    """Both names are told, and nothing is changed."""
    scene = _scene("GRID T4-2B", "GRID T4-2B")

    outcome = scene.migrate()

    assert isinstance(outcome.error, exception.MdevTypeDiffers)
    assert outcome.result == "refused"
    for word in (ID, "GRID T4-2B", "GRID T4-1Q"):
        assert word in str(outcome.error)
    assert scene.broken_promises(outcome) == []


def test_check_refuses_it_too():
    """``check`` says it as one of the types."""
    scene = _scene("GRID T4-2B")

    report = GuestCheck(
        scene.host(scene.here), scene.destination(), "vm"
    ).check()

    codes = [c.error.code for c in report.checks if c.result == "refused"]
    assert codes == ["mdev-type-differs"]


@pytest.mark.parametrize("reusable", [True, False])
def test_the_equal_one_is_preferred(reusable):
    """A card that calls it otherwise is left, though it has an mdev."""
    scene = _scene("GRID T4-2B", "GRID T4-1Q", "GRID T4-2B")
    if reusable:
        for number in (2, 4):
            scene.there.add_mdev(
                builders.uuid(scenes.SPARE + number),
                ID,
                f"pci_0000_0{number}_00_0",
            )

    outcome = scene.migrate()

    assert scene.missed(outcome) == []
    (target,) = outcome.target_mdevs.values()
    assert scene.there.mdevs()[target].parent == "pci_0000_03_00_0"


def test_another_brand_is_said():
    """It is most likely the same, and a human should know."""
    scene = _scene("NVIDIA T4-1Q")

    outcome = scene.migrate()

    assert outcome.result == "migrated"
    (warning,) = outcome.warnings
    assert "NVIDIA T4-1Q" in warning
    assert "GRID T4-1Q" in warning


@pytest.mark.parametrize(
    ("here", "there", "words"),
    [
        ("GRID T4-1Q", "", "'GRID T4-1Q' on the source and not named on"),
        ("", "GRID T4-1Q", "not named on the source and 'GRID T4-1Q' on"),
    ],
)
def test_one_side_does_not_name_it(here, there, words):
    """It may be another profile, and a human should know."""
    scene = scenes.Scene(
        [ID],
        source_parents=[_card(1, here)],
        destination_parents=[_card(2, there)],
    )

    outcome = scene.migrate()

    assert outcome.result == "migrated"
    assert words in outcome.warnings[0]


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("", ["", ""]),
        ("GRID T4-1Q", ["", "GRID T4-1Q"]),
        ("GRID T4-1Q", ["GRID T4-2B", "grid  t4-1q"]),
    ],
)
def test_nothing_to_be_said(here, there):
    """No side names it, or a parent calls it just so and is taken."""
    scene = scenes.Scene(
        [ID],
        source_parents=[_card(1, here)],
        destination_parents=[
            _card(n, name) for n, name in enumerate(there, 2)
        ],
    )

    assert scene.migrate().warnings == []


def test_no_room_where_the_name_is_equal():
    """Room under another name is told as that: it looks like enough."""
    scene = scenes.Scene(
        [ID, ID, ID, ID, ID],
        source_parents=[
            SharedParent("pci_0000_01_00_0", [OfferedType(ID, "X")], units=5)
        ],
        destination_parents=[_card(2, "Y"), _card(3, "X")],
    )

    outcome = scene.migrate()

    assert isinstance(outcome.error, exception.TooFewMdevs)
    assert "4 on pci_0000_02_00_0 (there 'Y', not 'X')" in str(outcome.error)
    assert "4 on pci_0000_03_00_0" in str(outcome.error)


def test_chosen_in_spite_of_its_name():
    """Who names the target decides, and is told what he did."""
    scene = _scene("T4 new 1Q")

    outcome = scene.migrate(
        options=Options(targets={scene.sources[0]: "pci_0000_02_00_0"})
    )

    assert outcome.result == "migrated"
    assert "T4 new 1Q" in outcome.warnings[0]
