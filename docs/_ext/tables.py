# SPDX-License-Identifier: Apache-2.0
"""Tables for the directives of this folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from docutils import nodes

#: A row: what is in each of its cells.
Row = Sequence[Sequence[nodes.Node]]


def plain(cells: Iterable[str]) -> Row:
    """Return a row of plain texts."""
    return [[nodes.Text(cell)] for cell in cells]


def make_table(
    rows: Iterable[Row],
    titles: Row = (),
    widths: Sequence[int] = (),
    classes: Sequence[str] = (),
) -> nodes.table:
    """Return a table.

    :param widths: of the columns, in proportion; without, as the text needs.
    """
    rows = list(rows)
    columns = len(titles or rows[0])
    group = nodes.tgroup("", cols=columns)
    group += [
        nodes.colspec(colwidth=width) for width in widths or [1] * columns
    ]
    if titles:
        group += nodes.thead("", _row(titles))
    group += nodes.tbody("", *map(_row, rows))
    return nodes.table("", group, classes=list(classes))


def _row(cells: Row) -> nodes.row:
    return nodes.row(
        "",
        *(nodes.entry("", nodes.paragraph("", "", *cell)) for cell in cells),
    )
