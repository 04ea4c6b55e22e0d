# SPDX-License-Identifier: Apache-2.0
"""``list``: which mdevs a host has, and who holds each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import click

from mdev_migrate import model
from mdev_migrate.cli import json_output, options, output, table
from mdev_migrate.cli.session import Session


class Row(NamedTuple):
    """An mdev as it is shown.

    :ivar held_by: a guest's name, else a claim; None if it is available.
    """

    uuid: str
    mdev_type: str
    parent: str
    state: Literal["active", "defined"]
    held_by: str | None


@click.command("list")
@options.shared
@click.pass_context
def command(context: click.Context) -> None:
    """Show the mdevs of a host, and who holds each.

    A guest holds its mdevs even while it is shut off.

    What cannot be read, be it an mdev or a guest, is named in a warning;
    exit code 1 then.
    """
    session = Session.of(context)
    empty = as_json(session.settings.source_uri)
    with session.failing(empty), session.source() as host:
        found = host.inventory("mdev", "guest")
    warnings = found.not_read("mdev", "guest")
    held = rows(found)
    session.answer(
        as_json(found.host, held, warnings),
        lambda: show(found.host, held, whole=not warnings),
    )
    session.end_showing(context, warnings)


def rows(inventory: model.Inventory) -> list[Row]:
    """Return a host's mdevs, in the order of its inventory."""
    holders = {
        mdev.uuid: f"claim of {claim.instance_uuid}"
        for claim in inventory.claims.all
        for mdev in claim.mdevs
    }
    holders |= {
        uuid: guest.name for uuid, guest in inventory.assigned().items()
    }
    return [
        Row(
            uuid=mdev.uuid,
            mdev_type=mdev.mdev_type,
            parent=mdev.parent,
            state="active" if mdev.active else "defined",
            held_by=holders.get(mdev.uuid),
        )
        for mdev in inventory.mdevs
    ]


def as_json(
    host: str, rows: Iterable[Row] = (), warnings: Iterable[str] = ()
) -> json_output.Answer:
    """Return a host's mdevs and who holds each.

    :param warnings: why not all of them, or who holds one, are known.
    """
    return {
        "host": host,
        "mdevs": [
            {
                "uuid": row.uuid,
                "type": row.mdev_type,
                "parent": row.parent,
                "state": row.state,
                "held_by": row.held_by,
            }
            for row in rows
        ],
        "warnings": list(warnings),
    }


def show(host: str, rows: Iterable[Row], *, whole: bool) -> None:
    """Show a host's mdevs and who holds each.

    :param whole: all that there is could be read.
    """
    cells = [(*row[:-1], row.held_by or table.NONE) for row in rows]
    titles = ("MDEV", "TYPE", "PARENT", "STATE", "HELD BY")
    if cells:
        table.show(titles, cells)
    elif whole:
        output.line(f"{host} has no mdevs")
