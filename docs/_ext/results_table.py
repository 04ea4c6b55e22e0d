# SPDX-License-Identifier: Apache-2.0
"""A directive that shows what was tested, from the results of the tests.

``.. results:: nova`` makes a table of the files in ``docs/results`` that
``tests/results.py`` wrote for that suite, and says so if there are none.
"""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from tables import make_table, plain

RESULTS = pathlib.Path(__file__).parents[1] / "results"
#: In the order of the columns.
TITLES = {
    "nova": "Nova",
    "libvirt": "libvirt",
    "qemu": "QEMU",
    "linux": "Linux",
    "python": "Python",
}


def read(what: str) -> list[dict[str, Any]]:
    """Return the results of a suite, highest versions first."""
    found = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in RESULTS.glob("*.json")
    ]
    return sorted(
        (each for each in found if each["what"] == what),
        key=_versions,
        reverse=True,
    )


def _versions(result: dict[str, Any]) -> list[list[int]]:
    """Return the versions of a result as numbers, so that they sort."""
    return [
        [int(number) for number in re.findall(r"\d+", version)]
        for name in TITLES
        if (version := result["versions"].get(name))
    ]


def _row(result: dict[str, Any], names: list[str]) -> list[str]:
    return [
        *(result["versions"].get(name, "") for name in names),
        result["date"],
        result["commit"],
        str(result["passed"]),
        str(result["failed"]),
        str(result["skipped"]),
    ]


class Results(SphinxDirective):
    """The results of one suite."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a table, a row for each set of versions."""
        results = read(self.arguments[0])
        for path in RESULTS.glob("*.json"):
            self.env.note_dependency(str(path))
        if not results:
            return [nodes.paragraph("", "No result was kept so far.")]
        known = {name for each in results for name in each["versions"]}
        names = [name for name in TITLES if name in known]
        titles = [
            *(TITLES[name] for name in names),
            *("Date", "Commit", "Passed", "Failed", "Skipped"),
        ]
        rows = [plain(_row(each, names)) for each in results]
        return [make_table(rows, plain(titles))]


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("results", Results)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
