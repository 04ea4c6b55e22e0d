# SPDX-License-Identifier: Apache-2.0
"""What does the benchmark of pairs conclude, and when does it not?"""

from __future__ import annotations

import importlib
import pathlib
from typing import Any

import pytest

TOOLS = pathlib.Path(__file__).parents[2] / "tools"
STEPS = {"check": 0.25, "migrate": 4.0}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark, which is a part of tools/lab."""
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module("labhost.bench")


def pairs(ours_s: float, virsh_s: float) -> dict[str, Any]:
    """Return two pairs that took so long."""
    return {
        "mdev-migrate": [(ours_s, 300, STEPS)] * 2,
        "virsh": [(virsh_s, 200, {})] * 2,
    }


@pytest.mark.parametrize(
    ("ours_s", "word"), [(10.2, "reached"), (10.69, "reached"), (10.8, "miss")]
)
def test_goal(bench, ours_s, word):
    """The goal is 1.02 times the time of virsh, and half a second."""
    found = bench.conclude(pairs(ours_s, 10.0), [0.5, 1.5])

    assert f"goal is {word}" in found["conclusion"]


def test_busy_machine(bench):
    """One pair on a busy machine, and nothing is concluded."""
    found = bench.conclude(pairs(10.0, 10.0), [0.5, 1.6])

    assert found["conclusion"].startswith("no conclusion: the load was 1.6")


def test_nothing_untold(bench):
    """Steps and the rest of the program are the whole time."""
    spreads = bench.conclude(pairs(5.0, 4.0), [0.0, 0.0])["spreads"]

    told = [s for title, s in spreads.items() if title.startswith("step ")]
    rest = spreads["start and end of the program, s"]
    assert sum(median for _, median, _ in [*told, rest]) == pytest.approx(5.0)
