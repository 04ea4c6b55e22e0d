# SPDX-License-Identifier: Apache-2.0
"""Directives that show how long a guest stands still.

``.. downtime-chart::`` draws it over the size of what is sent last, for links
of several speeds; ``.. downtime-table::`` says the same in numbers.
"""

from __future__ import annotations

import math

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from svg import Drawing
from tables import make_table, plain

from mdev_migrate.core import downtime, estimate

#: Gbit/s, and GiB of state.
LINKS = (1, 10, 25, 100)
SIZES = (0.25, 0.5, 1, 2, 4, 8, 16, 24, 48, 80)

_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 340, 24, 270
_SHORTEST_S, _LONGEST_S = 0.02, 1000


def seconds(gib: float, gbit_s: float) -> float:
    """Return how long it takes to send some GiB, as ``check`` estimates."""
    mib_s = round(gbit_s * 1e9 / 8 / 2**20)
    found = estimate.Estimate(round(gib * 2**30), bandwidth=mib_s)
    return (found.downtime_ms or 0) / 1000


def _x(gib: float) -> float:
    part = math.log(gib / SIZES[0]) / math.log(SIZES[-1] / SIZES[0])
    return _LEFT + part * (_RIGHT - _LEFT)


def _y(span_s: float) -> float:
    part = math.log(span_s / _SHORTEST_S) / math.log(_LONGEST_S / _SHORTEST_S)
    return _BOTTOM - part * (_BOTTOM - _TOP)


def in_words(span_s: float) -> str:
    """Return a time span with its unit, two digits long."""
    if span_s < 0.995:
        return f"{round(span_s * 1000, -1):.0f} ms"
    if span_s < 9.95:
        return f"{span_s:.1f} s"
    if span_s < 99.5:
        return f"{span_s:.0f} s"
    return f"{span_s / 60:.0f} min"


def draw() -> Drawing:
    """Draw downtime over size, both logarithmic, a line for each link."""
    drawing = Drawing(
        "How long a guest stands still: the size of its device state over "
        "the bandwidth of the link",
        312,
        "chart",
    )
    for span_s, words in (
        (0.1, "0.1 s"),
        (1, "1 s"),
        (10, "10 s"),
        (100, "100 s"),
    ):
        drawing.line((_LEFT, _y(span_s)), (_RIGHT, _y(span_s)), kind="grid")
        drawing.text(
            _LEFT - 6, _y(span_s) + 4, words, "faint", text_anchor="end"
        )
    for gib in (0.25, 1, 4, 16, 80):
        drawing.line((_x(gib), _TOP), (_x(gib), _BOTTOM), kind="grid")
        drawing.text(
            _x(gib), _BOTTOM + 16, f"{gib:g}", "faint", text_anchor="middle"
        )
    drawing.text(
        (_LEFT + _RIGHT) / 2,
        _BOTTOM + 34,
        "device state to be sent, GiB",
        "faint",
        text_anchor="middle",
    )
    drawing.text(4, 12, "downtime", "faint")
    _draw_limit(drawing, downtime.BEGIN_MS, "--downtime", (20, 14))
    _draw_limit(drawing, downtime.CEILING_MS, "--max-downtime", (2.2, -5))
    for number, link in enumerate(LINKS):
        ends = [(_x(gib), _y(seconds(gib, link))) for gib in SIZES]
        drawing.line(*ends, kind=f"curve curve{number}")
        drawing.text(
            _RIGHT + 4, ends[-1][1] + 4, f"{link} Gbit/s", f"curve{number}"
        )
    return drawing


def _draw_limit(
    drawing: Drawing, limit_ms: int, option: str, place: tuple[float, float]
) -> None:
    """Draw what an option is worth if nobody says otherwise.

    :param place: where its words are clear of other lines: at which size,
        and how far below.
    """
    y = _y(limit_ms / 1000)
    drawing.line((_LEFT, y), (_RIGHT, y), kind="limit")
    drawing.text(_x(place[0]), y + place[1], option, "limit")


class Chart(SphinxDirective):
    """The chart."""

    def run(self) -> list[nodes.Node]:
        """Return it."""
        return [draw().node()]


class Table(SphinxDirective):
    """The same in numbers."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        titles = ["State", *(f"{link} Gbit/s" for link in LINKS)]
        rows = [
            [f"{gib:g} GiB", *(in_words(seconds(gib, link)) for link in LINKS)]
            for gib in SIZES
        ]
        return [make_table(map(plain, rows), plain(titles))]


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("downtime-chart", Chart)
    app.add_directive("downtime-table", Table)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
