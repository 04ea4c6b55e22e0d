# SPDX-License-Identifier: Apache-2.0
"""How often is a host asked in vain to create an mdev?"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from mdev_migrate import exception, testing
from mdev_migrate.testing import errors
from mdev_migrate.testing.parents import OfferedType, SharedParent
from mdev_migrate.workflow import Destination, GuestMigration, Outcome
from tests import builders, scenes

KIND = "nvidia-11"


def _functions(
    bus: str, size: int, kinds: Iterable[str] = (KIND,)
) -> list[testing.Parent]:
    """Return the 16 virtual functions of a card: four a device number."""
    return [
        testing.SriovParent(
            f"pci_0000_{bus}_{n // 8:02d}_{n % 8}", kinds, (bus, size)
        )
        for n in range(4, 20)
    ]


def _scene(
    *cards: list[testing.Parent], kinds: Iterable[str] = (KIND,)
) -> scenes.Scene:
    return scenes.Scene(
        kinds,
        source_parents=[
            SharedParent(
                "pci_0000_01_00_0", [OfferedType(KIND, f"GRID {KIND}")], 4
            )
        ],
        destination_parents=[each for card in cards for each in card],
    )


def _asked(scene: scenes.Scene) -> int:
    """Return how often the destination was to create an mdev."""
    return [(c.host, c.name) for c in scene.group.faults.calls].count(
        (scene.there.name, "nodeDeviceCreateXML")
    )


def _on(scene: scenes.Scene, outcome: Outcome) -> list[str]:
    """Return the buses of the targets."""
    mdevs = scene.there.mdevs()
    return sorted(
        mdevs[uuid].parent[9:11] for uuid in outcome.target_mdevs.values()
    )


def test_another_card_is_asked_next():
    """One of sixteen functions speaks for its card."""
    scene = _scene(
        _functions("02", 0), _functions("03", 0), _functions("04", 1)
    )

    outcome = scene.migrate()

    assert scene.missed(outcome) == []
    assert (_on(scene, outcome), _asked(scene)) == (["04"], 3)


def test_all_cards_refuse():
    """It is told after two functions of each, with the host's reason."""
    scene = _scene(_functions("02", 0), _functions("03", 0))

    outcome = scene.migrate()

    assert isinstance(outcome.error, exception.MdevCreationFailed)
    assert "No space left on device" in str(outcome.error)
    assert _asked(scene) == 4
    assert scene.broken_promises(outcome) == []


def test_guest_that_two_cards_serve_together():
    """What a card could serve it serves; the rest is another one's."""
    scene = _scene(
        _functions("02", 1), _functions("03", 1), kinds=(KIND, KIND)
    )

    outcome = scene.migrate()

    assert scene.missed(outcome) == []
    assert (_on(scene, outcome), _asked(scene)) == (["02", "03"], 4)


def test_function_that_is_broken():
    """Where there is no other card, a second function is asked."""
    scene = _scene(_functions("02", 16))
    scene.group.faults.on(
        "nodeDeviceCreateXML",
        testing.fail(errors.internal("Unable to start mediated device: -5")),
        host=scene.there.name,
    )

    outcome = scene.migrate()

    assert scene.missed(outcome) == []
    assert _asked(scene) == 2


def test_cards_on_one_bus():
    """Two devices of a bus are two cards."""
    full, other = ("full", 0), ("other", 1)
    scene = _scene(
        [
            testing.SriovParent(f"pci_0000_02_00_{n}", [KIND], full)
            for n in range(8)
        ],
        [
            testing.SriovParent(f"pci_0000_02_01_{n}", [KIND], other)
            for n in range(8)
        ],
    )

    outcome = scene.migrate()

    assert scene.missed(outcome) == []
    assert _asked(scene) == 2


def test_card_that_serves_one_type():
    """A whole card that serves another type is known by its own numbers."""
    kinds = {KIND: 4, "nvidia-12": 2}
    scene = scenes.Scene(
        [KIND],
        source_parents=[testing.NvidiaParent("pci_0000_01_00_0", kinds)],
        destination_parents=[
            testing.NvidiaParent(f"pci_0000_0{n}_00_0", kinds)
            for n in range(2, 4)
        ],
    )
    busy = builders.uuid(0xC00)
    scene.there.add_mdev(busy, "nvidia-12", "pci_0000_02_00_0")
    scene.there.add_guest("other", builders.instance(9), [busy])

    outcome = scene.migrate()

    assert outcome.error is None
    assert (_on(scene, outcome), _asked(scene)) == (["03"], 1)


@pytest.mark.parametrize(
    "words",
    [
        "Cannot find 'mdevctl' in path: No such file or directory",
        "Unable to start mediated device: /usr/sbin/mdevctl: not found",
        "cannot execute binary /usr/sbin/mdevctl: Permission denied",
        "internal error: mdevctl: command not found",
    ],
)
def test_mdevctl_is_missing(words):
    """No parent would do: it is told after one creation, by its name."""
    scene = _scene(_functions("02", 16), _functions("03", 16))
    for n in range(40):
        scene.group.faults.on(
            "nodeDeviceCreateXML",
            testing.fail(errors.internal(words)),
            host=scene.there.name,
            nth=n + 1,
        )

    outcome = scene.migrate()

    assert isinstance(outcome.error, exception.MdevctlMissing)
    assert (outcome.error.code, _asked(scene)) == ("mdevctl-missing", 1)
    assert words in str(outcome.error)
    assert "install mdevctl" in outcome.error.hint
    assert scene.broken_promises(outcome) == []


@pytest.mark.parametrize(
    "words",
    [
        "Unable to start mediated device: Error: No such file or directory",
        "Unable to start mediated device: Error: create: Permission denied",
    ],
)
def test_mdevctl_is_there(words):
    """What mdevctl itself says is no reason to look for it."""
    scene = _scene(_functions("02", 16), _functions("03", 16))
    for n in range(40):
        scene.group.faults.on(
            "nodeDeviceCreateXML",
            testing.fail(errors.internal(words)),
            host=scene.there.name,
            nth=n + 1,
        )

    outcome = scene.migrate()

    assert outcome.error.code == "mdev-creation-failed"
    assert _asked(scene) == 4


@pytest.mark.parametrize("step", [1, -1])
def test_what_was_refused_is_what_came_last(step):
    """Mdevs are created as planned, whatever UUIDs are minted for them."""
    both = {KIND: 4, "nvidia-12": 2}
    scene = scenes.Scene(
        [KIND, "nvidia-12"],
        source_parents=[
            testing.NvidiaParent("pci_0000_01_00_0", {KIND: 4}),
            testing.NvidiaParent("pci_0000_01_01_0", {"nvidia-12": 2}),
        ],
        destination_parents=[
            testing.NvidiaParent("pci_0000_02_00_0", both),
            testing.NvidiaParent("pci_0000_03_00_0", {"nvidia-12": 2}),
        ],
    )
    minted = itertools.count(0xF00, step)
    destination = Destination(
        scene.host(scene.there),
        scene.limits,
        mint=lambda: builders.uuid(next(minted)),
    )

    outcome = GuestMigration(scene.host(scene.here), destination, "vm").run()

    assert scene.missed(outcome) == []
    assert _on(scene, outcome) == ["02", "03"]
