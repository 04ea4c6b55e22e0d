# SPDX-License-Identifier: Apache-2.0
"""The target mdevs promised to migrations that are under way.

Choosing and claiming is one step under one lock, so that two migrations
never choose the same mdev. What is claimed counts as used until the claim
is released. A claim covers mdevs that exist and mdevs yet to be created.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from mdev_migrate import exception, model
from mdev_migrate.core import allocation, phases


@dataclass(frozen=True, slots=True)
class Note:
    """Who made a claim, when and for what: for people and for recovery.

    :ivar owner: names the process that made it, for people.
    :ivar token: UUID of that process, which tells whether it still lives;
        see :mod:`mdev_migrate.ledger`.
    :ivar since: when, in seconds since the epoch.
    :ivar source: URI of the host that the guest leaves.
    :ivar destination: URI of the host that it goes to.
    :ivar migration: UUID of the Nova migration that it belongs to; empty
        without Nova. Such a claim lives as long as that migration does.
    """

    owner: str = "this process"
    token: str = ""
    since: float = 0.0
    guest: str = ""
    source: str = ""
    destination: str = ""
    migration: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """The target mdevs promised to one instance.

    :ivar step: how far its migration is known to have come.
    """

    instance_uuid: str
    plan: allocation.AllocationPlan
    step: phases.Step = phases.Step.CLAIM
    note: Note = Note()


class Store(Protocol):
    """Where the claims of one destination are kept."""

    def edit(self) -> contextlib.AbstractContextManager[dict[str, Claim]]:
        """Lend the claims by instance UUID, to read and to change.

        Nobody else sees or changes them meanwhile. When the block ends well
        the change is kept; otherwise it is as if it had not been made.
        """
        ...


class MemoryStore:
    """Claims that live as long as this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: dict[str, Claim] = {}

    @contextlib.contextmanager
    def edit(self) -> Iterator[dict[str, Claim]]:
        """Lend the claims; see :class:`Store`."""
        with self._lock:
            claims = dict(self._claims)
            yield claims
            self._claims = claims


def refuse_begun(claim: Claim) -> None:
    """Refuse to replace a claim that mdevs may have been created under.

    What it says must be undone, or be found to need no undoing, first.

    :raises ClaimHeld: if its migration went beyond claiming.
    """
    if claim.step is not phases.Step.CLAIM:
        raise exception.ClaimHeld(claim.instance_uuid, claim.note.owner)


def _held(claims: dict[str, Claim]) -> tuple[model.Mdev, ...]:
    return tuple(
        mdev for claim in claims.values() for mdev in claim.plan.mdevs
    )


class ClaimTable:
    """The claims of one destination, by instance UUID. Thread-safe.

    :param store: keeps them; by default in memory.
    """

    def __init__(self, store: Store | None = None) -> None:
        self._store = store if store is not None else MemoryStore()

    @contextlib.contextmanager
    def claim(
        self,
        instance_uuid: str,
        choose: Callable[[tuple[model.Mdev, ...]], allocation.AllocationPlan],
        note: Note | None = None,
        may_replace: Callable[[Claim], None] = refuse_begun,
        *,
        step: phases.Step = phases.Step.CLAIM,
    ) -> Iterator[allocation.AllocationPlan]:
        """Claim what ``choose`` picks; give it back if the block fails.

        A block that ends well keeps its claim until :meth:`release`. An
        older claim of the same instance is replaced: it is left over from a
        pre-check whose answer was lost.

        :raises ClaimHeld: if ``may_replace`` does not let it go.

        :param choose: gets the mdevs that other instances hold and returns
            the plan to claim. Runs under the lock, so it must do no I/O.
        :param may_replace: raises if the older claim must stay.
        :param step: how far the migration is already.
        """
        with self._store.edit() as claims:
            older = claims.pop(instance_uuid, None)
            if older is not None:
                may_replace(older)
            plan = choose(_held(claims))
            claims[instance_uuid] = Claim(
                instance_uuid, plan, step, note or Note()
            )
        try:
            yield plan
        except BaseException:
            self._give_back(instance_uuid, plan)
            raise

    def _give_back(
        self, instance_uuid: str, plan: allocation.AllocationPlan
    ) -> None:
        """Drop a claim unless a newer one has taken its place."""
        with self._store.edit() as claims:
            claim = claims.get(instance_uuid)
            if claim is not None and claim.plan == plan:
                del claims[instance_uuid]

    def release(self, instance_uuid: str) -> Claim | None:
        """Drop a claim and return it: None if there was none."""
        with self._store.edit() as claims:
            return claims.pop(instance_uuid, None)

    def advance(self, instance_uuid: str, step: phases.Step) -> None:
        """Note how far an instance's migration has come.

        Nothing happens if it has no claim (any more).
        """
        with self._store.edit() as claims:
            claim = claims.get(instance_uuid)
            if claim is not None:
                claims[instance_uuid] = replace(claim, step=step)

    def adopt(self, claim: Claim, note: Note) -> bool:
        """Take a claim over from an owner that is gone.

        :returns: False if it is not as given any more: somebody was faster.
        """
        with self._store.edit() as claims:
            if claims.get(claim.instance_uuid) != claim:
                return False
            claims[claim.instance_uuid] = replace(claim, note=note)
        return True

    def get(self, instance_uuid: str) -> Claim | None:
        """Return the claim of an instance, None if it has none."""
        return self.all().get(instance_uuid)

    def all(self) -> dict[str, Claim]:
        """Return every claim by instance UUID."""
        with self._store.edit() as claims:
            return dict(claims)

    def held(self) -> tuple[model.Mdev, ...]:
        """Return every mdev that is in a claim."""
        return _held(self.all())
