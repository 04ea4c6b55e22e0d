# SPDX-License-Identifier: Apache-2.0
"""A compute service's part: what the hooks of the driver mixin do.

Works on a LibvirtDriver through the few methods and attributes named here,
which are the same from Nova 25 to 34; Nova itself is never imported.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from oslo_log import log

from mdev_migrate import exception, model, objects
from mdev_migrate.core import (
    allocation,
    claims,
    guest_xml,
    pairing,
    phases,
    precheck,
    wire,
)
from mdev_migrate.driver_host import DriverHost
from mdev_migrate.promises import Promises
from mdev_migrate.service import Limits, MdevMigration

LOG = log.getLogger(__name__)


class Nova(Protocol):
    """What Nova must provide besides the driver."""

    def refusal(self, text: str) -> Exception:
        """Return the error that makes the conductor try another host."""
        ...

    def is_refusal(self, error: Exception) -> bool:
        """Tell whether the conductor takes an error for a refusal."""
        ...

    def vgpu_lock(self) -> contextlib.AbstractContextManager[Any]:
        """Return the lock under which Nova chooses mdevs."""
        ...

    def is_over(self, migration_uuid: str, host: str) -> bool:
        """Tell whether a migration is over, or goes to another host."""
        ...


class MdevCompute:
    """The mdevs of the live migrations that leave or reach a compute node.

    :param driver: the LibvirtDriver.
    :param nova: what else Nova provides.
    """

    def __init__(
        self,
        driver: Any,
        nova: Nova,
        claim_table: claims.ClaimTable | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._driver = driver
        self._nova = nova
        self.host = DriverHost(driver)
        self.service = MdevMigration(self.host, claim_table, limits=limits)
        self.promises = Promises(self.service.claims)
        self._thread = threading.local()
        self._ending = threading.RLock()

    @contextlib.contextmanager
    def refusals(self, instance: Any) -> Iterator[None]:
        """Make whatever goes wrong in an instance's pre-check a refusal.

        Anything else would put a guest that runs well into ERROR.
        """
        try:
            yield
        except exception.MdevMigrateError as error:
            raise self._refusal(
                instance, f"{error} ({error.code}: {error.hint})"
            ) from error
        except Exception as error:
            if self._nova.is_refusal(error):
                raise
            LOG.exception("A live migration pre-check could not be made")
            raise self._refusal(
                instance, f"host {self.host.name} could not check it: {error}"
            ) from error

    def _refusal(self, instance: Any, reason: str) -> Exception:
        return self._nova.refusal(
            f"Unable to migrate {instance.uuid}: {reason}"
        )

    # Source -----------------------------------------------------------

    def source_mdev_types(
        self, instance: Any, migrate_data: Any
    ) -> dict[str, str]:
        """Return the type of each mdev of a guest that wants to leave.

        :returns: nothing if the guest has no mdevs; then nothing else was
            looked at.
        :raises PreCheckError: if this host, the destination or the guest
            cannot take part.
        """
        domain_xml = self.host.domain_xml(instance)
        guest_mdevs = guest_xml.read_mdevs(domain_xml)
        if not guest_mdevs:
            return {}
        if "accel:device_profile" in _extra_specs(instance):
            raise exception.MdevsNotOurs(str(instance.uuid), "Cyborg")
        facts = self.host.facts()
        precheck.refuse(precheck.check_versions("source", facts))
        self._check_destination_answer(migrate_data)
        guest = self.host.guest(instance, guest_mdevs)
        precheck.check_viommu(guest, guest_xml.read_viommu(domain_xml))
        wanted = precheck.source_mdevs(
            guest, guest_mdevs, self.host.inventory()
        )
        return {want.source_uuid: want.mdev_type for want in wanted}

    @staticmethod
    def _check_destination_answer(migrate_data: Any) -> None:
        needed = f"{objects.MDEV_VERSION} with its mdev fields"
        found = str(migrate_data.VERSION)
        numbers = [int(part) for part in found.split(".")]
        if numbers < [int(part) for part in objects.MDEV_VERSION.split(".")]:
            raise exception.PeerTooOld(
                "destination", f"version {found}", needed
            )
        if not objects.destination_supports(migrate_data):
            raise exception.PeerUnsupporting(
                "destination",
                str(precheck.MIN_LIBVIRT),
                str(precheck.MIN_QEMU),
            )

    # Destination ------------------------------------------------------

    def wants_mdevs(self, instance: Any) -> bool:
        """Tell from its flavor whether an instance has mdevs."""
        classes = {"VGPU", *getattr(self._driver, "mdev_classes", ())}
        return any(
            name.startswith("resources")
            and name.partition(":")[2] in classes
            and str(amount) != "0"
            for name, amount in _extra_specs(instance).items()
        )

    def check_destination(self) -> None:
        """Refuse guests with mdevs if this host cannot receive them.

        :raises PreCheckError: if it runs something too old.
        """
        precheck.refuse(
            precheck.check_versions("destination", self.host.facts())
        )

    def claim_targets(
        self,
        instance: Any,
        migrate_data: Any,
        allocations: Mapping[str, Any] | None,
        *,
        migration_uuid: str,
        source: str,
    ) -> dict[str, str] | None:
        """Choose and claim a target mdev for every source mdev.

        Nova's own allocation does the choosing, from the providers that
        Placement allocated; the claim is written before Nova's lock is
        given up, so that neither a boot nor another migration chooses the
        same mdev.

        :param source: the compute that the guest leaves, for texts.
        :returns: target by source mdev UUID; None if the guest has no mdevs.
        :raises PreCheckError: if they cannot be had.
        """
        types = objects.received_source_mdev_types(migrate_data)
        if not types:
            if not allocations and self.wants_mdevs(instance):
                raise exception.AllocationsUnknown(str(instance.uuid))
            if allocations and self._driver._vgpu_allocations(allocations):
                raise exception.PeerTooOld(
                    source, "without mdev types", "one for every mdev"
                )
            return None
        if not allocations:
            raise exception.AllocationsUnknown(str(instance.uuid))
        self.drop_ended()
        self._undo_older(instance.uuid)
        self.promises.refresh()
        providers = self._providers(types, allocations)
        note = claims.Note(
            owner=f"nova-compute on {self.host.name}",
            migration=migration_uuid,
            destination=self.host.name,
            token=str(uuid.uuid4()),
        )
        plan: list[allocation.AllocationPlan] = []
        try:
            with self._nova.vgpu_lock():
                self._allocate(instance.uuid, providers, note, plan)
            return self._pair(instance.uuid, types, plan[-1].mdevs)
        except BaseException:
            self._give_up(instance.uuid, note, plan)
            raise

    def _give_up(
        self,
        instance_uuid: str,
        note: claims.Note,
        plan: Sequence[allocation.AllocationPlan],
    ) -> None:
        """Undo what was allocated before something went wrong."""
        if plan:
            self.service.roll_back(
                instance_uuid,
                phases.Step.CREATE,
                plan[-1],
                note=note,
                unanswered=bool(plan[-1].create),
            )
            self._refresh()

    def _undo_older(self, instance_uuid: str) -> None:
        """Undo an older claim: its check's answer was lost, or not used.

        :raises ClaimHeld: if that cannot be done (yet): a claim in its
            place would let its mdevs into use.
        """
        older = self.service.claims.get(instance_uuid)
        if older is None:
            return
        if not self._undo(older, patient=False):
            raise exception.ClaimHeld(instance_uuid, older.note.owner)

    def _providers(
        self, types: Mapping[str, str], allocations: Mapping[str, Any]
    ) -> list[tuple[dict[str, Any], str]]:
        """Return an allocation and an mdev type for each mdev to provide.

        The type is the one that the allocated provider is configured for:
        it is compared before anything is created.

        :raises MdevTypeMissing: if a type of the guest is not enabled here.
        :raises ProviderTypesDiffer: if they are not the guest's types.
        """
        enabled = self._driver.supported_vgpu_types
        for mdev_type in types.values():
            if mdev_type not in enabled:
                raise exception.MdevTypeMissing(
                    self.host.name, mdev_type, frozenset(enabled)
                )
        found = []
        for provider, allocated in self._driver._vgpu_allocations(
            allocations
        ).items():
            mdev_type = self.host.type_of_provider(provider)
            for name, count in allocated["resources"].items():
                one = {provider: {"resources": {name: 1}}}
                found += [(one, mdev_type)] * count
        offered = Counter(mdev_type for _, mdev_type in found)
        if offered != Counter(types.values()):
            raise exception.ProviderTypesDiffer(
                self.host.name,
                tuple(sorted(types.values())),
                tuple(sorted(offered.elements())),
            )
        return found

    def _allocate(
        self,
        instance_uuid: str,
        providers: Sequence[tuple[dict[str, Any], str]],
        note: claims.Note,
        plans: list[allocation.AllocationPlan],
    ) -> None:
        """Let Nova choose one mdev after the other, claiming each at once.

        Runs under Nova's lock.

        :param plans: gets the plan as it grows, for whoever must undo it.
        """
        existing = {mdev.uuid: mdev for mdev in self.host.inventory().mdevs}
        plan = allocation.AllocationPlan()
        for request, mdev_type in providers:
            chosen = self._allocate_one(request)
            mdev = existing.get(chosen) or model.Mdev(
                chosen, mdev_type, self.host.parent_of(request)
            )
            plan = _extend(plan, mdev, created=chosen not in existing)
            plans.append(plan)
            self._write_claim(instance_uuid, plan, note)
            self.promises.refresh()

    def _allocate_one(self, request: dict[str, Any]) -> str:
        chosen = self.host.allocate(request)
        if not chosen:
            raise exception.AllocationsUnknown("the provider")
        return model.normalise_uuid(chosen[0])

    def _write_claim(
        self,
        instance_uuid: str,
        plan: allocation.AllocationPlan,
        note: claims.Note,
    ) -> None:
        with self.service.claims.claim(
            instance_uuid,
            lambda _held: plan,
            note,
            may_replace=lambda _: None,
            step=phases.Step.CREATE,
        ):
            pass

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

    def prepare_targets(self, instance: Any, migrate_data: Any) -> None:
        """See, just before the guest comes, that its targets are ready.

        :raises PreCheckError: if the claim is gone and one of them was
            given to somebody else.
        :raises TargetMdevGone: if one does not exist.
        """
        targets = objects.received_target_mdevs(migrate_data)
        if not targets:
            return
        uuids = frozenset(targets.values())
        claim = self.service.claims.get(instance.uuid)
        held = {mdev.uuid for mdev in claim.plan.mdevs} if claim else set()
        if not uuids <= held:
            raise exception.TargetMdevsRaced(self.host.name, 1)
        self.service.await_targets(uuids)
        self.service.claims.advance(instance.uuid, phases.Step.MIGRATE)

    # Ends -------------------------------------------------------------

    def finish(self, instance_uuid: str) -> None:
        """Release the claim of a guest that arrived."""
        with (
            self._tolerating("A claim is not released", instance_uuid),
            self._ending,
        ):
            claim = self.service.claims.get(instance_uuid)
            if claim is not None and claim.note.migration:
                self.service.claims.release(instance_uuid, claim.note)

    def undo(self, instance_uuid: str, migrate_data: Any = None) -> None:
        """Undo what was made for a guest that did not arrive.

        :param migrate_data: of the migration that failed: a claim of a
            later one is left alone.
        """
        with self._tolerating("A claim is not undone", instance_uuid):
            claim = self.service.claims.get(instance_uuid)
            failed = _migration_uuid(migrate_data)
            if claim is not None and failed in (None, claim.note.migration):
                self._undo(claim, patient=True)

    def _undo(self, claim: claims.Claim, *, patient: bool) -> bool:
        """Undo a claim, if it is still the one given; tell if that is all."""
        with self._ending:
            found = self.service.claims.get(claim.instance_uuid)
            if found is None or found.note != claim.note:
                return True
            if not found.note.migration:
                return False
            problems = self.service.roll_back(
                found.instance_uuid,
                found.step,
                found.plan,
                note=found.note,
                patient=patient,
            )
        for problem in problems:
            LOG.warning(
                "A target mdev is kept out of use: %(problem)s",
                {"problem": problem},
                instance_uuid=claim.instance_uuid,
            )
        return not problems

    def drop_ended(self) -> None:
        """End the claims whose migrations are over, however they ended.

        Whoever should have ended them may never have been called: ports
        that could not be bound, an abort in the queue, a restart.

        Trouble is logged: it must not stop the service of a host that has
        other guests, and what is left is looked at again later.
        """
        found: dict[str, claims.Claim] = {}
        with self._tolerating("Claims cannot be read", None):
            found = self.service.claims.all()
        for instance_uuid, claim in found.items():
            with self._tolerating("A claim may have ended", instance_uuid):
                self._drop_if_ended(claim)
        self._refresh()

    def _drop_if_ended(self, claim: claims.Claim) -> None:
        migration = claim.note.migration
        if not migration or not self._nova.is_over(
            migration, str(self._driver.mdev_compute_host)
        ):
            return
        uuids = frozenset(mdev.uuid for mdev in claim.plan.mdevs)
        if self.host.has_guest_with(claim.instance_uuid, uuids):
            self.finish(claim.instance_uuid)
        else:
            self._undo(claim, patient=False)

    @contextlib.contextmanager
    def _tolerating(
        self, text: str, instance_uuid: str | None
    ) -> Iterator[None]:
        """Log whatever goes wrong in the block; then read claims anew."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - tried again each period
            LOG.warning(
                "%(text)s: %(error)s",
                {"text": text, "error": error},
                instance_uuid=instance_uuid,
            )
        self._refresh()

    def _refresh(self) -> None:
        try:
            self.promises.refresh()
        except exception.LedgerError as error:
            LOG.warning("Claims cannot be read: %(error)s", {"error": error})

    # Boots ------------------------------------------------------------

    def allocate_for_boot(self, allocations: Any) -> Any:
        """Let Nova choose mdevs for a boot, and remember its choice."""
        self._refresh()
        with self._nova.vgpu_lock():
            chosen = self.host.allocate(allocations)
            self.promises.hold(chosen or ())
            return chosen

    # Whose directory --------------------------------------------------

    @contextlib.contextmanager
    def sparing_directory(self, migrate_data: Any) -> Iterator[bool]:
        """Guard an instance's directory that both hosts share.

        Where a claim is the only reason to clean up, some releases delete
        the directory of the guest that runs on the other host (Launchpad
        bug 2080436).

        :returns: whether it is guarded within the block.
        """
        spare = has_mdevs(migrate_data) and bool(
            getattr(migrate_data, "is_shared_instance_path", False)
        )
        outer = self.spares_directory
        self._thread.spare = outer or spare
        try:
            yield self.spares_directory
        finally:
            self._thread.spare = outer

    @property
    def spares_directory(self) -> bool:
        """Tell whether this thread must not delete a directory."""
        return bool(getattr(self._thread, "spare", False))


