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
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from oslo_log import log

from mdev_migrate import exception, model
from mdev_migrate.compute import objects
from mdev_migrate.compute.claim_ends import ClaimEnds
from mdev_migrate.compute.flavors import Flavors
from mdev_migrate.compute.growing_claim import GrowingClaim
from mdev_migrate.compute.migration_log import MigrationLog
from mdev_migrate.compute.providers import Providers
from mdev_migrate.compute.turns import Turns
from mdev_migrate.core import pairing
from mdev_migrate.model import Step

LOG = log.getLogger(__name__)

#: An allocation of one mdev, and the mdev type of its provider.
_Request = tuple[dict[str, Any], str]


class TargetClaims:
    """Chooses and claims the target mdevs of a compute node.

    :param vgpu_lock: returns the lock under which Nova chooses mdevs.
    """

    def __init__(
        self,
        ends: ClaimEnds,
        flavors: Flavors,
        providers: Providers,
        vgpu_lock: Callable[[], contextlib.AbstractContextManager[Any]],
    ) -> None:
        self._ends = ends
        self._host = ends.host
        self._promises = ends.promises
        self._limits = ends.limits
        self._flavors = flavors
        self._providers = providers
        self._vgpu_lock = vgpu_lock
        self._checks = Turns()
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
            source = objects.known(migration, "source_compute") or "source"
            self._check_without_types(instance, allocations, source)
            return None
        if objects.known(migration, "uuid") is None:
            raise exception.ComputeRpcPinned(str(instance.uuid))
        if not allocations:
            raise exception.AllocationsUnknown(str(instance.uuid))
        with self._checks.taken(instance.uuid):
            claim = self._answered(
                instance.uuid, migration, types
            ) or self._claim(instance.uuid, migration, types, allocations)
        wanted = [
            model.WantedMdev(source, mdev_type)
            for source, mdev_type in types.items()
        ]
        pairs = pairing.pair_mdevs(wanted, claim.mdevs)
        MigrationLog(instance.uuid, claim.migration).claimed(
            claim.source,
            pairs,
            (target.mdev.uuid for target in claim.targets if target.created),
        )
        return pairs

    def _answered(
        self, instance_uuid: str, migration: Any, types: Mapping[str, str]
    ) -> model.Claim | None:
        """Return what an earlier check of the migration has claimed.

        Its answer may be on its way, or in use: it stays as it is.
        """
        for claim in self._promises.of(instance_uuid):
            kinds = [mdev.mdev_type for mdev in claim.mdevs]
            if (
                claim.migration == str(migration.uuid)
                and claim.step is Step.PREPARE
                and Counter(kinds) == Counter(types.values())
            ):
                return claim
        return None

    def _claim(
        self,
        instance_uuid: str,
        migration: Any,
        types: Mapping[str, str],
        allocations: Mapping[str, Any],
    ) -> model.Claim:
        """Choose target mdevs, and claim them."""
        self._ends.drop_ended()
        self._undo_older(instance_uuid, str(migration.uuid))
        requests = self._requests(instance_uuid, types, allocations)
        growing = GrowingClaim(
            self._promises,
            model.Claim(
                instance_uuid=instance_uuid,
                token=str(uuid.uuid4()),
                targets=(),
                owner=f"nova-compute on {self._host.name}",
                source=str(migration.source_compute),
                migration=str(migration.uuid),
                step=Step.CREATE,
            ),
        )
        try:
            with self._choosing():
                self._allocate(growing, requests)
            # An end of it may have seen nothing to remove yet.
            if not self._ends.advance(growing.claim, Step.PREPARE):
                raise exception.ClaimLost(instance_uuid, self._host.name)
        except BaseException:
            self._give_up(growing)
            raise
        return growing.claim

    @contextlib.contextmanager
    def _choosing(self) -> Iterator[None]:
        """Hold Nova's lock, and look at guests before it is taken."""
        with self._promises.seeing(self._host.named_mdevs), self._vgpu_lock():
            yield

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
            if self._flavors.wants_mdevs(instance):
                raise exception.AllocationsUnknown(str(instance.uuid))
            return
        asked = None
        with self._flavors.looking(instance):
            asked = self._providers.asked(allocations)
        if asked:
            raise exception.PeerTooOld(
                f"source host {source}",
                "without mdev types",
                "one for every mdev",
            )

    def _undo_older(self, instance_uuid: str, migration_uuid: str) -> None:
        """Undo older claims: their check's answer was lost, or not used.

        :raises ClaimHeld: if that cannot be done (yet): a claim in its
            place would let its mdevs into use; or if it belongs to another
            migration that is under way, or to the command.
        """
        for claim in self._promises.others(instance_uuid):
            raise exception.ClaimHeld(instance_uuid, claim.owner)
        for claim in self._promises.of(instance_uuid):
            own = claim.migration == migration_uuid
            if not (
                (own or self._ends.is_over(claim.migration))
                and self._ends.undo_claim(claim, patient=False)
            ):
                raise exception.ClaimHeld(instance_uuid, claim.owner)

    def _requests(
        self,
        instance_uuid: str,
        types: Mapping[str, str],
        allocations: Mapping[str, Any],
    ) -> list[_Request]:
        """Return what to ask Nova for, one mdev after the other.

        The type is the one that the allocated provider is configured for:
        it is compared before anything is created.

        :raises MdevTypeNotEnabled: if a type of the guest is not, here.
        :raises GuestShortOfMdevs: if more was allocated than the guest has.
        :raises ProviderTypesDiffer: if they are not the guest's types.
        """
        enabled = self._providers.enabled_types
        for mdev_type in types.values():
            if mdev_type not in enabled:
                raise exception.MdevTypeNotEnabled(
                    self._host.name, mdev_type, frozenset(enabled)
                )
        found: list[_Request] = []
        for provider, allocated in self._providers.asked(allocations).items():
            mdev_type = self._providers.type_of_provider(provider)
            for name, count in allocated["resources"].items():
                one = {provider: {"resources": {name: 1}}}
                found += [(one, mdev_type)] * count
        had = tuple(sorted(types.values()))
        offered = tuple(sorted(mdev_type for _, mdev_type in found))
        if Counter(had) < Counter(offered):
            raise exception.GuestShortOfMdevs(instance_uuid, had, offered)
        if had != offered:
            raise exception.ProviderTypesDiffer(self._host.name, had, offered)
        return found

    def _allocate(
        self, growing: GrowingClaim, requests: Sequence[_Request]
    ) -> None:
        """Let Nova choose one mdev after the other, claiming each at once.

        Runs under Nova's lock.
        """
        for request, mdev_type in requests:
            for _ in range(self._limits.tries):
                with contextlib.suppress(exception.ClaimTaken):
                    needed = tuple(kind for _, kind in requests)
                    self._choose(growing, request, mdev_type, needed)
                    break
            else:
                raise exception.TargetMdevsRaced(
                    self._host.name, self._limits.tries
                )

    def _choose(
        self,
        growing: GrowingClaim,
        request: dict[str, Any],
        mdev_type: str,
        needed: tuple[str, ...],
    ) -> None:
        """Let Nova choose an mdev, and claim it.

        :param needed: the mdev types of all requests.
        :raises ClaimTaken: if the command has claimed it meanwhile: then it
            is known to be taken when Nova chooses again.
        """
        self._promises.refresh()
        parent = self._providers.parent_of(request)
        with (
            self._providers.explaining_shortage(needed, growing.had, parent),
            self._creating(growing, mdev_type, parent),
        ):
            chosen = self._providers.allocate(request)
        if not chosen:
            raise exception.AllocationsUnknown(growing.claim.instance_uuid)
        mdev_uuid = model.normalise_uuid(chosen[0])
        growing.take(model.Mdev(mdev_uuid, mdev_type, parent))

    @contextlib.contextmanager
    def _creating(
        self, growing: GrowingClaim, mdev_type: str, parent: str
    ) -> Iterator[None]:
        """Let what this thread creates in the block be claimed first."""
        self._thread.claim_new = lambda: growing.create(mdev_type, parent)
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

    def _give_up(self, growing: GrowingClaim) -> None:
        """Undo what was allocated before something went wrong."""
        claim = growing.claim
        if not claim.targets:
            return
        with contextlib.suppress(exception.MdevMigrateError):
            self._host.await_mdevs(growing.created, self._limits)
        self._ends.give_up(claim)
        try:
            with self._choosing():
                self._remove_unclaimed(claim)
        except exception.MdevMigrateError as error:
            LOG.warning(
                "A new mdev may be left: %(error)s",
                {"error": error},
                instance_uuid=claim.instance_uuid,
            )

    def _remove_unclaimed(self, claim: model.Claim) -> None:
        """Remove what was created after its claim had been ended.

        Runs under Nova's lock: a boot holds all that it has chosen.
        """
        held = self._promises.seen() or {}
        for target in claim.targets:
            if target.created and target.mdev.uuid not in held:
                self._host.remove_mdev(target.mdev)

    # Afterwards -------------------------------------------------------

    def prepare(self, instance: Any, migrate_data: Any) -> None:
        """See, just before the guest comes, that its targets are ready.

        :raises ClaimLost: if the claim is gone, or being undone, or another
            migration's: one of them may have been given to somebody else.
        :raises TargetMdevGone: if one does not exist.
        """
        targets = objects.received_target_mdevs(migrate_data)
        if not targets:
            return
        uuids = frozenset(targets.values())
        migration = objects.migration_uuid(migrate_data)
        for claim in self._promises.of(instance.uuid):
            if migration in (None, claim.migration) and uuids <= {
                mdev.uuid for mdev in claim.mdevs
            }:
                break
        else:
            raise exception.ClaimLost(str(instance.uuid), self._host.name)
        self._host.await_mdevs(uuids, self._limits)
        if not self._ends.advance(claim, Step.MIGRATE):
            raise exception.ClaimLost(str(instance.uuid), self._host.name)
        MigrationLog(instance.uuid, claim.migration).prepared(uuids)

    def allocate_for_boot(self, allocations: Any) -> Any:
        """Let Nova choose mdevs for a boot, and remember its choice.

        For a guest without mdevs neither the lock nor the claims are needed.
        """
        if not self._providers.asked(allocations):
            return self._providers.allocate(allocations)
        with self._choosing():
            self._ends.refresh()
            chosen = self._providers.allocate(allocations)
            self._promises.hold(chosen or ())
            return chosen
