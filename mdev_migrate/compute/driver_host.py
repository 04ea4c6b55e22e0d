# SPDX-License-Identifier: Apache-2.0
"""A compute node's host as its LibvirtDriver shows it.

Only these of the driver's methods are used, which are the same from Nova 25
to 34: ``_get_mediated_devices``, ``_get_vgpu_type_per_pgpu``,
``_allocate_mdevs``, ``_create_new_mediated_device``, ``provider_tree`` and
``_host``.
"""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Collection, Iterator
from typing import Any

from oslo_log import log

from mdev_migrate import exception, libvirt_claims, libvirt_jobs, model
from mdev_migrate.compute.driver_guests import DriverGuests
from mdev_migrate.compute.listing import Listing, mdev_uuid
from mdev_migrate.limits import Limits

LOG = log.getLogger(__name__)

_KERNEL = pathlib.Path("/proc/sys/kernel/osrelease")


class DriverHost(DriverGuests):
    """Reads and changes a host through a LibvirtDriver.

    :ivar claims: see ``host.Claims``.
    :ivar listing: what the driver's host lists.
    """

    def __init__(self, driver: Any) -> None:
        super().__init__(driver)
        self.listing = Listing()
        self._lend = libvirt_claims.lend(self._connection, lambda: self.name)
        self.claims = libvirt_claims.LibvirtClaims(
            self._calling, lambda: self.name
        )

    def _connection(self) -> Any:
        """Return the driver's connection, which it keeps open."""
        return self._driver._host.get_connection()

    @contextlib.contextmanager
    def _calling(self, operation: str) -> Iterator[Any]:
        """Lend the connection; Nova's own errors are ours too.

        :raises LibvirtFailed: for whatever goes wrong in the block.
        """
        try:
            with self._lend(operation) as connection:
                yield connection
        except exception.MdevMigrateError:
            raise
        except Exception as error:
            raise exception.LibvirtFailed(
                self.name, operation, 0, str(error)
            ) from error

    @property
    def has_types(self) -> bool:
        """Tell whether the host has any mdev types: most have none."""
        return bool(self._driver.supported_vgpu_types)

    def facts(self) -> model.HostFacts:
        """Return who the host is and what runs on it."""
        connection = self._connection()
        return model.HostFacts(
            name=self.name,
            host_uuid=str(self._driver._host.get_capabilities().host.uuid),
            libvirt=model.Version.unpack(connection.getLibVersion()),
            qemu=model.Version.unpack(connection.getVersion()),
            kernel=_KERNEL.read_text().strip(),
        )

    def completed(self, instance_uuid: str) -> model.JobProgress | None:
        """Return the statistics of a guest's last job, None if it had none.

        :raises LibvirtFailed: if they cannot be read.
        """
        with self._calling("virDomainGetJobStats") as connection:
            domain = connection.lookupByUUIDString(instance_uuid)
            return libvirt_jobs.completed(domain)

    def migration_flags(self) -> int:
        """Return how Nova asks libvirt to migrate guests from here."""
        return int(self._driver._live_migration_flags)

    def inventory(self) -> model.Inventory:
        """Return active mdevs, the guests that have any, and all claims.

        Every domain is read for it: where guests do not matter, and under
        Nova's lock, :meth:`mdevs` does. Parents are Nova's to know.

        :raises LibvirtFailed: if they cannot be listed.
        """
        return model.Inventory(
            host=self.name,
            parents=(),
            mdevs=self.mdevs(),
            guests=self._guests(),
            claims=self.claims.read(),
        )

    def inventory_of(self, mdev_uuids: Collection[str]) -> model.Inventory:
        """Return some active mdevs; see ``host.MdevHost``.

        :raises LibvirtFailed: if mdevs cannot be listed.
        """
        return model.Inventory(
            self.name, parents=(), mdevs=self.mdevs(mdev_uuids)
        )

    def mdevs(
        self, uuids: Collection[str] | None = None
    ) -> tuple[model.Mdev, ...]:
        """Return the host's active mdevs.

        :param uuids: of those that are asked for: others are not looked at.
        :raises LibvirtFailed: if they cannot be listed.
        """
        return tuple(mdev for _, mdev in self._devices(uuids))

    def await_mdevs(self, uuids: frozenset[str], limits: Limits) -> None:
        """Wait until mdevs are listed as active, by their names alone.

        :raises TargetMdevGone: if one is not within ``limits.listed_s``.
        """
        deadline = time.monotonic() + limits.listed_s
        for pause_s in limits.pauses():
            with self._listing():
                names = self._driver._host.list_mediated_devices() or ()
            uuids -= frozenset(map(mdev_uuid, names))
            if not uuids:
                return
            if time.monotonic() >= deadline:
                raise exception.TargetMdevGone(self.name, uuids)
            time.sleep(pause_s)

    def _devices(
        self, uuids: Collection[str] | None = None
    ) -> list[tuple[str, model.Mdev]]:
        """Return node device name and mdev of every active mdev, or of some.

        :raises LibvirtFailed: if they cannot be listed.
        """
        with self._listing():
            if uuids is None:
                return self._list_devices()
            with self.listing.mdevs(uuids):
                return self._list_devices()

    @contextlib.contextmanager
    def _listing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise exception.LibvirtFailed(
                self.name, "listing mdevs", 0, str(error)
            ) from error

    def _list_devices(self) -> list[tuple[str, model.Mdev]]:
        return [
            (
                str(device["dev_id"]),
                model.Mdev(
                    uuid=model.normalise_uuid(device["uuid"]),
                    mdev_type=device["type"],
                    parent=device["parent"],
                ),
            )
            for device in self._driver._get_mediated_devices()
        ]

    def held_besides(self, assigned: Collection[str]) -> dict[str, str]:
        """Return the mdevs that guests hold and that Nova does not see.

        It looks at the hostdevs of a guest as it runs. Options for QEMU name
        mdevs too, and so does what a guest is to start with next.

        :param assigned: UUIDs of the mdevs that Nova knows to be assigned.
        :returns: the guest's UUID by UUID of the mdev, if that exists.
        :raises LibvirtFailed: if guests or mdevs cannot be listed.
        """
        held = {
            uuid: guest
            for uuid, guest in self.named_mdevs().items()
            if uuid not in assigned
        }
        if not held:
            return {}
        existing = {mdev.uuid for mdev in self.mdevs(held)}
        return {uuid: held[uuid] for uuid in held.keys() & existing}

    # mdevs ------------------------------------------------------------

    def remove_mdev(self, mdev: model.Mdev) -> bool:
        """Destroy an mdev, and undefine it if Nova had defined it.

        :returns: False if it was gone already.
        :raises MdevBusy: if a guest is active on it, or libvirt does not
            destroy it.
        """
        removed = [self._remove(each, mdev) for each in self._find(mdev)]
        return any(removed)

    def recycle_mdev(self, mdev: model.Mdev) -> None:
        """Destroy an mdev, and start it again if it is defined.

        Nova creates what it needs, but what is defined may be an operator's.
        If it does not start, its room has been taken: that is no reason to
        claim it for ever, for nobody is given an mdev that is not active.

        :raises MdevBusy: as :meth:`remove_mdev` does.
        """
        for device in self._find(mdev):
            if self._destroy(device, mdev):
                self._start(str(device.name()), mdev)

    def _find(self, mdev: model.Mdev) -> list[Any]:
        """Return the node devices that are an mdev, if it can be destroyed.

        :raises MdevBusy: if a guest is active on it.
        """
        self._refuse_busy(mdev)
        lookup = self._driver._host.device_lookup_by_name
        found = []
        devices = self._devices([mdev.uuid])
        for name in [name for name, each in devices if each == mdev]:
            with self._gone_or_busy(mdev):
                device = lookup(name)
                if hasattr(device, "destroy"):
                    found.append(device)
                else:
                    LOG.warning("Node devices cannot be removed: %s", name)
        return found

    def _refuse_busy(self, mdev: model.Mdev) -> None:
        """Refuse an mdev that a guest is active on.

        libvirt would not destroy it, but would undefine it.
        """
        for guest in self._guests():
            if guest.active and mdev.uuid in guest.mdevs:
                raise exception.MdevBusy(
                    self.name, mdev.uuid, f"guest {guest.name} has it"
                )

    def _remove(self, device: Any, mdev: model.Mdev) -> bool:
        with self._gone_or_busy(mdev):
            # First: an mdev that is only defined is found by nobody, and
            # is there again when the host has rebooted.
            if device.isPersistent():
                device.undefine(0)
            device.destroy()
        return True

    def _destroy(self, device: Any, mdev: model.Mdev) -> bool:
        """Destroy an mdev; tell whether it is defined."""
        defined = False
        with self._gone_or_busy(mdev):
            defined = bool(device.isPersistent())
            device.destroy()
        return defined

    def _start(self, name: str, mdev: model.Mdev) -> None:
        try:
            # Looked up anew: the connection may be a new one by now.
            self._driver._host.device_lookup_by_name(name).create(0)
        except Exception as error:  # noqa: BLE001 - nobody is given it
            LOG.warning(
                "mdev %(uuid)s is defined and could not be started: %(error)s",
                {"uuid": mdev.uuid, "error": error},
            )

    @contextlib.contextmanager
    def _gone_or_busy(self, mdev: model.Mdev) -> Iterator[None]:
        """Tell of an error in the block only if the mdev is still there.

        :raises MdevBusy: if it is.
        """
        try:
            yield
        except Exception as error:
            if mdev in self.mdevs([mdev.uuid]):
                raise exception.MdevBusy(
                    self.name, mdev.uuid, str(error)
                ) from error
            LOG.debug("mdev %s is gone, but: %s", mdev.uuid, error)

    def reconnect(self) -> None:
        """Do nothing: Nova's host opens its connection anew by itself."""
