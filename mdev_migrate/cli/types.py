# SPDX-License-Identifier: Apache-2.0
"""``types``: what a host's parents offer."""

from __future__ import annotations

from collections.abc import Iterable

import click

from mdev_migrate import model
from mdev_migrate.cli import json_output, options, output, table
from mdev_migrate.cli.session import Session


@click.command("types")
@options.shared
@click.pass_context
def command(context: click.Context) -> None:
    """Show parents, mdev types and available instances of a host.

    Available instances are how many more mdevs of a type a parent would
    create if it created no other: the types of a parent share its room.

    A parent or type that cannot be read is named in a warning; exit code 1
    then.
    """
    session = Session.of(context)
    empty = as_json(session.settings.source_uri)
    with session.failing(empty), session.source() as host:
        found = host.inventory("parent")
    warnings = found.not_read("parent", "mdev type")
    session.answer(
        as_json(found.host, found.parents, warnings),
        lambda: show(found.host, found.parents, whole=not warnings),
    )
    session.end_showing(context, warnings)


def as_json(
    host: str,
    parents: Iterable[model.Parent] = (),
    warnings: Iterable[str] = (),
) -> json_output.Answer:
    """Return what a host's parents offer.

    :param warnings: why not all parents are known.
    """
    return {
        "host": host,
        "parents": [
            {"parent": parent.name, "types": [_type(t) for t in parent.types]}
            for parent in parents
        ],
        "warnings": list(warnings),
    }


def _type(offered: model.MdevType) -> json_output.Answer:
    return {
        "type": offered.mdev_type,
        "name": offered.name,
        "device_api": offered.device_api,
        "available_instances": offered.available_instances,
    }


def show(host: str, parents: Iterable[model.Parent], *, whole: bool) -> None:
    """Show what a host's parents offer.

    :param whole: all that there is could be read.
    """
    rows = [
        (
            parent.name,
            offered.mdev_type,
            offered.name or table.NONE,
            offered.device_api,
            str(offered.available_instances),
        )
        for parent in parents
        for offered in parent.types
    ]
    titles = ("PARENT", "TYPE", "NAME", "DEVICE API", "AVAILABLE INSTANCES")
    if rows:
        table.show(titles, rows)
    elif whole:
        output.line(f"{host} has no device that mdevs can be cut from")
