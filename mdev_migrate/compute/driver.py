# SPDX-License-Identifier: Apache-2.0
"""The mixin that gives a Nova LibvirtDriver mdev live migration.

Each hook calls the stock driver and delegates to :class:`MdevCompute`. A
guest without mdevs goes through the stock code alone. Signatures are those
of Nova's ComputeDriver and LibvirtDriver, 25 to 34.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from mdev_migrate import exception
from mdev_migrate.compute import objects
from mdev_migrate.compute.compute import MdevCompute
from mdev_migrate.compute.guest_wrapper import MonitoredGuest, OutgoingGuest
from mdev_migrate.compute.holdings import HoldingsMixin
from mdev_migrate.compute.shared_directory import SharedDirectoryMixin
from mdev_migrate.core.phases import Step


class MdevLiveMigrationMixin(HoldingsMixin, SharedDirectoryMixin):
    """Live migration of guests with mdevs, for a LibvirtDriver.

    Must come before the stock class in the bases of the composed class,
    which provides :meth:`_make_mdev_compute`.

    :ivar mdev_compute: does the work.
    :ivar mdev_monitored: the guests with mdevs that are leaving, by
        instance UUID.
    :ivar mdev_aborted: UUIDs of those that somebody wants to stay.
    """

    mdev_compute: MdevCompute

    def __init__(self, virtapi: Any, read_only: bool = False) -> None:
        super().__init__(virtapi, read_only)
        self._prepare_mdevs()

    def _prepare_mdevs(self) -> None:
        """Make what the hooks need, once the stock driver is made."""
        super()._prepare_mdevs()
        self.mdev_compute = self._make_mdev_compute()
        self.mdev_compute.host.listing.wrap(self._host)
        self.mdev_monitored: dict[str, MonitoredGuest] = {}
        self.mdev_aborted: set[str] = set()

    def _make_mdev_compute(self) -> MdevCompute:
        """Return what does the work; the composed class knows Nova."""
        raise NotImplementedError

    @property
    def mdev_compute_host(self) -> str:
        """The name of this compute service."""
        return str(self.virtapi._compute.host)

    def init_host(self, host: str) -> None:
        """End what ended while this service was down."""
        super().init_host(host)
        self.mdev_compute.ends.drop_ended()

    def get_available_resource(self, nodename: str) -> Any:
        """End, once in each period, what nobody else ended."""
        self.mdev_compute.ends.drop_ended()
        return super().get_available_resource(nodename)

    # Pre-checks -------------------------------------------------------

    def check_can_live_migrate_destination(
        self,
        context: Any,
        instance: Any,
        src_compute_info: Any,
        dst_compute_info: Any,
        block_migration: bool = False,
        disk_over_commit: bool = False,
    ) -> Any:
        """Destination: say whether this host takes guests with mdevs."""
        wanted = self.mdev_compute.flavors.wants_mdevs(instance)
        if wanted:
            with self.mdev_compute.refusals(instance, step=Step.CHECK):
                self.mdev_compute.check_destination(instance)
        data = super().check_can_live_migrate_destination(
            context,
            instance,
            src_compute_info,
            dst_compute_info,
            block_migration,
            disk_over_commit,
        )
        if wanted:
            data.dst_supports_mdev_live_migration = True
        return data

    def check_can_live_migrate_source(
        self,
        context: Any,
        instance: Any,
        dest_check_data: Any,
        block_device_info: Any = None,
    ) -> Any:
        """Source: refuse, or tell the type of each mdev."""
        with self.mdev_compute.refusals(instance, step=Step.CHECK):
            types = self.mdev_compute.source_mdev_types(
                instance, dest_check_data
            )
            if types:
                self._check_mdev_options()
        data = super().check_can_live_migrate_source(
            context, instance, dest_check_data, block_device_info
        )
        if types:
            data.source_mdev_types = types
        return data

    def check_source_migrate_data_at_dest(
        self,
        ctxt: Any,
        instance: Any,
        migrate_data: Any,
        migration: Any,
        limits: Any,
        allocs: Any,
    ) -> Any:
        """Destination: claim a target mdev for every source mdev.

        Stands in for Nova's own step of that name (29 and later).
        """
        migration_uuid = objects.known(migration, "uuid")
        with self.mdev_compute.refusals(
            instance, migration_uuid, step=Step.CLAIM
        ):
            targets = self.mdev_compute.targets.claim(
                instance, migrate_data, allocs, migration
            )
        if targets is not None:
            migrate_data.target_mdevs = targets
            return migrate_data
        stock = getattr(super(), "check_source_migrate_data_at_dest", None)
        if stock is None:
            return migrate_data
        return stock(ctxt, instance, migrate_data, migration, limits, allocs)

    # The migration ----------------------------------------------------

    def pre_live_migration(
        self,
        context: Any,
        instance: Any,
        block_device_info: Any,
        network_info: Any,
        disk_info: Any,
        migrate_data: Any,
    ) -> Any:
        """Destination: see that the target mdevs are ready."""
        if objects.has_mdevs(migrate_data):
            uuid = objects.migration_uuid(migrate_data)
            with self.mdev_compute.refusals(instance, uuid, step=Step.PREPARE):
                self.mdev_compute.targets.prepare(instance, migrate_data)
        return super().pre_live_migration(
            context,
            instance,
            block_device_info,
            network_info,
            disk_info,
            migrate_data,
        )

    def _live_migration_operation(
        self,
        context: Any,
        instance: Any,
        dest: Any,
        block_migration: Any,
        migrate_data: Any,
        guest: Any,
        device_names: Any,
    ) -> Any:
        """Source: migrate the guest onto its target mdevs.

        An error is logged and not raised: the monitor finds out how the
        migration ended and recovers the guest. Raised from here it would,
        since Nova 32.2, put a guest that runs well into ERROR besides.
        """
        stock = super()._live_migration_operation

        def operate(guest: Any) -> Any:
            return stock(
                context,
                instance,
                dest,
                block_migration,
                migrate_data,
                guest,
                device_names,
            )

        if not objects.has_mdevs(migrate_data):
            return operate(guest)
        began = time.monotonic()
        code = self._leave_with_mdevs(
            instance, str(dest), migrate_data, guest, operate
        )
        watched = self.mdev_monitored.get(str(instance.uuid))
        self.mdev_compute.metrics.left(
            instance,
            (objects.received_source_mdev_types(migrate_data) or {}).values(),
            time.monotonic() - began,
            code,
            watched.device_bytes if watched else None,
        )
        return None

    def _leave_with_mdevs(
        self,
        instance: Any,
        dest: str,
        migrate_data: Any,
        guest: Any,
        operate: Callable[[Any], Any],
    ) -> str:
        """Migrate a guest onto its target mdevs.

        :param operate: migrates the guest that it is given.
        :returns: the code of why the guest stayed; empty if it has left.
        """
        told = objects.migration_log(instance, migrate_data)
        self.mdev_aborted.discard(str(instance.uuid))
        try:
            targets = objects.received_target_mdevs(migrate_data)
            told.begins(dest, targets, self._mdev_max_downtime_ms())
            operate(
                OutgoingGuest(guest, targets, self.mdev_compute_host, told)
            )
            told.has_left()
        except Exception as error:  # noqa: BLE001 - the monitor finds out
            if str(instance.uuid) in self.mdev_aborted:
                told.aborted(error)
                return exception.MigrationAborted.code
            told.failed(error)
            return str(getattr(error, "code", exception.MigrationFailed.code))
        return ""

    def _live_migration_monitor(
        self,
        context: Any,
        instance: Any,
        guest: Any,
        dest: Any,
        post_method: Any,
        recover_method: Any,
        block_migration: Any,
        migrate_data: Any,
        *others: Any,
        **named: Any,
    ) -> Any:
        """Source: watch the migration; never pause or post-copy it.

        What comes last has not the same names in all releases.
        """
        monitored = None
        if objects.has_mdevs(migrate_data):
            uuid = str(instance.uuid)
            monitored = MonitoredGuest(
                guest,
                self._mdev_downtime_factor(),
                objects.migration_log(instance, migrate_data),
                lambda: self.mdev_aborted.add(uuid),
                lambda: self.mdev_compute.host.find_again(
                    instance, self.mdev_compute.limits
                ),
                lambda reason: exception.OutcomeUnknown(
                    uuid, reason, self.mdev_compute_host, str(dest)
                ),
                measured=self.mdev_compute.metrics.wanted,
            )
            self.mdev_monitored[uuid] = monitored
        try:
            return super()._live_migration_monitor(
                context,
                instance,
                monitored or guest,
                dest,
                post_method,
                recover_method,
                block_migration,
                migrate_data,
                *others,
                **named,
            )
        finally:
            if monitored is not None:
                self.mdev_monitored.pop(str(instance.uuid), None)

    def _check_mdev_options(self) -> None:
        """Read what a migration depends on, before it begins.

        :raises OptionInvalid: if it would fail while it is under way.
        """

    def _mdev_downtime_factor(self) -> float:
        """Return how many times longer than others the guest may stop."""
        return 1.0

    def _mdev_max_downtime_ms(self) -> int | None:
        """Return how long the guest may stop at most, None if unknown."""
        return None

    def live_migration_abort(self, instance: Any) -> Any:
        """Source: remember that the guest is to stay, and abort."""
        uuid = objects.instance_uuid(instance)
        if uuid in self.mdev_monitored:
            self.mdev_aborted.add(uuid)
        return super().live_migration_abort(instance)

    def live_migration_force_complete(self, instance: Any) -> Any:
        """Source: neither pause nor post-copy a guest with mdevs.

        A VFIO device does not survive the one, and goes on in the other.
        The monitor asks for this when its time is up: then the migration is
        aborted.
        """
        guest = self.mdev_monitored.get(objects.instance_uuid(instance))
        if guest is None:
            return super().live_migration_force_complete(instance)
        return guest.force_complete()

    # Ends -------------------------------------------------------------

    def post_live_migration_at_destination(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_migration: bool = False,
        block_device_info: Any = None,
    ) -> Any:
        """Destination: release the claim, the guest has its mdevs."""
        try:
            return super().post_live_migration_at_destination(
                context,
                instance,
                network_info,
                block_migration,
                block_device_info,
            )
        finally:
            self.mdev_compute.finish(instance)

    def rollback_live_migration_at_destination(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_device_info: Any,
        destroy_disks: bool = True,
        migrate_data: Any = None,
    ) -> Any:
        """Destination: undo what was made for the guest."""
        try:
            with self._mdev_sparing_directory(migrate_data):
                return super().rollback_live_migration_at_destination(
                    context,
                    instance,
                    network_info,
                    block_device_info,
                    destroy_disks,
                    migrate_data,
                )
        finally:
            self.mdev_compute.ends.undo(
                objects.instance_uuid(instance), migrate_data
            )

    def cleanup_lingering_instance_resources(self, instance: Any) -> Any:
        """Undo what was made for an instance that was deleted meanwhile."""
        self.mdev_compute.ends.undo(objects.instance_uuid(instance))
        return super().cleanup_lingering_instance_resources(instance)
