# SPDX-License-Identifier: Apache-2.0
"""What does the cloud write down of its scenarios, and which are short?"""

from __future__ import annotations

import csv
import importlib
import pathlib
from typing import Any

import pytest

TOP = pathlib.Path(__file__).parents[2]
NODE = "tests/cloud/test_journeys.py::test_there_and_back[one]"
STOCK = "tests/cloud/test_stock.py::test_no_luck"


@pytest.fixture
def cloudlab(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what imports a part of tools/cloud."""
    monkeypatch.syspath_prepend(TOP / "tools")
    return lambda name: importlib.import_module(f"cloudlab.{name}")


@pytest.fixture
def work(cloudlab, tmp_path):
    """A work folder in which nothing was tested yet."""
    return cloudlab("layout").WorkFolder(tmp_path)


def rows(text: str) -> list[dict[str, str]]:
    """Return the rows of a table, by column."""
    return list(csv.DictReader(text.splitlines()))


def test_nothing_was_tested(cloudlab, work):
    """There are columns and no rows."""
    results = cloudlab("results")

    text = results.table(results.read(work))

    assert text.startswith("Scenario,Nova with,34.0.0,")
    assert rows(text) == []


def test_the_last_end_counts(cloudlab, work):
    """For each release by itself; stock Nova is told apart."""
    results = cloudlab("results")
    results.note(work, "34.0.0", NODE, "failed", 3.0)
    results.note(work, "34.0.0", NODE, "passed", 51.6)
    results.note(work, "28.3.1", NODE, "skipped", 0.0)
    results.note(work, "34.0.0", STOCK, "passed", 9.0)

    journey, stock = rows(results.table(results.read(work)))

    assert journey["Scenario"] == "journeys: there and back[one]"
    assert journey["Nova with"] == "the mixin"
    assert journey["34.0.0"].startswith("passed (52 s, 20")
    assert journey["28.3.1"] == "not on this release"
    assert journey["29.4.0"] == "not run"
    assert stock["Nova with"] == "nothing"


def test_the_short_ones_exist(cloudlab):
    """What is asked for by name is there under that name."""
    for node in cloudlab("cli")._SHORT:
        file, _, test = node.partition("::")
        text = (TOP / file).read_text()
        assert f"def {test.partition('[')[0] or 'test_'}" in text
