# SPDX-License-Identifier: Apache-2.0
"""How claims, and what became of them, are shown to people and programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Literal, NamedTuple

from mdev_migrate import model
from mdev_migrate.cli import json_output, render, table
from mdev_migrate.core.claims import Claim
from mdev_migrate.workflow import Cleared, Recovered


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


def shown(claim: Claim, now: float, *, alive: bool) -> Shown:
    """Return a claim as it is shown.

    :param now: seconds since the epoch.
    """
    return Shown(claim, alive, max(0.0, now - claim.note.since))


# For programs -----------------------------------------------------------


def claims(
    host: str,
    found: Iterable[Shown] = (),
    made: Mapping[str, str] | None = None,
) -> json_output.Answer:
    """Return the claims on a host's mdevs."""
    return {
        "host": host,
        "claims": [
            _claim(each.claim)
            | {"alive": each.alive, "age": round(each.age_s, 3)}
            for each in found
        ],
        "made": dict(made or {}),
    }


def recovered(
    host: str,
    settled: Iterable[Recovered] = (),
    cleared: Cleared | None = None,
    *,
    dry_run: bool,
) -> json_output.Answer:
    """Return what became of the claims that were left."""
    cleared = cleared or Cleared({})
    return {
        "host": host,
        "dry_run": dry_run,
        "claims": [
            _claim(each.claim) | {"action": each.action, "reason": each.reason}
            for each in settled
        ],
        "removed": dict(cleared.removed),
        "problems": [str(problem) for problem in cleared.problems],
    }


def _claim(claim: Claim) -> json_output.Answer:
    note = claim.note
    return {
        "instance_uuid": claim.instance_uuid,
        "guest": note.guest,
        "owner": note.owner,
        "step": claim.step.value,
        "since": _when(note.since),
        "source": note.source,
        "destination": note.destination,
        "migration": note.migration or None,
        "reuse": [json_output.mdev(mdev) for mdev in claim.plan.reuse],
        "create": [json_output.mdev(mdev) for mdev in claim.plan.create],
    }


def _when(since: float) -> str:
    return datetime.fromtimestamp(since, timezone.utc).isoformat()


# For people -------------------------------------------------------------


def show_claims(host: str, found: Iterable[Shown]) -> None:
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
        table.show(render.console(), titles, rows)
    else:
        render.line(f"nothing is claimed on {host}")


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _mdevs(reuse: Iterable[model.Mdev], create: Iterable[model.Mdev]) -> str:
    words = [f"{mdev.uuid} (reuse)" for mdev in reuse]
    words += [f"{mdev.uuid} (create)" for mdev in create]
    return ", ".join(words) or "-"


def show_recovered(
    host: str,
    settled: Iterable[Recovered],
    cleared: Cleared,
    *,
    dry_run: bool,
) -> None:
    """Show what became of the claims that were left."""
    texts = [each.text for each in settled] + list(describe(cleared))
    for text in texts:
        render.line(f"would be {text}" if dry_run else text)
    if not texts:
        render.line(f"nothing was left on {host}")


def describe(cleared: Cleared) -> Iterator[str]:
    """Yield in words what became of mdevs made for guests that left."""
    for uuid, instance_uuid in cleared.removed.items():
        yield (
            f"removed: mdev {uuid}, made for guest {instance_uuid}, which is "
            "not on this host any more"
        )
    for problem in cleared.problems:
        yield f"kept: {problem}"
