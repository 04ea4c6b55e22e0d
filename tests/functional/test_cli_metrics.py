# SPDX-License-Identifier: Apache-2.0
"""Does Prometheus learn how migrations ended?"""

import importlib.util
import os
import pathlib

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.functional.conftest import MDEV_1, World


def _samples(path: pathlib.Path) -> dict[tuple[str, str], float]:
    """Return values by name and by what tells them apart."""
    families = text_string_to_metric_families(path.read_text())
    return {
        (
            sample.name,
            sample.labels.get("step") or sample.labels.get("result", ""),
        ): sample.value
        for family in families
        for sample in family.samples
    }


def test_migrated(world: World, tmp_path: pathlib.Path):
    """Result, seconds by step, downtime and bytes, with the guest's types."""
    world.add_guest({MDEV_1: "mtty-1"})
    world.source.required_downtime_ms = 250
    path = tmp_path / "mdev.prom"

    answer = world.run(
        *("migrate", "vm", "--to", world.there),
        *("--metrics-file", str(path)),
    )

    found = _samples(path)
    assert answer.code == 0
    assert found["mdev_migrate_result", "migrated"] == 1
    assert found["mdev_migrate_downtime_seconds", ""] == 0.25
    assert found["mdev_migrate_sent_bytes", ""] == 64 * 2**20
    assert found["mdev_migrate_step_seconds", "migrate"] > 0
    assert 'guest="vm"' in path.read_text()
    assert 'mdev_types="mtty-1"' in path.read_text()


def test_refused(world: World, tmp_path: pathlib.Path):
    """A failure is told with its code."""
    world.add_guest(blockers=["no VFIO migration"])
    path = tmp_path / "mdev.prom"

    world.run(
        *("migrate", "vm", "--to", world.there),
        *("--metrics-file", str(path)),
    )

    assert _samples(path)["mdev_migrate_result", "refused"] == 1
    assert 'code="migration-blocked"' in path.read_text()


def test_drained(world: World, tmp_path: pathlib.Path):
    """All guests of a drain are in one file."""
    world.add_guest()
    path = tmp_path / "mdev.prom"

    world.run("drain", "--to", world.there, "--metrics-file", str(path))

    assert _samples(path)["mdev_migrate_result", "migrated"] == 1


def test_folder_goes_away(world: World, tmp_path: pathlib.Path):
    """That it cannot be written at the end is a warning; the guest moved."""
    world.add_guest()
    folder = tmp_path / "textfiles"
    folder.mkdir()
    world.group.pace = lambda step: (
        folder.rmdir() if step.phase == "load" else None
    )

    answer = world.run(
        *("migrate", "vm", "--to", world.there),
        *("--metrics-file", str(folder / "mdev.prom")),
    )

    assert answer.code == 0
    assert "warning: no metrics: " in answer.err


@pytest.mark.parametrize("kind", ["pipe", "folder", "nowhere", "link"])
def test_nothing_but_a_file_is_replaced(
    world: World, tmp_path: pathlib.Path, kind: str
):
    """A device would be gone for good: refused before a guest moves."""
    world.add_guest()
    path = tmp_path / "mdev.prom"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "nowhere":
            path = tmp_path / "none" / "mdev.prom"
        case "link":
            os.mkfifo(tmp_path / "pipe")
            path.symlink_to(tmp_path / "pipe")
    before = [(each, each.lstat()) for each in tmp_path.iterdir()]

    answer = world.run(
        *("migrate", "vm", "--to", world.there),
        *("--metrics-file", str(path)),
    )

    assert answer.code == 2, answer
    assert world.source.running_guests()
    assert [(each, each.lstat()) for each in tmp_path.iterdir()] == before


def test_link_stays_a_link(world: World, tmp_path: pathlib.Path):
    """What it leads to is replaced."""
    world.add_guest()
    link = tmp_path / "link.prom"
    link.symlink_to(tmp_path / "mdev.prom")

    world.run(
        *("migrate", "vm", "--to", world.there),
        *("--metrics-file", str(link)),
    )

    assert link.is_symlink()
    assert _samples(tmp_path / "mdev.prom")


def test_not_installed(world: World, monkeypatch: pytest.MonkeyPatch):
    """Without the extra it is said before anything is done."""
    world.add_guest()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    answer = world.run(
        *("migrate", "vm", "--to", world.there, "--metrics-file", "m.prom")
    )

    assert answer.code == 2
    assert "mdev-migrate[metrics]" in answer.err