def _migration_uuid(migrate_data: Any) -> str | None:
    """Return which migration migrate data is about, None if unknown."""
    if migrate_data is None or "migration" not in migrate_data:
        return None
    found = getattr(migrate_data.migration, "uuid", None)
    return None if found is None else str(found)


def has_mdevs(migrate_data: Any) -> bool:
    """Tell whether migrate data is about a guest with mdevs."""
    return any(
        migrate_data is not None
        and name in migrate_data
        and bool(getattr(migrate_data, name))
        for name in ("source_mdev_types", "target_mdevs")
    )


def target_mdevs(migrate_data: Any) -> dict[str, str]:
    """Return the target mdev of each source mdev, checked."""
    if not has_mdevs(migrate_data):
        return {}
    types = wire.check_source_mdev_types(migrate_data.source_mdev_types)
    return wire.check_target_mdevs(migrate_data.target_mdevs, types)


def _extend(
    plan: allocation.AllocationPlan, mdev: model.Mdev, *, created: bool
) -> allocation.AllocationPlan:
    if created:
        return allocation.AllocationPlan(plan.reuse, (*plan.create, mdev))
    return allocation.AllocationPlan((*plan.reuse, mdev), plan.create)


def _extra_specs(instance: Any) -> Mapping[str, str]:
    flavor = getattr(instance, "flavor", None)
    specs: Mapping[str, str] = getattr(flavor, "extra_specs", None) or {}
    return specs
