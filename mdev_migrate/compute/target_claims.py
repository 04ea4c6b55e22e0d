# SPDX-License-Identifier: Apache-2.0
"""How a compute node chooses target mdevs, and claims them.

Nova's own allocation does the choosing, from the providers that Placement
allocated. A claim is written before Nova's lock is given up, so that neither
a boot nor another migration chooses the same mdev; and before an mdev is
created, so that a service that is killed meanwhile finds it when it starts.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from oslo_log import log

from mdev_migrate import exception, model
from mdev_migrate.compute import objects
from mdev_migrate.compute.claim_ends import ClaimEnds
from mdev_migrate.compute.driver_host import DriverHost
from mdev_migrate.compute.promises import Promises
from mdev_migrate.core import allocation, claims, pairing, phases
from mdev_migrate.service import MdevMigration

LOG = log.getLogger(__name__)

#: An allocation of one mdev, and the mdev type of its provider.
_Request = tuple[dict[str, Any], str]


class _GrowingClaim:
    """The claim of a check under way, which gets one mdev after the other.

    :ivar plan: what it covers by now.
    :ivar created: UUIDs of what is known to have been created.
    """

    def __init__(
        self, table: claims.ClaimTable, instance_uuid: str, note: claims.Note
    ) -> None:
        self._table = table
        self.instance_uuid = instance_uuid
        self.note = note
        self.plan = allocation.AllocationPlan()
        self.created: frozenset[str] = frozenset()

    def claim(self) -> claims.Claim:
        """Return the claim as it was written last."""
        return claims.Claim(
            self.instance_uuid, self.plan, phases.Step.CREATE, self.note
        )

    def create(self, mdev_type: str, parent: str) -> str:
        """Claim an mdev that is going to be created; return its UUID."""
        mdev = model.Mdev(str(uuid.uuid4()), mdev_type, parent)
        self._write(self.plan.reuse, (*self.plan.create, mdev))
        return mdev.uuid

    def take(self, mdev: model.Mdev) -> None:
        """Claim an mdev that Nova chose, unless it was just created."""
        if mdev.uuid in {planned.uuid for planned in self.plan.create}:
            self.created |= {mdev.uuid}
        else:
            self._write((*self.plan.reuse, mdev), self.plan.create)

    def _write(
        self, reuse: tuple[model.Mdev, ...], create: tuple[model.Mdev, ...]
    ) -> None:
        plan = allocation.AllocationPlan(reuse, create)
        uuids = {mdev.uuid for mdev in plan.mdevs}

        def choose(
            held: tuple[model.Mdev, ...],
        ) -> allocation.AllocationPlan:
            if any(mdev.uuid in uuids for mdev in held):
                raise exception.TargetMdevsRaced(self.note.destination, 1)
            return plan

        self.plan = plan
        with self._table.claim(
            self.instance_uuid,
            choose,
            self.note,
            may_replace=self._refuse_others,
            step=phases.Step.CREATE,
        ):
            pass

    def _refuse_others(self, claim: claims.Claim) -> None:
        """Refuse to replace what another check of the instance claimed."""
        if claim.note != self.note:
            raise exception.ClaimHeld(self.instance_uuid, claim.note.owner)


class TargetClaims:
    """Chooses and claims the target mdevs of a compute node.

    :param vgpu_lock: returns the lock under which Nova chooses mdevs.
    """

    def __init__(
        self,
        driver: Any,
        service: MdevMigration[DriverHost],
        promises: Promises,
        ends: ClaimEnds,
        vgpu_lock: Callable[[], contextlib.AbstractContextManager[Any]],
    ) -> None:
        self._driver = driver
        self._host = service.host
        self._service = service
        self._promises = promises
        self._ends = ends
        self._vgpu_lock = vgpu_lock
        self._thread = threading.local()

    # The check --------------------------------------------------------

    def claim(
        self,
        instance: Any,
        migrate_data: Any,
        allocations: Mapping[str, Any] | None,
        migration: Any,
    ) -> dict[str, str] | None:
        """Choose and claim a target mdev for every source mdev.

        :param migration: Nova's record; None while the RPC is pinned.
        :returns: target by source mdev UUID; None if the guest has no mdevs.
        :raises PreCheckError: if they cannot be had.
        """
        types = objects.received_source_mdev_types(migrate_data)
        if not types:
            source = getattr(migration, "source_compute", "source")
            self._check_without_types(instance, allocations, str(source))
            return None
        if migration is None:
            raise exception.ComputeRpcPinned(str(instance.uuid))
        if not allocations:
            raise exception.AllocationsUnknown(str(instance.uuid))
        self._ends.drop_ended()
        self._undo_older(instance.uuid)
        requests = self._requests(types, allocations)
        note = claims.Note(
            owner=f"nova-compute on {self._host.name}",
            migration=str(migration.uuid),
            destination=self._host.name,
            since=time.time(),
            token=str(uuid.uuid4()),
        )
        claim = _GrowingClaim(self._service.claims, instance.uuid, note)
        try:
            with self._vgpu_lock():
                self._allocate(claim, requests)
            # An end of it may have seen nothing to remove yet.
            if not self._ends.is_kept(claim.claim()):
                raise exception.TargetMdevsRaced(self._host.name, 1)
            return self._pair(instance.uuid, types, claim.plan.mdevs)
        except BaseException:
            self._give_up(claim)
            raise

    def _check_without_types(
        self,
        instance: Any,
        allocations: Mapping[str, Any] | None,
        source: str,
    ) -> None:
        """Refuse a guest that has mdevs, though the source says of none.

        :raises AllocationsUnknown: if it may have.
        :raises PeerTooOld: if Placement allocated some for it.
        """
        if not allocations:
            if self._host.wants_mdevs(instance):
                raise exception.AllocationsUnknown(str(instance.uuid))
            return
        asked = None
        with self._host.looking(instance):
            asked = self._driver._vgpu_allocations(allocations)
        if asked:
            raise exception.PeerTooOld(
                f"source host {source}",
                "without mdev types",
                "one for every mdev",
            )

    def _undo_older(self, instance_uuid: str) -> None:
        """Undo an older claim: its check's answer was lost, or not used.

        :raises ClaimHeld: if that cannot be done (yet): a claim in its
            place would let its mdevs into use.
        """
        older = self._service.claims.get(instance_uuid)
        if older is None:
            return
        if not self._ends.undo_claim(older, patient=False):
            raise exception.ClaimHeld(instance_uuid, older.note.owner)

    def _requests(
        self, types: Mapping[str, str], allocations: Mapping[str, Any]
    ) -> list[_Request]:
        """Return what to ask Nova for, one mdev after the other.

        The type is the one that the allocated provider is configured for:
        it is compared before anything is created.

        :raises MdevTypeMissing: if a type of the guest is not enabled here.
        :raises ProviderTypesDiffer: if they are not the guest's types.
        """
        enabled = self._driver.supported_vgpu_types
        for mdev_type in types.values():
            if mdev_type not in enabled:
                raise exception.MdevTypeMissing(
                    self._host.name, mdev_type, frozenset(enabled)
                )
        found: list[_Request] = []
        for provider, allocated in self._driver._vgpu_allocations(
            allocations
        ).items():
            mdev_type = self._host.type_of_provider(provider)
            for name, count in allocated["resources"].items():
                one = {provider: {"resources": {name: 1}}}
                found += [(one, mdev_type)] * count
        offered = Counter(mdev_type for _, mdev_type in found)
        if offered != Counter(types.values()):
            raise exception.ProviderTypesDiffer(
                self._host.name,
                tuple(sorted(types.values())),
                tuple(sorted(offered.elements())),
            )
        return found

    def _allocate(
        self, claim: _GrowingClaim, requests: Sequence[_Request]
    ) -> None:
        """Let Nova choose one mdev after the other, claiming each at once.

        Runs under Nova's lock.
        """
        self._promises.refresh()
        existing = {mdev.uuid: mdev for mdev in self._host.mdevs()}
        for request, mdev_type in requests:
            parent = self._host.parent_of(request)
            with (
                self._explaining_shortage(claim, requests, mdev_type, parent),
                self._creating(claim, mdev_type, parent),
            ):
                chosen = self._host.allocate(request)
            if not chosen:
                raise exception.AllocationsUnknown("the provider")
            mdev_uuid = model.normalise_uuid(chosen[0])
            claim.take(
                existing.get(mdev_uuid)
                or model.Mdev(mdev_uuid, mdev_type, parent)
            )
            self._promises.refresh()

    @contextlib.contextmanager
    def _explaining_shortage(
        self,
        claim: _GrowingClaim,
        requests: Sequence[_Request],
        mdev_type: str,
        parent: str,
    ) -> Iterator[None]:
        """Say how much there was, where Nova says that there is no more.

        Its error is not told by its class, which is Nova's, but by whether
        the parent has room.

        :raises TooFewMdevs: if that is why an error came.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, exception.MdevMigrateError):
                raise
            if self._host.room(parent, mdev_type):
                raise
            got = claim.created.union(m.uuid for m in claim.plan.reuse)
            had = sum(
                mdev.parent == parent and mdev.uuid in got
                for mdev in claim.plan.mdevs
            )
            raise exception.TooFewMdevs(
                self._host.name,
                tuple(kind for _, kind in requests),
                f"{had} of {mdev_type} on {parent}",
            ) from error

    @contextlib.contextmanager
    def _creating(
        self, claim: _GrowingClaim, mdev_type: str, parent: str
    ) -> Iterator[None]:
        """Let what this thread creates in the block be claimed first."""
        self._thread.claim_new = lambda: claim.create(mdev_type, parent)
        try:
            yield
        finally:
            self._thread.claim_new = None

    def claim_new(self) -> str | None:
        """Claim an mdev that Nova is about to create for a migration.

        :returns: the UUID to create it under; None if it is for a boot.
        """
        claim: Callable[[], str] | None = getattr(
            self._thread, "claim_new", None
        )
        return claim() if claim is not None else None

    def _give_up(self, claim: _GrowingClaim) -> None:
        """Undo what was allocated before something went wrong."""
        if not claim.plan.mdevs:
            return
        with contextlib.suppress(exception.MdevMigrateError):
            self._service.await_targets(claim.created)
        self._ends.give_up(claim.claim())
        try:
            with self._vgpu_lock():
                self._remove_unclaimed(claim.plan.create)
        except exception.MdevMigrateError as error:
            LOG.warning(
                "A new mdev may be left: %(error)s",
                {"error": error},
                instance_uuid=claim.instance_uuid,
            )

    def _remove_unclaimed(self, created: Sequence[model.Mdev]) -> None:
        """Remove what was created after its claim had been ended.

        Runs under Nova's lock: a boot holds all that it has chosen.
        """
        assigned = self._host.inventory().assigned()
        held = {mdev.uuid for mdev in self._service.claims.held()}
        for mdev in created:
            if not (
                mdev.uuid in assigned
                or mdev.uuid in held
                or self._promises.boot_holds([mdev.uuid])
            ):
                self._host.remove_mdev(mdev)

    def _pair(
        self,
        instance_uuid: str,
        types: Mapping[str, str],
        targets: Sequence[model.Mdev],
    ) -> dict[str, str]:
        wanted = [
            model.WantedMdev(source, mdev_type)
            for source, mdev_type in types.items()
        ]
        pairs = pairing.pair_mdevs(wanted, targets)
        LOG.info(
            "Claimed target mdevs: %(pairs)s",
            {"pairs": pairs},
            instance_uuid=instance_uuid,
        )
        return pairs

    # Afterwards -------------------------------------------------------

    def prepare(self, instance: Any, migrate_data: Any) -> None:
        """See, just before the guest comes, that its targets are ready.

        :raises TargetMdevsRaced: if the claim is gone, or being undone, or
            another migration's: one of them may have been given to somebody
            else.
        :raises TargetMdevGone: if one does not exist.
        """
        targets = objects.received_target_mdevs(migrate_data)
        if not targets:
            return
        uuids = frozenset(targets.values())
        claim = self._service.claims.get(instance.uuid)
        if claim is None or not _covers(claim, uuids, migrate_data):
            raise exception.TargetMdevsRaced(self._host.name, 1)
        self._service.await_targets(uuids)
        if not self._ends.advance(claim, phases.Step.MIGRATE):
            raise exception.TargetMdevsRaced(self._host.name, 1)

    def allocate_for_boot(self, allocations: Any) -> Any:
        """Let Nova choose mdevs for a boot, and remember its choice.

        For a guest without mdevs neither the lock nor the claims are needed.
        """
        if not self._driver._vgpu_allocations(allocations):
            return self._host.allocate(allocations)
        with self._vgpu_lock():
            self._ends.refresh()
            chosen = self._host.allocate(allocations)
            self._promises.hold(chosen or ())
            return chosen


def _covers(
    claim: claims.Claim, uuids: frozenset[str], migrate_data: Any
) -> bool:
    """Tell whether a claim is for these mdevs, and for this migration."""
    migration = objects.migration_uuid(migrate_data)
    return migration in (None, claim.note.migration) and uuids <= {
        mdev.uuid for mdev in claim.plan.mdevs
    }
