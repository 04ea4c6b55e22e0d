# SPDX-License-Identifier: Apache-2.0
"""A directive that shows how Nova's own tests ended, with us and without.

``.. upstream-results::`` makes a table of what ``tests/upstream`` keeps of
each release, and says so if that is nothing.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from tables import make_table, plain

KEPT = pathlib.Path(__file__).parents[2] / "tests" / "upstream" / "releases"
TITLES = ("Nova", "Date", "Tests", "Stock", "With the mixin", "Differing")


def rows(release: str, found: dict[str, Any]) -> list[list[str]]:
    """Return a row for each suite that a release has."""
    return [
        [
            release,
            found["date"],
            suite,
            _cell(stock),
            _cell(found["mixin"][suite]),
            str(sum(found["differing"][suite].values())),
        ]
        for suite, stock in sorted(found["stock"].items())
        if stock
    ]


def _cell(counts: dict[str, int]) -> str:
    return ", ".join(f"{counts[how]} {how}" for how in sorted(counts))


class UpstreamResults(SphinxDirective):
    """How each suite of each release ended."""

    def run(self) -> list[nodes.Node]:
        """Return a table, the newest release first."""
        self.env.note_reread()
        made = []
        for path in sorted(KEPT.glob("*.json"), reverse=True):
            found = json.loads(path.read_text(encoding="utf-8"))
            made += [plain(row) for row in rows(path.stem, found)]
        if not made:
            return [nodes.paragraph("", "No result was kept so far.")]
        return [make_table(made, plain(TITLES))]


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("upstream-results", UpstreamResults)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
