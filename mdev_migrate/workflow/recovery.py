# SPDX-License-Identifier: Apache-2.0
"""Finish or undo what a process left that ended in the middle.

A claim in the ledger says which step its migration had come to. If the
guest cannot have moved by then, what the step left is undone; otherwise
both hosts are asked where it is first. What cannot be told is left alone.

Whoever settles a claim takes it over first, in one step, and gives it back
if it has to be kept: two recoveries, or a recovery and a new migration,
never work on the same claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from mdev_migrate import exception, model
from mdev_migrate.core import allocation, claims, phases, whereabouts
from mdev_migrate.core.whereabouts import Whereabouts
from mdev_migrate.host import Host
from mdev_migrate.service import MdevMigration
from mdev_migrate.workflow import settling

#: Lends the host that a guest left, and closes it if need be.
Lender = Callable[[], AbstractContextManager[Host]]


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

    @property
    def text(self) -> str:
        """Return what became of it, in one sentence."""
        note = self.claim.note
        return (
            f"{self.action}: what {note.owner} left claimed for guest "
            f"{note.guest or self.claim.instance_uuid}: {self.reason}"
        )


class Heir(Protocol):
    """Tells whose owners still live, and adopts the claims of the others."""

    def lives(self, note: claims.Note) -> bool:
        """Tell whether somebody still works on a claim."""
        ...

    def adopt(self, note: claims.Note) -> claims.Note:
        """Return a claim's note as that of its new owner."""
        ...


class Recovery:
    """Settles the claims of a destination whose owners are gone.

    :param open_source: opens the host at a URI.
    :param owners: see :class:`mdev_migrate.ledger.Owners`.
    :param abort: abort migrations that still go on without their owner;
        otherwise they are waited for, for ``limits.settle_s``.
    :param source_gone: a source that cannot be reached runs nothing any
        more: somebody has seen to it.
    """

    def __init__(
        self,
        destination: MdevMigration[Host],
        open_source: Callable[[str], Host],
        owners: Heir,
        *,
        abort: bool = False,
        source_gone: bool = False,
    ) -> None:
        self._destination = destination
        self._open_source = open_source
        self._owners = owners
        self._abort = abort
        self._source_gone = source_gone

    def abandoned(self) -> list[claims.Claim]:
        """Return the claims whose owners are gone.

        A claim that does not say where its guest comes from was made by a
        program that keeps no owner: only that program can settle it.
        """
        return [
            claim
            for claim in self._destination.claims.all().values()
            if claim.note.source
            and not claim.note.migration
            and not self._owners.lives(claim.note)
        ]

    def run(self, *, dry_run: bool = False) -> list[Recovered]:
        """Settle every abandoned claim.

        :param dry_run: only say what would be done.
        :returns: what became of each.
        :raises LedgerError: if the claims cannot be read.
        """
        return [
            self._foresee(claim) if dry_run else self.settle(claim)
            for claim in self.abandoned()
        ]

    def settle(self, claim: claims.Claim, *, wait: bool = True) -> Recovered:
        """Settle one abandoned claim.

        :param wait: if not, keep one that cannot be settled at once.
        """
        return settle(
            claim,
            self._destination,
            lambda: self._source(claim.note.source),
            self._owners.adopt(claim.note),
            abort=self._abort,
            source_gone=self._source_gone,
            wait=wait,
        )

    @contextmanager
    def _source(self, uri: str) -> Iterator[Host]:
        source = self._open_source(uri)
        try:
            yield source
        finally:
            source.close()

    def _foresee(self, claim: claims.Claim) -> Recovered:
        """Tell what would become of a claim now."""
        case = _Case(claim, self._destination, source_gone=self._source_gone)
        try:
            found = case.find_guest(
                lambda: self._source(claim.note.source), settling.tell
            )
        except exception.MdevMigrateError as error:
            return Recovered(claim, "kept", str(error))
        return case.result(found)


def settle(  # noqa: PLR0913 - how, by name
    claim: claims.Claim,
    destination: MdevMigration[Host],
    source: Lender,
    note: claims.Note,
    *,
    abort: bool = False,
    source_gone: bool = False,
    wait: bool = True,
) -> Recovered:
    """Settle one claim that nobody works on.

    :param note: of whoever settles it now.
    :param abort: and ``source_gone``: as for :class:`Recovery`.
    :param wait: as for :meth:`Recovery.settle`.
    """
    case = _Case(claim, destination, source_gone=source_gone, wait=wait)

    def find_out(here: Host, there: Host, uuid: str) -> Whereabouts:
        if not wait:
            return settling.find_arrived(here, there, uuid)
        return settling.find_out(
            here,
            there,
            uuid,
            destination.limits,
            abort=abort,
            # Whoever had it sent may have been killed a moment ago.
            doubt_s=lambda: destination.limits.stable_s,
        )

    try:
        if not destination.claims.adopt(claim, note):
            return Recovered(claim, "kept", "somebody else settles it")
        try:
            found = case.find_guest(source, find_out)
            case.end(found, note)
            return case.result(found)
        finally:
            # Nobody's again, if it is still there.
            _give_back(destination, claim, note)
    except exception.MdevMigrateError as error:
        return Recovered(claim, "kept", str(error))


