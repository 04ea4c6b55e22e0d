# SPDX-License-Identifier: Apache-2.0
"""``claims``: the claims on a host's mdevs, and whether their owners live."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Literal, NamedTuple

import click

from mdev_migrate import model
from mdev_migrate.cli import json_output, options, output, table
from mdev_migrate.cli.session import Session
from mdev_migrate.core.claims import Claim


class Shown(NamedTuple):
    """A claim as it is shown.

    :ivar age_s: seconds since it was made, by the clocks of its owner and
        of this machine.
    """

    claim: Claim
    alive: bool
    age_s: float

    @property
    def state(self) -> Literal["alive", "ended", "nova"]:
        """Return whether its owner lives."""
        if self.claim.note.migration:
            return "nova"
        return "alive" if self.alive else "ended"


@click.command("claims")
@options.shared
@click.pass_context
def command(context: click.Context) -> None:
    """Show the claims on the mdevs of a host, and who made them.

    An owner that has ended has left its claim behind: 'recover' settles
    it. A claim of Nova's is settled by Nova.
    """
    session = Session.of(context)
    empty = as_json(session.settings.source_uri)
    with (
        session.failing(empty),
        session.place(looking=True) as (place, owners),
    ):
        host = place.host.facts().name
        now = time.time()
        shown = [
            _shown(claim, now, alive=owners.lives(claim.note))
            for claim in place.claims.all().values()
        ]
        made = place.claims.made()
    session.answer(
        as_json(host, shown, made),
        lambda: show(host, shown),
    )


def _shown(claim: Claim, now: float, *, alive: bool) -> Shown:
    """Return a claim as it is shown.

    :param now: seconds since the epoch.
    """
    return Shown(claim, alive, max(0.0, now - claim.note.since))


def as_json(
    host: str,
    found: Iterable[Shown] = (),
    made: Mapping[str, str] | None = None,
) -> json_output.Answer:
    """Return the claims on a host's mdevs."""
    return {
        "host": host,
        "claims": [
            claim(each.claim)
            | {"alive": each.alive, "age": round(each.age_s, 3)}
            for each in found
        ],
        "made": dict(made or {}),
    }


def claim(found: Claim) -> json_output.Answer:
    """Return a claim."""
    note = found.note
    return {
        "instance_uuid": found.instance_uuid,
        "guest": note.guest,
        "owner": note.owner,
        "step": found.step.value,
        "since": _when(note.since),
        "source": note.source,
        "destination": note.destination,
        "migration": note.migration or None,
        "reuse": [json_output.mdev(mdev) for mdev in found.plan.reuse],
        "create": [json_output.mdev(mdev) for mdev in found.plan.create],
    }


def _when(since: float) -> str:
    return datetime.fromtimestamp(since, timezone.utc).isoformat()


def show(host: str, found: Iterable[Shown]) -> None:
    """Show the claims on a host's mdevs."""
    titles = ("INSTANCE", "GUEST", "STEP", "AGE", "STATE", "MDEVS", "OWNER")
    rows = [
        (
            each.claim.instance_uuid,
            each.claim.note.guest or "-",
            each.claim.step.value,
            _span(each.age_s),
            each.state,
            _mdevs(each.claim.plan.reuse, each.claim.plan.create),
            each.claim.note.owner,
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


def _mdevs(reuse: Iterable[model.Mdev], create: Iterable[model.Mdev]) -> str:
    words = [f"{mdev.uuid} (reuse)" for mdev in reuse]
    words += [f"{mdev.uuid} (create)" for mdev in create]
    return ", ".join(words) or "-"
