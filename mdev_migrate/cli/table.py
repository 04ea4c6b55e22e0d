# SPDX-License-Identifier: Apache-2.0
"""Tables for people: by rich on a terminal, plain columns elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.style import Style
from rich.table import Table
from rich.text import Text

from mdev_migrate.cli import output

#: How wide a column of sentences is at least, on a terminal.
_SENTENCE = 30
#: What rich puts between two columns.
_COLUMN_GAP = 3
_STYLES = {
    "passed": "green",
    "refused": "bold red",
    "unknown": "yellow",
    "reuse": "cyan",
    "create": "green",
}

Rows = Sequence[Sequence[str]]


def show(
    console: output.Console,
    titles: Sequence[str],
    rows: Rows,
    *,
    sentences: bool = False,
) -> None:
    """Write a table.

    No cell is ever cut, so that a UUID can be copied: on a terminal that is
    too narrow for the table, each row becomes a block of lines.

    :param sentences: the last column has sentences, which may be wrapped.
    """
    clean = [[output.one_line(cell) for cell in row] for row in rows]
    widths = [
        max(map(len, column)) for column in zip(titles, *clean, strict=True)
    ]
    if not console.is_terminal:
        _show_plain(console, [titles, *clean], widths)
        return
    if sentences:
        widths[-1] = min(widths[-1], _SENTENCE)
    if sum(widths) + _COLUMN_GAP * len(widths) <= console.width:
        _show_rich(console, titles, clean)
    else:
        _show_blocks(console, titles, clean)


def _show_plain(
    console: output.Console, rows: Rows, widths: Sequence[int]
) -> None:
    for row in rows:
        line = "  ".join(map(str.ljust, row, widths))
        show_line(console, line.rstrip())


def _show_blocks(
    console: output.Console, titles: Sequence[str], rows: Rows
) -> None:
    width = max(map(len, titles))
    for row in rows:
        show_line(console, "")
        for title, cell in zip(titles, row, strict=True):
            if title:
                show_line(console, f"{title:<{width}}  {cell}")
    show_line(console, "")


def show_line(
    console: output.Console, text: str, style: str | Style = ""
) -> None:
    """Write a line as it is, however long."""
    console.print(Text(text), style=style, soft_wrap=True)


def _show_rich(
    console: output.Console, titles: Sequence[str], rows: Rows
) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles[:-1]:
        table.add_column(title, no_wrap=True)
    table.add_column(titles[-1], overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, _STYLES.get(cell, "")) for cell in row))
    console.print(table)
