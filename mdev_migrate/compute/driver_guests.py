# SPDX-License-Identifier: Apache-2.0
"""A compute node's guests as its LibvirtDriver shows them."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from oslo_log import log

from mdev_migrate import exception, libvirt_errors, model
from mdev_migrate.compute import objects
from mdev_migrate.core import guest_xml, transport
from mdev_migrate.limits import Limits

LOG = log.getLogger(__name__)

#: Two of Nova's numbers of power states.
_RUNNING, _PAUSED = 1, 3

_Read = TypeVar("_Read")


class DriverGuests:
    """Reads the guests of a host through its LibvirtDriver."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    @property
    def name(self) -> str:
        """The compute's name, known even while libvirt is not reached."""
        return str(self._driver.mdev_compute_host)

    def domain_xml(self, instance: Any) -> str:
        """Return the live definition of an instance's guest."""
        guest = self._driver._host.get_guest(instance)
        return str(guest.get_xml_desc())

    def guest(
        self, instance: Any, guest_mdevs: Iterable[model.GuestMdev]
    ) -> model.Guest:
        """Return an instance's guest, which runs and has these mdevs."""
        return model.Guest(
            name=objects.instance_uuid(instance),
            instance_uuid=objects.instance_uuid(instance),
            active=True,
            running=True,
            persistent=True,
            mdevs=frozenset(mdev.uuid for mdev in guest_mdevs),
        )

    def ask_blockers(self, instance: Any) -> str | None:
        """Return what blocks a guest's migration, empty if nothing does.

        :returns: None if that could not be asked.
        """
        try:
            # As Nova does, for services that have no libvirt beneath them.
            module = importlib.import_module("mdev_migrate.libvirt_host")
            host = module.LibvirtHost(
                self.name,
                opener=lambda _uri: self._driver._host.get_connection(),
            )
            flags = transport.LIVE | transport.PEER2PEER
            reason = host.ask_blockers(objects.instance_uuid(instance), flags)
        except Exception as error:  # noqa: BLE001 - the document decides then
            LOG.warning(
                "Could not ask what blocks the migration: %s",
                error,
                instance_uuid=objects.instance_uuid(instance),
            )
            return None
        return str(reason or "")

    def find_again(self, instance: Any, limits: Limits) -> Any:
        """Return Nova's guest by a connection that works.

        :raises libvirtError: if libvirt has no such guest.
        :raises Exception: as Nova's, if libvirt does not come back within
            ``limits.settle_s``.
        """
        deadline = time.monotonic() + limits.settle_s
        host, uuid = self._driver._host, objects.instance_uuid(instance)
        pauses = limits.pauses()
        while True:
            try:
                # Of a guest that is gone, Nova's own error does not say so.
                host.get_connection().lookupByUUIDString(uuid)
                return host.get_guest(instance)
            except Exception as error:
                gone = libvirt_errors.number_of(error) in libvirt_errors.GONE
                if gone or time.monotonic() >= deadline:
                    raise
            time.sleep(next(pauses))

    def find_guest(
        self, instance_uuid: str, mdevs: frozenset[str]
    ) -> model.Guest | None:
        """Return an instance's guest that has any of the mdevs, or none.

        It may be shut off, or the paused half of one that is on its way.
        """
        for guest in self._each(self._read_guest, instance_uuid):
            if mdevs & guest.mdevs:
                return guest
        return None

    def _guests(self) -> tuple[model.Guest, ...]:
        """Return the guests that have mdevs, be they shut off.

        :raises LibvirtFailed: if they cannot be listed.
        """
        found = self._each(self._read_guest)
        return tuple(guest for guest in found if guest.mdevs)

    def named_mdevs(self) -> dict[str, str]:
        """Return the guest of each mdev that one names in any way.

        Whether it runs is not asked: a guest that is shut off, or that is
        gone when it is, has one document, which is read twice.

        :raises LibvirtFailed: if guests cannot be listed.
        """
        named = self._each(
            lambda guest: (
                str(guest.uuid),
                self._named(guest, guest.get_xml_desc())
                | self._named(guest, guest.get_xml_desc(dump_inactive=True)),
            )
        )
        return {uuid: guest for guest, uuids in named for uuid in uuids}

    def _each(
        self, read: Callable[[Any], _Read], instance_uuid: str | None = None
    ) -> list[_Read]:
        """Read every guest; one that is deleted meanwhile is left out.

        :param instance_uuid: read the guest of that instance alone.
        :raises LibvirtFailed: if they cannot be listed.
        """
        try:
            return list(self._read_each(read, instance_uuid))
        except Exception as error:
            raise exception.LibvirtFailed(
                self.name, "listing guests", 0, str(error)
            ) from error

    def _read_each(
        self, read: Callable[[Any], _Read], instance_uuid: str | None
    ) -> Iterator[_Read]:
        host = self._driver._host
        for guest in host.list_guests(only_running=False):
            if instance_uuid not in (None, str(guest.uuid)):
                continue
            try:
                yield read(guest)
            except Exception:
                left = host.list_guests(only_running=False)
                if guest.uuid in {each.uuid for each in left}:
                    raise

    @staticmethod
    def _named(guest: Any, text: str) -> frozenset[str]:
        try:
            return guest_xml.named_mdevs(text)
        except exception.XmlMalformed as error:
            raise exception.XmlMalformed(
                f"{error.document} of {guest.uuid}", error.reason
            ) from None

    def _read_guest(self, guest: Any) -> model.Guest:
        state = guest.get_power_state(self._driver._host)
        active = state in (_RUNNING, _PAUSED)
        persistent = bool(guest.has_persistent_configuration())
        documents = [guest.get_xml_desc()]
        if active and persistent:
            documents.append(guest.get_xml_desc(dump_inactive=True))
        mdevs = [self._named(guest, text) for text in documents]
        return model.Guest(
            name=str(guest.uuid),
            instance_uuid=str(guest.uuid),
            active=active,
            running=state == _RUNNING,
            persistent=persistent,
            mdevs=frozenset().union(*mdevs),
        )
