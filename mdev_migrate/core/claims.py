# SPDX-License-Identifier: Apache-2.0
"""The target mdevs promised to migrations that are under way.

Choosing and claiming is one step under one lock, so that two migrations
never choose the same mdev. What is claimed counts as used until the claim
is released. A claim covers mdevs that exist and mdevs yet to be created.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
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
    :ivar over: its migration has ended without an end of the claim, and
        whoever comes may settle it, though the process may still live.
    """

    owner: str = "this process"
    token: str = ""
    since: float = 0.0
    guest: str = ""
    source: str = ""
    destination: str = ""
    migration: str = ""
    over: bool = False


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

    def edit_made(self) -> contextlib.AbstractContextManager[dict[str, str]]:
        """Lend what is remembered of mdevs made for guests that arrived.

        Instance UUID by mdev UUID; otherwise as :meth:`edit`.
        """
        ...


class MemoryStore:
    """Claims that live as long as this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: dict[str, Claim] = {}
        self._made: dict[str, str] = {}

    @contextlib.contextmanager
    def edit(self) -> Iterator[dict[str, Claim]]:
        """Lend the claims; see :class:`Store`."""
        with self._lock:
            claims = dict(self._claims)
            yield claims
            self._claims = claims

    @contextlib.contextmanager
    def edit_made(self) -> Iterator[dict[str, str]]:
        """Lend what is remembered of mdevs made; see :class:`Store`."""
        with self._lock:
            made = dict(self._made)
            yield made
            self._made = made


def refuse_begun(claim: Claim) -> None:
    """Refuse to replace a claim that mdevs may have been created under.

    What it says must be undone, or be found to need no undoing, first.

    :raises ClaimHeld: if its migration went beyond claiming.
    """
    if claim.step is not phases.Step.CLAIM:
        raise exception.ClaimHeld(claim.instance_uuid, claim.note.owner)


def refuse_unfinished(claim: Claim) -> None:
    """Refuse to replace a claim whose migration may still be under way.

    :raises ClaimHeld: unless it ended, and before it went beyond claiming.
    """
    if not claim.note.over:
        raise exception.ClaimHeld(claim.instance_uuid, claim.note.owner)
    refuse_begun(claim)


def _held(claims: Iterable[Claim]) -> tuple[model.Mdev, ...]:
    return tuple(mdev for claim in claims for mdev in claim.plan.mdevs)


def _is(claim: Claim | None, note: Note | None) -> bool:
    """Tell whether there is a claim, and it is the one that was noted."""
    return claim is not None and note in (None, claim.note)


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
            plan = choose(_held(claims.values()))
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

    def release(
        self, instance_uuid: str, note: Note | None = None
    ) -> Claim | None:
        """Drop a claim and return it: None if there was none.

        :param note: leave it if it is not, or no longer, the one so noted.
        """
        with self._store.edit() as claims:
            if not _is(claims.get(instance_uuid), note):
                return None
            return claims.pop(instance_uuid)

    def advance(
        self, instance_uuid: str, step: phases.Step, note: Note | None = None
    ) -> bool:
        """Note how far an instance's migration has come.

        :param note: as for :meth:`release`.
        :returns: False if it has no claim (any more); nothing happens.
        """
        with self._store.edit() as claims:
            claim = claims.get(instance_uuid)
            if claim is None or not _is(claim, note):
                return False
            claims[instance_uuid] = replace(claim, step=step)
        return True

    def leave(self, instance_uuid: str, note: Note) -> bool:
        """Leave a claim to whoever will settle it: its migration is over.

        :returns: False if there is no claim of that note.
        """
        with self._store.edit() as claims:
            claim = claims.get(instance_uuid)
            if claim is None or not _is(claim, note):
                return False
            claims[instance_uuid] = replace(
                claim, note=replace(note, over=True)
            )
        return True

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

    def held(self, besides: str | None = None) -> tuple[model.Mdev, ...]:
        """Return every mdev that is in a claim.

        :param besides: UUID of an instance whose own claim does not count.
        """
        return _held(
            claim
            for instance_uuid, claim in self.all().items()
            if instance_uuid != besides
        )

    # What was made for guests that arrived ----------------------------

    def remember(
        self, instance_uuid: str, mdevs: Iterable[model.Mdev]
    ) -> None:
        """Remember mdevs that were made for a guest, beyond its claim."""
        uuids = [mdev.uuid for mdev in mdevs]
        if uuids:
            with self._store.edit_made() as made:
                made.update(dict.fromkeys(uuids, instance_uuid))

    def made(self) -> dict[str, str]:
        """Return the instance that each remembered mdev was made for."""
        with self._store.edit_made() as made:
            return dict(made)

    def forget(self, uuids: Iterable[str]) -> None:
        """Forget mdevs that are gone."""
        gone = set(uuids)
        if gone:
            with self._store.edit_made() as made:
                for uuid in gone:
                    made.pop(uuid, None)
