# SPDX-License-Identifier: Apache-2.0
"""A compute service's part: what the hooks of the driver mixin do.

Works on a LibvirtDriver through the few methods and attributes named here,
which are the same from Nova 25 to 34; Nova itself is never imported.
"""

from __future__ import annotations

import contextlib
import threading
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
        self._thread = threading.local()
        self._booting: dict[str, str] = {}
        self._starting = False

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
        guest_mdevs = self.host.guest_mdevs(instance)
        if not guest_mdevs:
            return {}
        facts = self.host.facts()
        precheck.refuse(precheck.check_versions("source", facts))
        self._check_destination_answer(migrate_data)
        if "accel:device_profile" in _extra_specs(instance):
            raise exception.MdevsNotOurs(str(instance.uuid), "Cyborg")
        guest = self.host.guest(instance)
        precheck.check_viommu(
            guest, guest_xml.read_viommu(self.host.domain_xml(instance))
        )
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
            name.startswith("resources") and name.partition(":")[2] in classes
            for name in _extra_specs(instance)
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
        migration_uuid: str,
    ) -> dict[str, str] | None:
        """Choose and claim a target mdev for every source mdev.

        Nova's own allocation does the choosing, from the providers that
        Placement allocated; the claim is written before Nova's lock is
        given up, so that neither a boot nor another migration chooses the
        same mdev.

        :returns: target by source mdev UUID; None if the guest has no mdevs.
        :raises PreCheckError: if they cannot be had.
        """
        types = objects.received_source_mdev_types(migrate_data)
        if not types:
            if allocations and self._driver._vgpu_allocations(allocations):
                raise exception.PeerTooOld(
                    "source", "without mdev types", "one for every mdev"
                )
            return None
        if not allocations:
            raise exception.AllocationsUnknown(str(instance.uuid))
        self.drop_ended()
        self._undo_older(instance.uuid)
        providers = self._providers(types, allocations)
        with self._nova.vgpu_lock():
            targets = self._allocate(instance.uuid, providers, migration_uuid)
        return self._pair(instance.uuid, types, targets)

    def _undo_older(self, instance_uuid: str) -> None:
        """Undo an older claim: its check's answer was lost, or not used.

        :raises ClaimHeld: if that cannot be done (yet): a claim in its
            place would let its mdevs into use.
        """
        older = self.service.claims.get(instance_uuid)
        if older is None:
            return
        if self.service.roll_back(instance_uuid, older.step, older.plan):
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
        migration_uuid: str,
    ) -> tuple[model.Mdev, ...]:
        """Let Nova choose one mdev after the other, claiming each at once.

        Runs under Nova's lock. If one cannot be had, those before it are
        given back.
        """
        existing = {mdev.uuid: mdev for mdev in self.host.inventory().mdevs}
        plan = allocation.AllocationPlan()
        note = claims.Note(
            owner=f"nova-compute on {self.host.name}",
            migration=migration_uuid,
            destination=self.host.name,
        )
        try:
            for request, mdev_type in providers:
                chosen = self._allocate_one(request)
                mdev = existing.get(chosen) or model.Mdev(
                    chosen, mdev_type, self.host.parent_of(request)
                )
                plan = _extend(plan, mdev, created=chosen not in existing)
                self._write_claim(instance_uuid, plan, note)
        except BaseException:
            self.service.roll_back(
                instance_uuid,
                phases.Step.CREATE,
                plan,
                note=note,
                unanswered=bool(plan.create),
            )
            raise
        return plan.mdevs

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
        try:
            pairs = pairing.pair_mdevs(wanted, targets)
        except exception.TargetMdevMissing:
            self.undo(instance_uuid)
            raise
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
        self.service.claims.release(instance_uuid)

    def undo(self, instance_uuid: str) -> None:
        """Undo what was made for a guest that did not arrive."""
        claim = self.service.claims.get(instance_uuid)
        if claim is None:
            return
        for problem in self.service.roll_back(
            instance_uuid, claim.step, claim.plan
        ):
            LOG.warning(
                "A target mdev is kept out of use: %(problem)s",
                {"problem": problem},
                instance_uuid=instance_uuid,
            )

    def drop_ended(self) -> None:
        """End the claims whose migrations are over, however they ended.

        Whoever should have ended them may never have been called: ports
        that could not be bound, an abort in the queue, a restart.

        Trouble is logged: it must not stop the service of a host that has
        other guests, and what is left is looked at again later.
        """
        try:
            found = self.service.claims.all()
        except exception.LedgerError as error:
            LOG.warning("Claims cannot be read: %(error)s", {"error": error})
            return
        for instance_uuid, claim in found.items():
            try:
                self._drop_if_ended(claim)
            except Exception as error:  # noqa: BLE001 - tried again later
                LOG.warning(
                    "Whether a claim has ended is not known: %(error)s",
                    {"error": error},
                    instance_uuid=instance_uuid,
                )

    def _drop_if_ended(self, claim: claims.Claim) -> None:
        migration = claim.note.migration
        if not migration or not self._nova.is_over(
            migration, self._driver_host()
        ):
            return
        if self.host.has_guest(claim.instance_uuid):
            self.finish(claim.instance_uuid)
        else:
            self.undo(claim.instance_uuid)

    def _driver_host(self) -> str:
        return str(self._driver.mdev_compute_host)

    # Who holds what ---------------------------------------------------

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Leave claims out while the service starts.

        Up to Nova 31 it creates the mdevs that its guests are assigned and
        that are gone after a reboot; of one that no guest has, it does not
        find the type, and the service does not start.
        """
        self._starting = True
        try:
            yield
        finally:
            self._starting = False

    def claimed(self) -> dict[str, list[str]]:
        """Return the UUIDs of claimed mdevs by instance UUID."""
        if self._starting:
            return {}
        return {
            uuid: [mdev.uuid for mdev in claim.plan.mdevs]
            for uuid, claim in self.service.claims.all().items()
        }

    def add_promised(self, assigned: dict[str, str]) -> dict[str, str]:
        """Add mdevs that are promised to those that guests hold.

        :param assigned: instance UUID by mdev UUID, as the driver says.
        """
        claimed = {
            mdev_uuid: instance_uuid
            for instance_uuid, mdevs in self.claimed().items()
            for mdev_uuid in mdevs
        }
        return {**self._booting, **claimed, **assigned}

    def drop_promised(
        self, assigned: dict[str, str], instance: Any
    ) -> dict[str, str]:
        """Leave of an instance's mdevs only those its guest has.

        A claim is a promise to an incoming guest. A guest that is rebuilt
        here must not get promised mdevs besides its own.
        """
        claim = self.service.claims.get(instance.uuid)
        if claim is None:
            return assigned
        promised = {mdev.uuid for mdev in claim.plan.mdevs}
        own = set()
        if self.host.has_guest(instance.uuid):
            own = {mdev.uuid for mdev in self.host.guest_mdevs(instance)}
        return {
            uuid: holder
            for uuid, holder in assigned.items()
            if uuid not in promised or uuid in own
        }

    @contextlib.contextmanager
    def booting(self, instance: Any) -> Iterator[None]:
        """Hold what Nova allocates for a boot until its guest has it.

        Nova gives up its lock before it defines the guest.
        """
        outer = getattr(self._thread, "instance", None)
        self._thread.instance = instance.uuid
        try:
            yield
        finally:
            self._thread.instance = outer
            for uuid, holder in list(self._booting.items()):
                if holder == instance.uuid:
                    self._booting.pop(uuid, None)

    def allocate_for_boot(self, allocations: Any) -> Any:
        """Let Nova choose mdevs for a boot, and remember its choice."""
        with self._nova.vgpu_lock():
            chosen = self.host.allocate(allocations)
            instance_uuid = getattr(self._thread, "instance", None)
            if instance_uuid is not None:
                for uuid in chosen or ():
                    self._booting[uuid] = instance_uuid
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
