# SPDX-License-Identifier: Apache-2.0
"""Directives that write down the life of a claim, from its table.

``.. claim-ends::`` says what becomes of a claim nobody works on any more;
``.. claim-deeds::`` what is then done with each of its target mdevs.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from tables import make_table, plain

from mdev_migrate.core import claim_life
from mdev_migrate.core.claim_life import DEEDS, ENDS, End, Holder, Row


def _guest(row: Row) -> str:
    """Return in words where a guest is, as far as a row depends on it."""
    everywhere = {where for each in ENDS for where in each.found}
    if set(row.found) == everywhere:
        return "anywhere"
    return ", or ".join(
        "not known" if where is None else where.value for where in row.found
    )


class Ends(SphinxDirective):
    """What becomes of a claim."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        self.env.note_dependency(claim_life.__file__)
        rows = [
            plain(
                (
                    "yes" if row.sent else "no",
                    ", or ".join(owner.value for owner in row.owners),
                    _guest(row),
                    row.end.value,
                )
            )
            for row in ENDS
        ]
        titles = ("May be sent", "Its owner", "The guest", "The claim's end")
        return [make_table(rows, plain(titles))]


class Deeds(SphinxDirective):
    """What is done with a target mdev."""

    def run(self) -> list[nodes.Node]:
        """Return the table: a row for each end, a column for each holder."""
        self.env.note_dependency(claim_life.__file__)
        rows = [
            plain(
                (
                    end.value,
                    "created" if created else "reused",
                    *(DEEDS[end, created, holder].value for holder in Holder),
                )
            )
            for end in End
            if end is not End.KEEP
            for created in (True, False)
        ]
        titles = (
            "The claim's end",
            "mdev",
            *(f"has it: {holder.value}" for holder in Holder),
        )
        return [make_table(rows, plain(titles))]


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("claim-ends", Ends)
    app.add_directive("claim-deeds", Deeds)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
