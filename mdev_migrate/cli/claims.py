# SPDX-License-Identifier: Apache-2.0
"""``claims``: the claims on a host's mdevs, and when their owners beat."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Literal

import click

from mdev_migrate import model
from mdev_migrate.cli import json_output, options, output, table
from mdev_migrate.cli.session import Session


@click.command("claims")
@options.shared
@click.pass_context
def command(context: click.Context) -> None:
    """Show the claims on the mdevs of a host, and who made them.

    An owner that lives raises its claim's beat every few seconds; how long
    ago that was is told by the clocks of its machine and of this one. What
    an owner has left 'recover' settles. A claim of Nova's is settled by
    Nova.

    A domain that is named like a claim and is none is named in a warning;
    exit code 1 then.
    """
    session = Session.of(context)
    empty = as_json(session.settings.source_uri)
    with session.failing(empty), session.source() as host:
        name, found, now = host.facts().name, host.claims.read(), time.time()
    session.answer(
        as_json(name, found, now), lambda: show(name, found.all, now)
    )
    session.end_showing(
        context,
        [f"{each.name} is no claim: {each.reason}" for each in found.strange],
    )


def state(claim: model.Claim) -> Literal["owned", "left", "nova"]:
    """Return who is to end a claim."""
    if claim.migration:
        return "nova"
    return "left" if claim.over else "owned"


def as_json(
    host: str, found: model.Claims | None = None, now: float = 0.0
) -> json_output.Answer:
    """Return the claims on a host's mdevs.

    :param now: seconds since the epoch.
    """
    found = found or model.Claims()
    return {
        "host": host,
        "claims": [
            claim(each) | {"beat_age": round(_age(each, now), 3)}
            for each in found.all
        ],
        "strange": [
            {"name": each.name, "reason": each.reason}
            for each in found.strange
        ],
    }


def claim(found: model.Claim) -> json_output.Answer:
    """Return a claim."""
    return {
        "instance_uuid": found.instance_uuid,
        "guest": found.guest,
        "owner": found.owner,
        "state": state(found),
        "step": found.step.value,
        "source": found.source,
        "migration": found.migration or None,
        "reuse": [
            json_output.mdev(target.mdev)
            for target in found.targets
            if not target.created
        ],
        "create": [
            json_output.mdev(target.mdev)
            for target in found.targets
            if target.created
        ],
    }


def _age(found: model.Claim, now: float) -> float:
    return max(0.0, now - found.beat) if found.beat else 0.0


def show(host: str, found: Iterable[model.Claim], now: float) -> None:
    """Show the claims on a host's mdevs."""
    titles = (
        "INSTANCE",
        "GUEST",
        "FROM",
        "STEP",
        "STATE",
        "BEAT",
        "MDEVS",
        "OWNER",
    )
    rows = [
        (
            each.instance_uuid,
            each.guest or table.NONE,
            each.source or table.NONE,
            each.step.value,
            state(each),
            f"{_span(_age(each, now))} ago" if each.beat else table.NONE,
            ", ".join(map(_mdev, each.targets)),
            each.owner,
        )
        for each in found
    ]
    if rows:
        table.show(titles, rows)
    else:
        output.line(f"nothing is claimed on {host}")


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _mdev(target: model.Target) -> str:
    how = "create" if target.created else "reuse"
    return f"{target.mdev.uuid} ({how})"
