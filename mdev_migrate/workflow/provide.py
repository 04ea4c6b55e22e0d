# SPDX-License-Identifier: Apache-2.0
"""Choose target mdevs, claim them, and create those that are new.

Others may do so at the same moment, from other machines. libvirt refuses a
second claim of one mdev; for all else each looks once more at what is
claimed, and whoever was not first gives way and chooses again. Only if there
is no room, and nobody is about to give way, is a guest refused.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from mdev_migrate import exception, model, undoing
from mdev_migrate.core import allocation, claim_life, claim_xml
from mdev_migrate.core.claim_life import End, Owner, Verdict
from mdev_migrate.core.rooms import Avoided
from mdev_migrate.model import Step
from mdev_migrate.workflow.keeping import KeptClaim, Watch, take_over
from mdev_migrate.workflow.values import Destination, mint


def _backoff_s(losses: int) -> float:
    """Return for how many polls to wait after so many losses."""
    longest = min(2**losses, 64) if losses else 0
    return random.uniform(0, longest)  # noqa: S311 - to be unlike others


class Provider:
    """Provides the target mdevs of one guest.

    :param who: the claim to make, without targets.
    :param form: of its domains.
    :param entering: is told each step before it is tried.
    :param warn: is told what a human should know.
    :param seen: what the host was seen to have before.
    """

    def __init__(  # noqa: PLR0913 - facts by name
        self,
        place: Destination,
        who: model.Claim,
        wanted: Sequence[model.WantedMdev],
        form: claim_xml.Form,
        *,
        entering: Callable[[Step], None],
        warn: Callable[[str], None] = lambda _: None,
        seen: model.Inventory | None = None,
    ) -> None:
        self._place = place
        self._host = place.host
        self._limits = place.limits
        self._who = who
        self._wanted = wanted
        self._form = form
        self._entering = entering
        self._warn = warn
        self._first = self._seen = seen
        self._watch = Watch(place.limits)
        self._avoid: set[Avoided] = set()
        self._cards: dict[str, str] = {}
        self._spoiled: set[str] = set()
        self._taken: Counter[str] = Counter()
        self._vanished = 0
        self._failure: exception.MigrationError | None = None

    def avoid(
        self, claim: model.Claim, failure: exception.TargetMdevTaken
    ) -> bool:
        """Choose no more what turned out to be somebody else's.

        :param failure: raised later on if nothing else can be had.
        :returns: False if it is of no use to choose again: what was created
            for us alone vanishes each time.
        """
        self._failure = failure
        created = {t.mdev.uuid for t in claim.targets if t.created}
        self._spoiled |= failure.uuids - created
        self._vanished += failure.uuids <= created
        return self._vanished <= self._limits.tries

    def provide(self) -> KeptClaim:
        """Return a claim of mdevs that are there.

        A parent that refuses to create mdevs is planned around, and so is
        its whole card while there is another. If none is left, all that was
        created is removed and the claim released.

        :raises PreCheckError: if the host cannot provide the mdevs.
        :raises MdevCreationFailed: if libvirt could not create one.
        """
        while True:
            self._entering(Step.CLAIM)
            try:
                kept = self._claim()
            except exception.TooFewMdevs:
                if self._failure is None:
                    raise
                raise self._failure from None
            failure = self._create(kept)
            if failure is None:
                return kept
            self._failure = failure
            create = [t.mdev for t in kept.claim.targets if t.created]
            self._avoid.add(
                allocation.refused_together(create, failure.uuid, self._cards)
            )

    # Claiming ---------------------------------------------------------

    def _claim(self) -> KeptClaim:
        """Choose and claim until it stands.

        Whoever loses waits for a moment that is not that of other losers.
        """
        for losses in itertools.count():
            time.sleep(_backoff_s(losses) * self._limits.poll_s)
            inventory = self._first or self._look()
            self._first = None
            if self._is_second(inventory.claims):
                self._wait_for_others(inventory.claims)
                continue
            try:
                plan = self._plan(inventory)
            except exception.TooFewMdevs:
                if not self._wait_for_others(inventory.claims):
                    raise
                continue
            kept = self._define(plan)
            if kept is not None:
                return kept
        raise AssertionError  # It counts for ever.

    def _look(self) -> model.Inventory:
        """Look at the host; what was seen before need not be read again."""
        self._seen = self._host.inventory(since=self._seen)
        return self._seen

    def _is_second(self, claims: model.Claims) -> bool:
        """Tell whether somebody else is about to claim for this guest.

        Only the first may try: he waits until nobody else does.

        :raises ClaimHeld: if somebody has, and will not give way.
        """
        own = claims.of(self._who.instance_uuid)
        for claim in own:
            if claim.step is not Step.CLAIM or claim.over:
                raise exception.ClaimHeld(claim.instance_uuid, claim.owner)
        return any(claim.token < self._who.token for claim in own)

    def _plan(self, inventory: model.Inventory) -> allocation.AllocationPlan:
        self._cards = {p.name: p.card for p in inventory.parents}
        spoiled = (model.Mdev(uuid, "", "") for uuid in self._spoiled)
        return allocation.allocate(
            inventory,
            self._wanted,
            held=(*inventory.claims.held(), *spoiled),
            avoid=self._avoid,
            owner=self._who.instance_uuid,
            mint=self._place.mint,
        )

    def _wait_for_others(self, claims: model.Claims) -> bool:
        """Wait if somebody may be about to give way; tell if so.

        Whoever was killed before is not waited for: his claim is ended.
        """
        rivals = [
            claim
            for claim in claims.all
            if claim.step is Step.CLAIM and claim.token != self._who.token
        ]
        self._watch.look(rivals)
        for claim in rivals:
            owner = self._watch.owner(claim) or Owner.WORKS
            if owner is not Owner.WORKS:
                with contextlib.suppress(exception.MdevMigrateError):
                    self._end(take_over(self._host, claim), owner)
        if rivals:
            time.sleep(self._limits.poll_s)
        return bool(rivals)

    def _end(self, claim: model.Claim, owner: Owner) -> None:
        end = claim_life.end(claim, owner)
        undoing.end_claim(self._host, claim, end, self._limits, patient=False)

    def _define(self, plan: allocation.AllocationPlan) -> KeptClaim | None:
        """Claim a plan; None if somebody else was faster."""
        claim = replace(
            self._who, targets=self._targets(plan), beat=time.time()
        )
        try:
            self._host.claims.define(claim, self._form)
            verdict = self._judge(claim)
            if verdict is Verdict.STANDS:
                return KeptClaim(self._host, claim, self._limits)
        except exception.ClaimTaken as error:
            self._taken[error.mdev_uuid] += 1
            if self._taken[error.mdev_uuid] > self._limits.tries:
                # By a domain that this connection is not shown, say.
                self._spoiled.add(error.mdev_uuid)
            return None
        except BaseException:
            undoing.end_claim(self._host, claim, End.UNDO, self._limits)
            raise
        undoing.end_claim(self._host, claim, End.UNDO, self._limits)
        self._wait_for_others(self._host.claims.read())
        return None

    def _targets(
        self, plan: allocation.AllocationPlan
    ) -> tuple[model.Target, ...]:
        """Return the targets of a claim, in the order that all define in.

        In one order for all, somebody always gets further.
        """
        created = {mdev.uuid for mdev in plan.create}
        return tuple(
            model.Target(mdev, mdev.uuid in created, mint())
            for mdev in sorted(plan.mdevs, key=lambda mdev: mdev.uuid)
        )

    def _judge(self, claim: model.Claim) -> Verdict:
        """Return whether a claim stands, waiting for others that give way."""
        while True:
            inventory = self._look()
            verdict = claim_life.judge(claim, inventory)
            if verdict is not Verdict.WAIT:
                return verdict
            self._wait_for_others(inventory.claims)

    # Creating ---------------------------------------------------------

    def _create(self, kept: KeptClaim) -> exception.MdevCreationFailed | None:
        """Create the new mdevs of a claim, or undo it.

        :returns: why one could not be created, if all was undone.
        """
        claim = kept.claim
        try:
            self._entering(Step.CREATE)
            kept.advance(Step.CREATE)
            for target in claim.targets:
                if target.created:
                    self._host.create_mdev(target.mdev)
            undoing.await_mdevs(
                self._host,
                frozenset(mdev.uuid for mdev in claim.mdevs),
                self._limits,
            )
        except BaseException as error:
            unanswered = (exception.HostUnreachable, exception.TargetMdevGone)
            try:
                problems = undoing.end_claim(
                    self._host,
                    claim,
                    End.UNDO,
                    self._limits,
                    unanswered=isinstance(error, unanswered),
                )
            finally:
                kept.let_go()
            for problem in problems:
                self._warn(f"not undone: {problem}")
            if problems:
                kept.leave()
            if problems or not isinstance(error, exception.MdevCreationFailed):
                raise
            if isinstance(error, exception.MdevctlMissing):
                # No other parent would do.
                raise
            return error
        return None
