# SPDX-License-Identifier: Apache-2.0
"""Finish or undo what a process left that ended in the middle.

A claim in the ledger says which step its migration had come to. If the
guest cannot have moved by then, what the step left is undone; otherwise
both hosts are asked where it is first. What cannot be told is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mdev_migrate import exception, ledger
from mdev_migrate.core import claims, phases
from mdev_migrate.core.whereabouts import Whereabouts
from mdev_migrate.host import Host
from mdev_migrate.service import MdevMigration
from mdev_migrate.workflow import settling


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of a claim.

    :ivar action: ``finished``: the guest has its targets, the claim is
        released; ``undone``: it stayed away, and so is all that was made
        for it; ``kept``: nothing was changed, for the ``reason``.
    :ivar reason: what was found, for people.
    """

    claim: claims.Claim
    action: Literal["finished", "undone", "kept"]
    reason: str


class Recovery:
    """Settles the claims of a destination whose owners are gone.

    :param open_source: opens the host at a URI.
    :param owners: tells whose owners still live, and adopts the others.
    :param abort: abort migrations that still go on without their owner;
        otherwise they are waited for, for ``limits.settle_s``.
    """

    def __init__(
        self,
        destination: MdevMigration[Host],
        open_source: Callable[[str], Host],
        owners: ledger.Owners,
        *,
        abort: bool = False,
    ) -> None:
        self._destination = destination
        self._open_source = open_source
        self._owners = owners
        self._abort = abort

    def abandoned(self) -> list[claims.Claim]:
        """Return the claims whose owners are gone."""
        return [
            claim
            for claim in self._destination.claims.all().values()
            if not self._owners.lives(claim.note)
        ]

    def run(self, *, dry_run: bool = False) -> list[Recovered]:
        """Settle every abandoned claim.

        :param dry_run: only say what would be done.
        :returns: what became of each.
        """
        return [
            self._settle(claim, dry_run=dry_run) for claim in self.abandoned()
        ]

    def _settle(self, claim: claims.Claim, *, dry_run: bool) -> Recovered:
        found: Whereabouts | None = None
        if phases.guest_may_have_moved(claim.step):
            try:
                found = self._find_guest(claim, dry_run=dry_run)
            except exception.MdevMigrateError as error:
                return Recovered(claim, "kept", str(error))
        if found is Whereabouts.MOVING:
            return Recovered(claim, "kept", f"the guest {found.value}")
        if found is Whereabouts.ARRIVED:
            if not dry_run:
                self._destination.claims.release(claim.instance_uuid)
            return Recovered(claim, "finished", f"the guest {found.value}")
        if not dry_run:
            if not self._destination.claims.adopt(
                claim, self._owners.adopt(claim.note)
            ):
                return Recovered(claim, "kept", "somebody else settles it")
            problems = self._destination.roll_back(
                claim.instance_uuid, claim.step, claim.plan
            )
            if problems:
                return Recovered(claim, "kept", str(problems[0]))
        return Recovered(claim, "undone", _why(claim, found))

    def _find_guest(
        self, claim: claims.Claim, *, dry_run: bool
    ) -> Whereabouts:
        source = self._open_source(claim.note.source)
        try:
            if dry_run:
                return settling.tell(
                    source, self._destination.host, claim.instance_uuid
                )
            return settling.find_out(
                source,
                self._destination.host,
                claim.instance_uuid,
                self._destination.limits,
                abort=self._abort,
            )
        finally:
            source.close()


def _why(claim: claims.Claim, found: Whereabouts | None) -> str:
    if found is not None:
        return f"the guest {found.value}"
    return f"its owner ended in the step '{claim.step.value}'"
