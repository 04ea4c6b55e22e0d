# SPDX-License-Identifier: Apache-2.0
"""How Nova's own tests ended on its releases: what is kept, and the table.

``releases`` keeps, for the package versions of a release, which of its tests
do not pass on stock, and how many of each suite ended how. The documentation
has a table of that: ``docs/_ext/upstream_table.py``.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import pathlib
from collections import Counter
from collections.abc import Collection
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
KEPT = HERE / "releases"
CONSTRAINTS = TOP / "tests" / "nova" / "constraints"
#: Modules of tests, as far as a release has them.
SUITES = (
    "unit.virt.libvirt.test_driver",
    "unit.virt.libvirt.test_migration",
    "unit.objects.test_migrate_data",
    "unit.compute.test_compute_mgr",
    "functional.libvirt.test_vgpu",
    "functional.libvirt.test_live_migration",
    "functional.libvirt.test_numa_live_migration",
    "functional.libvirt.test_evacuate",
    "functional.compute.test_live_migration",
)
PREFIX = "nova.tests."
#: How each test ended, and what it said, by its id.
Outcomes = dict[str, dict[str, Any]]
#: The ids of the tests of each suite.
Suites = dict[str, list[str]]


def short(test: str) -> str:
    """Return the id of a test without what all begin with."""
    return test.removeprefix(PREFIX)


def status(outcomes: Outcomes, test: str) -> str:
    """Return how a test ended."""
    return str(outcomes[test]["status"])


def made_for(release: str) -> str:
    """Return what stock's outcomes depend on, besides the machine."""
    constraints = (CONSTRAINTS / f"{release}.txt").read_text()
    parts = "\0".join((release, constraints, *SUITES))
    return hashlib.sha256(parts.encode()).hexdigest()


def kept_stock(
    release: str, tests: Collection[str], last: pathlib.Path
) -> Outcomes | None:
    """Return how each test ended on stock, None if that is outdated.

    :param last: where the release's environment keeps how they ended there.
    """
    path = KEPT / f"{release}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    if found.get("made_for") == made_for(release):
        others = found["stock_others"]
        return {
            test: {"status": others.get(short(test), "passed")}
            for test in tests
        }
    found = last_outcomes(release, last)
    if found.keys() >= set(tests):
        return {test: found[test] for test in tests}
    return None


def last_outcomes(release: str, last: pathlib.Path) -> Outcomes:
    """Return what a release's environment keeps, nothing if outdated."""
    found = json.loads(last.read_text()) if last.exists() else {}
    if found.get("made_for") != made_for(release):
        return {}
    outcomes: Outcomes = found["outcomes"]
    return outcomes


def keep_last(release: str, last: pathlib.Path, outcomes: Outcomes) -> None:
    """Keep how tests ended in the release's environment, beside others."""
    merged = {**last_outcomes(release, last), **outcomes}
    found = {"made_for": made_for(release), "outcomes": merged}
    last.write_text(json.dumps(found))


def record(
    release: str, suites: Suites, stock: Outcomes, ours: Outcomes
) -> None:
    """Keep how all tests of a release ended."""
    differing = [
        each for each in ours if status(ours, each) != status(stock, each)
    ]
    found = {
        "made_for": made_for(release),
        "date": datetime.datetime.now(datetime.timezone.utc)
        .date()
        .isoformat(),
        "stock": count(suites, stock),
        "mixin": count(suites, ours),
        "differing": count(suites, {each: ours[each] for each in differing}),
        "stock_others": {
            short(test): status(stock, test)
            for test in stock
            if status(stock, test) != "passed"
        },
    }
    KEPT.mkdir(exist_ok=True)
    text = json.dumps(found, indent=1, sort_keys=True)
    (KEPT / f"{release}.json").write_text(text + "\n")


def count(suites: Suites, outcomes: Outcomes) -> dict[str, dict[str, int]]:
    """Return how many tests of each suite ended how."""
    return {
        suite: dict(
            Counter(status(outcomes, test) for test in ids if test in outcomes)
        )
        for suite, ids in suites.items()
    }


def cell(found: dict[str, int]) -> str:
    """Return in words how many tests ended how."""
    return ", ".join(f"{found[how]} {how}" for how in sorted(found))
