# SPDX-License-Identifier: Apache-2.0
"""One host's part in a migration: read, decide by the rules, act.

A destination's :class:`MdevMigration` owns the claims on its mdevs. The
same object serves the stand-alone workflow and Nova's hooks.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mdev_migrate import exception, model
from mdev_migrate.core import allocation, claims, phases
from mdev_migrate.host import MdevHost


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait for what, in seconds.

    :ivar listed_s: for a created mdev to be listed by the host.
    :ivar busy_s: for a busy mdev to be let go, and for a host that cannot
        be reached to come back, while undoing.
    :ivar settle_s: for a migration to come to an end after an error or an
        abort.
    :ivar poll_s: between two looks.
    :ivar tries: how often to choose again when others were faster.
    """

    listed_s: float = 10.0
    busy_s: float = 60.0
    settle_s: float = 60.0
    poll_s: float = 0.25
    tries: int = 5


def _mint() -> str:
    return str(uuid.uuid4())


H = TypeVar("H", bound=MdevHost)


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
    ) -> allocation.AllocationPlan:
        """Plan the target mdevs on this host; claim and change nothing.

        :raises PreCheckError: as :func:`core.allocation.allocate` does.
        """
        return allocation.allocate(
            inventory, wanted, held=self.claims.held(), mint=self._mint
        )

    def provide(
        self,
        instance_uuid: str,
        wanted: Sequence[model.WantedMdev],
        *,
        note: claims.Note | None = None,
        may_replace: Callable[[claims.Claim], None] = claims.refuse_begun,
        entering: Callable[[phases.Step], None] = lambda _: None,
    ) -> allocation.AllocationPlan:
        """Claim target mdevs on this host and create those that are new.

        A parent that refuses to create mdevs is planned around. If none
        is left, all that was created is removed and the claim released.

        :param entering: is told each step before it is tried.
        :raises PreCheckError: if the host cannot provide the mdevs.
        :raises MdevCreationFailed: if libvirt could not create one.
        """
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
            entering(phases.Step.CREATE)
            self.claims.advance(instance_uuid, phases.Step.CREATE)
            asked: set[str] = set()
            try:
                self._create(plan, asked)
            except exception.MdevCreationFailed as error:
                asked.discard(error.uuid)
                if self.roll_back(
                    instance_uuid, phases.Step.CREATE, plan, asked
                ):
                    raise
                failure = error
                avoid.add(allocation.refused_together(plan, error.uuid))
            except BaseException:
                self.roll_back(instance_uuid, phases.Step.CREATE, plan, asked)
                raise
            else:
                return plan

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

    def _create(
        self, plan: allocation.AllocationPlan, asked: set[str]
    ) -> None:
        """Create what the plan says.

        :param asked: gets the UUIDs of the mdevs that the host was asked
            for: they may exist even if no answer came.
        """
        for mdev in plan.create:
            asked.add(mdev.uuid)
            self.host.create_mdev(mdev)
        self.await_targets(frozenset(mdev.uuid for mdev in plan.mdevs))

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

    def roll_back(
        self,
        instance_uuid: str,
        step: phases.Step,
        plan: allocation.AllocationPlan,
        asked: Collection[str] = (),
    ) -> tuple[exception.MdevMigrateError, ...]:
        """Undo a migration that failed in a step; its guest stayed away.

        Created mdevs are removed, touched ones recycled, and the claim is
        released. What is busy or out of reach is tried again for
        ``limits.busy_s``; if it stays so, the claim is kept, so that nobody
        is given an mdev that cannot be used.

        :param asked: mdevs that the host was asked for a moment ago; one of
            them that is not listed is waited for, for ``limits.listed_s``.
        :returns: what could not be undone: empty if all was.
        """
        undo = phases.undo(step, plan)
        deadline = time.monotonic() + self.limits.busy_s
        late = time.monotonic() + self.limits.listed_s

        def remove(mdev: model.Mdev) -> None:
            listed = self.host.remove_mdev(mdev)
            if not listed and mdev.uuid in asked and time.monotonic() < late:
                raise exception.MdevNotListed(mdev.uuid)

        left = [(remove, mdev) for mdev in undo.destroy]
        again = [(self.host.recycle_mdev, mdev) for mdev in undo.recycle]
        problems = self._try_all([*left, *again], deadline)
        if not problems:
            self.claims.release(instance_uuid)
        return problems

    def _try_all(
        self,
        tasks: Sequence[tuple[Callable[[model.Mdev], None], model.Mdev]],
        deadline: float,
    ) -> tuple[exception.MdevMigrateError, ...]:
        """Try tasks again and again until all are done or time is up."""
        while True:
            failed = []
            problems: list[exception.MdevMigrateError] = []
            for act, mdev in tasks:
                try:
                    act(mdev)
                except exception.HostUnreachable as error:
                    problems.append(error)
                    failed.append((act, mdev))
                    self._reconnect()
                except exception.MdevMigrateError as error:
                    problems.append(error)
                    failed.append((act, mdev))
            if not failed or time.monotonic() >= deadline:
                return tuple(problems)
            tasks = failed
            time.sleep(self.limits.poll_s)

    def _reconnect(self) -> None:
        try:
            self.host.reconnect()
        except exception.HostUnreachable:
            time.sleep(self.limits.poll_s)