def _give_back(
    destination: MdevMigration[Host], claim: claims.Claim, note: claims.Note
) -> None:
    taken = replace(claim, note=note)
    left = replace(claim.note, over=True)
    destination.claims.adopt(taken, left)


class _Case:
    """One claim that is being settled."""

    def __init__(
        self,
        claim: claims.Claim,
        destination: MdevMigration[Host],
        *,
        source_gone: bool,
        wait: bool = True,
    ) -> None:
        self._wait = wait
        self._claim = claim
        self._destination = destination
        self._source_gone = source_gone

    def find_guest(
        self,
        source: Lender,
        ask: Callable[[Host, Host, str], Whereabouts],
    ) -> Whereabouts | None:
        """Return where the guest is; None if it cannot have moved.

        :raises MdevMigrateError: if it cannot be told.
        """
        uuid = self._claim.instance_uuid
        there = self._destination.host
        if not phases.guest_may_have_moved(self._claim.step):
            return None
        try:
            with source() as here:
                return ask(here, there, uuid)
        except (*exception.UNASKABLE, exception.OutcomeUnknown) as error:
            guest = settling.find(there, uuid)
            if whereabouts.has_come(guest):
                return Whereabouts.ARRIVED
            # A host that denies access is not gone.
            denied = isinstance(error, exception.AccessDenied)
            if guest is None and self._source_gone and not denied:
                return Whereabouts.NOWHERE
            raise

    def end(self, found: Whereabouts | None, note: claims.Note) -> None:
        """Finish or undo what the claim says.

        :raises MdevMigrateError: if that could not be done.
        """
        if found is Whereabouts.MOVING:
            return
        claim, destination = self._claim, self._destination
        rest = claim.plan
        if found is not None:
            rest = self._without_kept(arrived=found is Whereabouts.ARRIVED)
        step = claim.step
        if phases.guest_may_have_moved(step):
            step = phases.Step.MIGRATE
        if step is phases.Step.CREATE and not self._wait:
            self._refuse_unlisted()
        problems = destination.roll_back(
            claim.instance_uuid,
            step,
            rest,
            note=note,
            unanswered=step is phases.Step.CREATE,
            patient=self._wait,
        )
        if problems:
            raise problems[0]

    def _refuse_unlisted(self) -> None:
        """Refuse to undo what the host may still be creating.

        :raises TargetMdevGone: if it does not list it all.
        """
        inventory = self._destination.host.inventory()
        listed = {mdev.uuid for mdev in inventory.mdevs if mdev.active}
        wanted = {mdev.uuid for mdev in self._claim.plan.create}
        if wanted - listed:
            raise exception.TargetMdevGone(
                inventory.host, frozenset(wanted - listed)
            )

    def _without_kept(self, *, arrived: bool) -> allocation.AllocationPlan:
        """Return the plan without the mdevs that the guest has for good."""
        uuid, plan = self._claim.instance_uuid, self._claim.plan
        assigned = self._destination.host.inventory().assigned()

        def is_kept(mdev: model.Mdev) -> bool:
            guest = assigned.get(mdev.uuid)
            if guest is None or guest.instance_uuid != uuid:
                return False
            return arrived or not guest.active

        made = [mdev for mdev in plan.create if is_kept(mdev)]
        self._destination.claims.remember(uuid, made)
        return allocation.AllocationPlan(
            tuple(mdev for mdev in plan.reuse if not is_kept(mdev)),
            tuple(mdev for mdev in plan.create if not is_kept(mdev)),
        )

    def result(self, found: Whereabouts | None) -> Recovered:
        """Return what becomes of the claim."""
        claim = self._claim
        if found is None:
            step = claim.step.value
            reason = f"its owner ended in the step '{step}'"
            return Recovered(claim, "undone", reason)
        reason = f"the guest {found.value}"
        if found is Whereabouts.MOVING:
            return Recovered(claim, "kept", reason)
        if found is Whereabouts.ARRIVED:
            return Recovered(claim, "finished", reason)
        return Recovered(claim, "undone", reason)
