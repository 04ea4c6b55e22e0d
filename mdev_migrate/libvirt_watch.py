# SPDX-License-Identifier: Apache-2.0
"""A host's inventory, kept true by libvirt's events.

For programs that ask a host again and again. An event says only that
something changed; what it is about is read anew when somebody asks next. All
is read at the start, and every few minutes against what no event tells.

Available instances have no event. They change with the mdevs of a parent, or
of another function of its card, which offers the same types: so whatever
happens to an mdev, the parents that share a type with its own are read anew.

An inventory that is out of date gives no mdev to two guests: that is decided
by the claim, which libvirt refuses to the second.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import libvirt

from mdev_migrate import libvirt_reading, model
from mdev_migrate.core import claim_xml

#: Seconds between two looks at everything.
FULL_LOOK_S = 300.0
#: The events of a domain that change what an inventory says of it.
_DOMAIN_EVENTS = (
    libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
    libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
    # Claims are written there.
    libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
)
_DEVICE_EVENTS = (
    libvirt.VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE,
    libvirt.VIR_NODE_DEVICE_EVENT_ID_UPDATE,
)
#: The UUID in the name that libvirt gives an mdev.
_MDEV_NAME = re.compile(r"mdev_([0-9a-f]{8}(?:_[0-9a-f]{4}){3}_[0-9a-f]{12})")


class Watch:
    """What a host has, as of its last event.

    :param connection: an open connection, of a process that runs libvirt's
        event loop.
    :param look: reads everything, through that connection.
    :param clock: returns seconds that never go back.
    :raises libvirt.libvirtError: if the host tells no events.
    """

    def __init__(
        self,
        connection: Any,
        look: Callable[[], model.Inventory],
        *,
        full_look_s: float = FULL_LOOK_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._look = look
        self._full_look_s = full_look_s
        self._clock = clock
        self._reading = threading.Lock()
        self._changing = threading.Lock()
        #: Names of devices; name of each domain by its UUID.
        self._devices: set[str] = set()
        self._domains: dict[str, str] = {}
        self._inventory: model.Inventory | None = None
        self._read_at = 0.0
        self._ends: list[Callable[[], None]] = []
        try:
            self._register()
        except BaseException:
            self.close()
            raise

    # Events -----------------------------------------------------------

    def _register(self) -> None:
        host = self._connection
        for event in _DOMAIN_EVENTS:
            number = host.domainEventRegisterAny(
                None, event, self._domain_changed, None
            )
            self._end_by(host.domainEventDeregisterAny, number)
        for event in _DEVICE_EVENTS:
            number = host.nodeDeviceEventRegisterAny(
                None, event, self._device_changed, None
            )
            self._end_by(host.nodeDeviceEventDeregisterAny, number)

    def _end_by(self, end: Callable[[int], None], number: int) -> None:
        self._ends.append(lambda: end(number))

    def _domain_changed(self, _: Any, domain: Any, *_facts: Any) -> None:
        with self._changing:
            self._domains[str(domain.UUIDString())] = str(domain.name())

    def _device_changed(self, _: Any, device: Any, *_facts: Any) -> None:
        with self._changing:
            self._devices.add(str(device.name()))

    def _take_changes(self) -> tuple[set[str], dict[str, str]]:
        with self._changing:
            changes = self._devices, self._domains
            self._devices, self._domains = set(), {}
        return changes

    def close(self) -> None:
        """Hear of no more events."""
        for end in self._ends:
            with contextlib.suppress(libvirt.libvirtError):
                end()
        self._ends.clear()

    # Reading ----------------------------------------------------------

    def inventory(self) -> model.Inventory:
        """Return what the host has, reading what has changed.

        :raises libvirt.libvirtError: if that cannot be read; next time
            everything is.
        :raises MdevMigrateError: as the look at everything does.
        """
        with self._reading:
            known, self._inventory = self._inventory, None
            now = self._clock()
            devices, domains = self._take_changes()
            if known is None or now >= self._read_at + self._full_look_s:
                known = self._look()
                self._read_at = now
            else:
                known = self._read_domains(known, domains)
                known = self._read_devices(known, devices)
            self._inventory = known.in_order()
            return self._inventory

    def _read_devices(
        self, known: model.Inventory, names: Iterable[str]
    ) -> model.Inventory:
        """Read what devices of some names are now."""
        found = {name: _MDEV_NAME.match(name) for name in names}
        uuids = {m[1].replace("_", "-") for m in found.values() if m}
        if not found:
            return known
        before = [mdev for mdev in known.mdevs if mdev.uuid in uuids]
        reading = libvirt_reading.read_mdevs(self._connection, uuids=uuids)
        after = [device.mdev for device in reading.found]
        mdevs = [mdev for mdev in known.mdevs if mdev.uuid not in uuids]
        known = replace(
            known,
            mdevs=(*mdevs, *after),
            unreadable=(
                *(
                    each
                    for each in known.unreadable
                    if not any(map(each.may_be, uuids))
                ),
                *reading.not_read,
            ),
        )
        if None in found.values():
            # A device that mdevs are cut from has come or gone, or another.
            return self._read_parents(known)
        return self._read_room(known, {m.parent for m in (*before, *after)})

    def _read_parents(self, known: model.Inventory) -> model.Inventory:
        reading = libvirt_reading.read_parents(self._connection)
        return replace(
            known,
            parents=tuple(reading.found),
            unreadable=(
                *(e for e in known.unreadable if e.kind != "parent"),
                *reading.not_read,
            ),
        )

    def _read_room(
        self, known: model.Inventory, changed: set[str]
    ) -> model.Inventory:
        """Read parents anew whose room a change on some parents concerns."""
        names = concerned(known.parents, changed)
        reading = libvirt_reading.read_parents(self._connection, names)
        others = (p for p in known.parents if p.name not in names)
        return replace(
            known,
            parents=(*others, *reading.found),
            unreadable=(*known.unreadable, *reading.not_read),
        )

    def _read_domains(
        self, known: model.Inventory, changed: Mapping[str, str]
    ) -> model.Inventory:
        """Read what domains of some UUIDs are now; their names are given."""
        if not changed:
            return known
        claims = known.claims
        if any(map(claim_xml.is_named_so, changed.values())):
            claims = libvirt_reading.read_claims(self._connection)
        guests = {
            uuid: name
            for uuid, name in changed.items()
            if name not in claims.names()
        }
        reading = libvirt_reading.find_guests(self._connection, guests)
        others = (g for g in known.guests if g.instance_uuid not in changed)
        names = set(changed.values())
        return replace(
            known,
            claims=claims,
            guests=(*others, *reading.found),
            unreadable=(
                *(
                    each
                    for each in known.unreadable
                    if each.kind != "guest" or each.name not in names
                ),
                *reading.not_read,
            ),
        )


def concerned(
    parents: Iterable[model.Parent], changed: Collection[str]
) -> frozenset[str]:
    """Return which parents' room a change on some parents concerns.

    Those that share a type with one of them: they may be functions of the
    same card.
    """
    parents = tuple(parents)
    types = {
        offered.mdev_type
        for parent in parents
        if parent.name in changed
        for offered in parent.types
    }
    return frozenset(
        parent.name
        for parent in parents
        if any(offered.mdev_type in types for offered in parent.types)
    )
