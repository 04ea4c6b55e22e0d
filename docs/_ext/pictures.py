# SPDX-License-Identifier: Apache-2.0
"""Directives that draw the house and a migration, from the code.

``.. steps::`` draws the steps of a migration and what undoes each;
``.. floors::`` the floors of the import contract; ``.. modules:: PACKAGE``
lists what each module is for, in the words of its first line.
"""

from __future__ import annotations

import ast
import pathlib
import sys
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from svg import LINE, WIDTH, Box, Drawing
from tables import make_table

from mdev_migrate.core import phases

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP = pathlib.Path(__file__).parents[2]
#: Of the floors: heights, and how many rooms stand side by side.
_ROOM, _BETWEEN, _A_ROW = 30, 14, 3


def _undoing(step: phases.Step) -> str:
    """Return in words what undoes a step that failed."""
    match phases.TARGETS[step]:
        case phases.Targets.CREATED:
            return "destroy what was created"
        case phases.Targets.TOUCHED:
            return "destroy what was created, recycle what was reused"
        case phases.Targets.IN_USE:
            return "nothing: the guest runs on its targets"
        case _:
            return "nothing: no mdev was touched"


def draw_steps() -> Drawing:
    """Draw the steps, and beside each run of them what undoes it."""
    high = 24
    between = 10
    steps = list(phases.TARGETS)
    height = len(steps) * (high + between) + 24
    drawing = Drawing(
        "The steps of a migration, and what undoes each if it fails",
        height,
        "steps",
    )
    drawing.text(4, 14, "step", "faint")
    drawing.text(130, 14, "what undoes it, if the guest stayed", "faint")
    y = 24.0
    for words, run in groupby(steps, _undoing):
        top = y
        for step in run:
            if step is not steps[0]:
                drawing.arrow(54, y - between, y)
            drawing.box(Box(4, y, 100, high), step.value)
            y += high + between
        bottom = y - between
        drawing.line(
            (112, top + 2),
            (120, top + 2),
            (120, bottom - 2),
            (112, bottom - 2),
        )
        lines = words.split(", ")
        base = (top + bottom) / 2 + 4 - (len(lines) - 1) * LINE / 2
        for number, line in enumerate(lines):
            drawing.text(130, base + number * LINE, line)
    return drawing


def _floors() -> list[list[str]]:
    """Return the modules of each floor, from the import contract."""
    text = (TOP / "pyproject.toml").read_text(encoding="utf-8")
    settings: dict[str, Any] = tomllib.loads(text)["tool"]["importlinter"]
    floors = next(
        contract["layers"]
        for contract in settings["contracts"]
        if contract["type"] == "layers"
    )
    return [
        [name.strip(" ()") for name in floor.replace(":", "|").split("|")]
        for floor in floors
    ]


def draw_floors() -> Drawing:
    """Draw the floors, uppermost first, each as a frame around its rooms."""
    floors = [list(_rows_of(floor)) for floor in _floors()]
    rows = sum(map(len, floors))
    drawing = Drawing(
        "The floors of the package: imports go down, never up or sideways",
        rows * _ROOM + len(floors) * (_BETWEEN + 6),
        "floors",
    )
    y = 1.0
    for floor in floors:
        if floor is not floors[0]:
            drawing.arrow(WIDTH / 2, y - _BETWEEN, y)
        high = len(floor) * _ROOM + 6
        drawing.add("rect", "frame", x=1, y=y, width=WIDTH - 2, height=high)
        y += 3
        for names in floor:
            wide = (WIDTH - 8) / len(names)
            for number, name in enumerate(names):
                x = 4 + number * wide
                room = Box(x + 2, y + 3, wide - 4, _ROOM - 6)
                drawing.box(room, _file_of(name))
            y += _ROOM
        y += 3 + _BETWEEN
    return drawing


def _rows_of(names: list[str]) -> Iterator[list[str]]:
    """Yield the rooms of a floor, as many in a row as can be read."""
    rows = -(-len(names) // _A_ROW)
    share = -(-len(names) // rows)
    for first in range(0, len(names), share):
        yield names[first : first + share]


def _file_of(name: str) -> str:
    is_package = (TOP / "mdev_migrate" / name).is_dir()
    return f"{name}/" if is_package else f"{name}.py"


class Picture(SphinxDirective):
    """A drawing that is made from the code."""

    DRAWINGS = {"steps": draw_steps, "floors": draw_floors}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        """Return it."""
        self.env.note_dependency(str(TOP / "pyproject.toml"))
        self.env.note_dependency(str(TOP / "mdev_migrate/core/phases.py"))
        return [self.DRAWINGS[self.name]().node()]


def _first_lines(folder: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Yield each module of a folder and the first line of what it says."""
    for path in sorted(folder.glob("*.py")):
        if path.name not in ("__init__.py", "__main__.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            text = ast.get_docstring(tree) or ""
            yield path.name, text.split("\n\n")[0].replace("\n", " ")


class Modules(SphinxDirective):
    """What each module of one folder is for."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a table: the module, and its first line."""
        folder = TOP / self.arguments[0]
        rows = []
        for name, words in _first_lines(folder):
            self.env.note_dependency(str(folder / name))
            parsed, _ = self.parse_inline(words)
            rows.append(([nodes.literal("", name)], parsed))
        return [make_table(rows, widths=(1, 3), classes=["modules"])]


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    for name in Picture.DRAWINGS:
        app.add_directive(name, Picture)
    app.add_directive("modules", Modules)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
