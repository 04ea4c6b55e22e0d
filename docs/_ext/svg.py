# SPDX-License-Identifier: Apache-2.0
"""Small drawings as inline SVG, whose colours are the page's.

Text is drawn at 12 units to the line. A drawing is 400 units wide, so that it
can be read on a phone; colours come from classes in ``_static/pages.css``, so
that it can be read in the dark.
"""

from __future__ import annotations

from typing import NamedTuple
from xml.etree import ElementTree

from docutils import nodes

WIDTH = 400
LINE = 15


class Box(NamedTuple):
    """A place in a drawing: its upper left corner, and its size."""

    x: float
    y: float
    width: float
    height: float


class Drawing:
    """A drawing that is being made.

    :param title: what it shows, for who cannot see it.
    """

    def __init__(self, title: str, height: float, kind: str) -> None:
        self._svg = ElementTree.Element(
            "svg",
            {
                "viewBox": f"0 0 {WIDTH} {height:g}",
                "class": f"drawing {kind}",
                "role": "img",
                "aria-label": title,
            },
        )
        ElementTree.SubElement(self._svg, "title").text = title

    def add(self, tag: str, kind: str, **places: float | str) -> None:
        """Add one element, of a class that has its colours."""
        given = {
            name.replace("_", "-"): _short(value)
            for name, value in places.items()
        }
        ElementTree.SubElement(self._svg, tag, {"class": kind} | given)

    def text(
        self, x: float, y: float, words: str, kind: str = "", **more: str
    ) -> None:
        """Write one line, by default to the right of a point."""
        given = {name.replace("_", "-"): value for name, value in more.items()}
        place = {"x": _short(x), "y": _short(y), "class": kind}
        ElementTree.SubElement(self._svg, "text", place | given).text = words

    def box(self, box: Box, words: str, kind: str = "box") -> None:
        """Draw a box with a line of text in its middle."""
        self.add("rect", kind, **box._asdict(), rx=4)
        middle = box.x + box.width / 2
        base = box.y + box.height / 2 + 4
        self.text(middle, base, words, kind, text_anchor="middle")

    def line(self, *points: tuple[float, float], kind: str = "line") -> None:
        """Draw a line through some points."""
        path = " ".join(f"{_short(x)},{_short(y)}" for x, y in points)
        self.add("polyline", kind, points=path)

    def arrow(self, x: float, top: float, bottom: float) -> None:
        """Draw an arrow downwards."""
        tip = (x, bottom - 1)
        sides = ((x - 4, bottom - 6), (x + 4, bottom - 6))
        self.line((x, top), tip, sides[0], tip, sides[1])

    def node(self) -> nodes.raw:
        """Return the drawing for a page; other formats leave it out."""
        text = ElementTree.tostring(self._svg, encoding="unicode")
        return nodes.raw("", text, format="html")


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
