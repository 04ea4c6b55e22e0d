# SPDX-License-Identifier: Apache-2.0
"""Tables for people: ruled on a terminal, plain columns elsewhere."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence

import click

from mdev_migrate.cli import output

#: What stands in a cell that has nothing in it.
NONE = "-"
#: How wide a column of sentences is at least, on a terminal.
_SENTENCE = 30
_GAP = "  "
_COLOURS = {
    "passed": "green",
    "refused": "red",
    "unknown": "yellow",
    "well": "green",
    "wrong": "red",
    "reuse": "cyan",
    "create": "green",
}

Row = Sequence[str]


def show(titles: Row, rows: Sequence[Row], *, sentences: bool = False) -> None:
    """Write a table.

    No cell is ever cut, so that a UUID can be copied: on a terminal that is
    too narrow for the table, each row becomes a block of lines.

    :param sentences: the last column has sentences, which may be wrapped.
    :raises OSError: as :func:`output.write`.
    """
    clean = [[output.one_line(cell) for cell in row] for row in rows]
    widths = [
        max(map(len, column)) for column in zip(titles, *clean, strict=True)
    ]
    if not output.is_terminal():
        _show_plain([titles, *clean], widths)
        return
    room = shutil.get_terminal_size().columns
    room -= sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
    needed = min(widths[-1], _SENTENCE) if sentences else widths[-1]
    if room < needed:
        _show_blocks(titles, clean)
    else:
        widths[-1] = min(widths[-1], room)
        _show_ruled(titles, clean, widths)


def _show_plain(rows: Sequence[Row], widths: Sequence[int]) -> None:
    for row in rows:
        output.write(_GAP.join(map(str.ljust, row, widths)).rstrip())


def _show_blocks(titles: Row, rows: Sequence[Row]) -> None:
    width = max(map(len, titles))
    for row in rows:
        output.write("")
        for title, cell in zip(titles, row, strict=True):
            if title:
                output.write(f"{title:<{width}}  {cell}")
    output.write("")


def _show_ruled(
    titles: Row, rows: Sequence[Row], widths: Sequence[int]
) -> None:
    output.write(
        _GAP.join(
            click.style(title.ljust(width), bold=True)
            for title, width in zip(titles, widths, strict=True)
        )
    )
    output.write("─" * (sum(widths) + len(_GAP) * (len(widths) - 1)))
    for row in rows:
        for line in _wrapped(row, widths[-1]):
            output.write(_GAP.join(map(_coloured, line, widths)).rstrip())
    output.write("")


def _wrapped(row: Row, width: int) -> Iterator[Row]:
    """Yield a row as lines, the last cell wrapped to a width."""
    first, *more = textwrap.wrap(row[-1], width) or [""]
    yield [*row[:-1], first]
    for text in more:
        yield [*[""] * (len(row) - 1), text]


def _coloured(cell: str, width: int) -> str:
    padded = cell.ljust(width)
    if cell not in _COLOURS:
        return padded
    return padded.replace(cell, click.style(cell, fg=_COLOURS[cell]))
