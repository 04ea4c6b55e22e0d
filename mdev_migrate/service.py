# SPDX-License-Identifier: Apache-2.0
"""One host's part in a migration: read, decide by the rules, act.

A destination's :class:`MdevMigration` owns the claims on its mdevs. The
same object serves the stand-alone workflow and Nova's hooks.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from mdev_migrate import exception, model
from mdev_migrate.core import allocation, claims, phases
from mdev_migrate.host import MdevHost
from mdev_migrate.limits import Limits

__all__ = ["Limits", "MdevMigration"]


def _mint() -> str:
    return str(uuid.uuid4())


H = TypeVar("H", bound=MdevHost)
#: Something to be done with an mdev.
_Task = tuple[Callable[[model.Mdev], object], model.Mdev]


class MdevMigration(Generic[H]):
    """What one host does for the migrations that leave or reach it.

    :param host: reads and changes the host.
    :param claim_table: the claims on this host's mdevs.
    :param mint: returns a UUID for a new mdev.
    """

    def __init__(
        self,
        host: H,
        claim_table: claims.ClaimTable | None = None,
        *,
        limits: Limits | None = None,
        mint: Callable[[], str] = _mint,
    ) -> None:
        self.host = host
        self.claims = claim_table or claims.ClaimTable()
        self.limits = limits or Limits()
        self._mint = mint

    def plan(
        self,
        inventory: model.Inventory,
        wanted: Sequence[model.WantedMdev],
        instance_uuid: str | None = None,
    ) -> allocation.AllocationPlan:
        """Plan the target mdevs on this host; claim and change nothing.

        :param instance_uuid: whose older claim is going to be replaced.
        :raises PreCheckError: as :func:`core.allocation.allocate` does.
        """
        return allocation.allocate(
            inventory,
            wanted,
            held=self.claims.held(instance_uuid),
            mint=self._mint,
        )

    def provide(
        self,
        instance_uuid: str,
        wanted: Sequence[model.WantedMdev],
        *,
        note: claims.Note | None = None,
        may_replace: Callable[[claims.Claim], None] = claims.refuse_unfinished,
        entering: Callable[[phases.Step], None] = lambda _: None,
    ) -> allocation.AllocationPlan:
        """Claim target mdevs on this host and create those that are new.

        A parent that refuses to create mdevs is planned around. If none
        is left, all that was created is removed and the claim released.

        :param entering: is told each step before it is tried.
        :raises PreCheckError: if the host cannot provide the mdevs.
        :raises MdevCreationFailed: if libvirt could not create one.
        """
        note = note or claims.Note(token=_mint())
        avoid: set[allocation.Avoided] = set()
        failure: exception.MdevCreationFailed | None = None
        while True:
            entering(phases.Step.CLAIM)
            try:
                plan = self._claim(
                    instance_uuid, wanted, avoid, note, may_replace
                )
            except exception.TooFewMdevs:
                if failure is None:
                    raise
                entering(phases.Step.CREATE)
                raise failure from None
            failure = self._create(instance_uuid, plan, note, entering)
            if failure is None:
                return plan
            avoid.add(allocation.refused_together(plan, failure.uuid))

    def _create(
        self,
        instance_uuid: str,
        plan: allocation.AllocationPlan,
        note: claims.Note,
        entering: Callable[[phases.Step], None],
    ) -> exception.MdevCreationFailed | None:
        """Create the new mdevs of a claimed plan, or undo it.

        :returns: why one could not be created, if all was undone.
        """
        try:
            entering(phases.Step.CREATE)
            self.advance(instance_uuid, phases.Step.CREATE, note)
            for mdev in plan.create:
                self.host.create_mdev(mdev)
            self.await_targets(frozenset(mdev.uuid for mdev in plan.mdevs))
        except BaseException as error:
            problems = self.roll_back(
                instance_uuid,
                phases.Step.CREATE,
                plan,
                note=note,
                unanswered=isinstance(
                    error,
                    (exception.HostUnreachable, exception.TargetMdevGone),
                ),
            )
            if problems or not isinstance(error, exception.MdevCreationFailed):
                raise
            return error
        return None

    def advance(
        self,
        instance_uuid: str,
        step: phases.Step,
        note: claims.Note | None = None,
    ) -> None:
        """Note in a claim how far its migration has come.

        :raises ClaimLost: if it is not there any more.
        """
        if not self.claims.advance(instance_uuid, step, note):
            name = self.host.inventory().host
            raise exception.ClaimLost(instance_uuid, name)

    def _claim(
        self,
        instance_uuid: str,
        wanted: Sequence[model.WantedMdev],
        avoid: set[allocation.Avoided],
        note: claims.Note | None,
        may_replace: Callable[[claims.Claim], None],
    ) -> allocation.AllocationPlan:
        """Claim, then look again at what was claimed.

        The inventory is older than the claim. A migration that ended in
        between gave up its claim and left its mdevs to its guest: only a
        look after the claim sees that.
        """
        for _ in range(self.limits.tries):
            inventory = self.host.inventory()

            def choose(
                held: tuple[model.Mdev, ...],
                inventory: model.Inventory = inventory,
            ) -> allocation.AllocationPlan:
                return allocation.allocate(
                    inventory, wanted, held=held, avoid=avoid, mint=self._mint
                )

            try:
                with self.claims.claim(
                    instance_uuid, choose, note, may_replace
                ) as plan:
                    self._look_again(plan)
            except exception.TargetMdevGone:
                continue
            return plan
        raise exception.TargetMdevsRaced(inventory.host, self.limits.tries)

    def _look_again(self, plan: allocation.AllocationPlan) -> None:
        if not plan.reuse:
            return
        inventory = self.host.inventory()
        available = {
            mdev.uuid for mdev in allocation.available_mdevs(inventory, ())
        }
        gone = {mdev.uuid for mdev in plan.reuse} - available
        if gone:
            raise exception.TargetMdevGone(inventory.host, frozenset(gone))

    def await_targets(self, uuids: frozenset[str]) -> None:
        """Wait until mdevs are listed as active; udev may lag behind.

        :raises TargetMdevGone: if one is not within ``limits.listed_s``.
        """
        deadline = time.monotonic() + self.limits.listed_s
        while uuids:
            inventory = self.host.inventory()
            missing = {
                uuid
                for uuid in uuids
                if allocation.the_mdev(inventory, uuid) is None
            }
            if not missing:
                return
            if time.monotonic() >= deadline:
                raise exception.TargetMdevGone(
                    inventory.host, frozenset(missing)
                )
            time.sleep(self.limits.poll_s)

    def roll_back(  # noqa: PLR0913 - how, by name
        self,
        instance_uuid: str,
        step: phases.Step,
        plan: allocation.AllocationPlan,
        *,
        note: claims.Note | None = None,
        unanswered: bool = False,
        patient: bool = True,
    ) -> tuple[exception.MdevMigrateError, ...]:
        """Undo a migration that failed in a step; its guest stayed away.

        Created mdevs are removed, touched ones recycled, and the claim is
        released. What is busy or out of reach is tried again for
        ``limits.busy_s``, what is denied is not; if it stays so, the claim
        is kept, so that nobody is given an mdev that cannot be used. What
        another guest or claim holds by now, the own claim having been lost,
        is left to it.

        :param note: release no other claim than the one so noted.
        :param unanswered: the host may still be creating an mdev, for
            somebody who does not wait for it any more, or not list it yet.
        :param patient: if not, try once and wait for nothing.
        :returns: what could not be undone: empty if all was.
        """
        undo = phases.undo(step, plan)
        deadline = time.monotonic() + (self.limits.busy_s if patient else 0)
        if unanswered:
            self._await_unanswered(undo.destroy, deadline)
        left = [(self.host.remove_mdev, mdev) for mdev in undo.destroy]
        again = [(self.host.recycle_mdev, mdev) for mdev in undo.recycle]
        problems = self._try_all(instance_uuid, [*left, *again], deadline)
        if problems:
            return problems
        try:
            self.claims.release(instance_uuid, note)
        except exception.LedgerError as error:
            return (error,)
        return ()

    def _await_unanswered(
        self, mdevs: Sequence[model.Mdev], deadline: float
    ) -> None:
        """Give mdevs that are being created the time to appear."""
        uuids = frozenset(mdev.uuid for mdev in mdevs)
        while time.monotonic() < deadline:
            try:
                self.await_targets(uuids)
            except exception.HostUnreachable:
                self._reconnect()
                continue
            except exception.MdevMigrateError:
                pass
            return

    def _try_all(
        self, instance_uuid: str, tasks: Sequence[_Task], deadline: float
    ) -> tuple[exception.MdevMigrateError, ...]:
        """Try tasks again and again until all are done or time is up."""
        problems: list[exception.MdevMigrateError] = []
        while tasks:
            tasks, problems = self._try(instance_uuid, tasks)
            if not tasks or time.monotonic() >= deadline:
                break
            if all_denied(problems):
                # What is not allowed now is not in a minute.
                break
            if any(isinstance(p, exception.HostUnreachable) for p in problems):
                self._reconnect()
            time.sleep(self.limits.poll_s)
        return tuple(problems)

    def _try(
        self, instance_uuid: str, tasks: Sequence[_Task]
    ) -> tuple[Sequence[_Task], list[exception.MdevMigrateError]]:
        """Try tasks once; return those that failed, and why."""
        try:
            assigned = self.host.inventory().assigned()
            claimed = self._claimed_by_others(instance_uuid)
        except exception.MdevMigrateError as error:
            return tasks, [error]
        failed = []
        problems: list[exception.MdevMigrateError] = []
        for act, mdev in tasks:
            holder = assigned.get(mdev.uuid)
            if mdev.uuid in claimed or _is_another(holder, instance_uuid):
                continue
            try:
                act(mdev)
            except exception.MdevMigrateError as error:
                problems.append(error)
                failed.append((act, mdev))
        return failed, problems

    def _claimed_by_others(self, instance_uuid: str) -> frozenset[str]:
        """Return the UUIDs of mdevs that other instances have claimed.

        Nothing if it cannot be told: that somebody's migration fails for
        want of a target is better than mdevs that nobody removes.
        """
        try:
            held = self.claims.held(instance_uuid)
        except exception.LedgerError:
            return frozenset()
        return frozenset(mdev.uuid for mdev in held)

    def _reconnect(self) -> None:
        try:
            self.host.reconnect()
        except exception.UNASKABLE:
            time.sleep(self.limits.poll_s)


def all_denied(problems: Sequence[exception.MdevMigrateError]) -> bool:
    """Tell whether access control alone is in the way."""
    return all(isinstance(p, exception.AccessDenied) for p in problems)


def _is_another(holder: model.Guest | None, instance_uuid: str) -> bool:
    """Tell whether an mdev is a guest's, not a failed migration's rest.

    The instance itself, active, is its incoming half that is about to be
    killed. Shut off, it is a guest that has arrived.
    """
    return holder is not None and (
        holder.instance_uuid != instance_uuid or not holder.active
    )
