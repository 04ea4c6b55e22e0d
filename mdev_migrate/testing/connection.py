# SPDX-License-Identifier: Apache-2.0
"""What does ``libvirt.open`` give for a simulated host?

:class:`SimulatedConnection` has the names and signatures of libvirt-python's
``virConnect``, as far as they are simulated.
"""

import functools
import uuid as uuids
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import libvirt

from mdev_migrate.testing import errors, markup
from mdev_migrate.testing.handles import SimulatedDomain, SimulatedNodeDevice
from mdev_migrate.testing.link import Link, remote

if TYPE_CHECKING:
    from mdev_migrate.testing.simulated_host import SimulatedHost

_CAPABILITY_FLAGS = {
    "system": libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_SYSTEM,
    "pci": libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV,
    "mdev": libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV,
    "mdev_types": libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV_TYPES,
}
_ACTIVE = libvirt.VIR_CONNECT_LIST_NODE_DEVICES_ACTIVE
_INACTIVE = libvirt.VIR_CONNECT_LIST_NODE_DEVICES_INACTIVE
#: VIR_CONNECT_LIST_NODE_DEVICES_PERSISTENT and _TRANSIENT, libvirt 10.1.0.
_PERSISTENT, _TRANSIENT = 1 << 28, 1 << 29


@dataclass(frozen=True, slots=True)
class _Subscription:
    """A callback that a client registered.

    :ivar key: UUID of the guest or name of the device; all if empty.
    """

    key: str
    event: int
    callback: Callable[..., Any]
    opaque: Any


class SimulatedConnection:
    """An open connection to a simulated host, in place of ``virConnect``.

    :ivar keepalive: seconds between keepalive messages, and how many may go
        unanswered; None without any.
    """

    def __init__(self, host: "SimulatedHost", uri: str) -> None:
        self.host = host
        self.link = Link(host)
        self._uri = uri
        self.keepalive: tuple[int, int] | None = None
        self._devices: dict[int, _Subscription] = {}
        self._guests: dict[int, _Subscription] = {}
        self._next_id = 0

    # About the connection.

    @remote
    def getHostname(self) -> str:  # noqa: N802
        """Return the host's name."""
        return self.host.hostname

    def getURI(self) -> str:  # noqa: N802
        """Return the URI that the connection was opened by."""
        return self._uri

    def getType(self) -> str:  # noqa: N802
        """Return the name of the hypervisor driver."""
        return "QEMU"

    @remote
    def getVersion(self) -> int:  # noqa: N802
        """Return QEMU's version as one number."""
        return _packed(self.host.qemu_version)

    @remote
    def getLibVersion(self) -> int:  # noqa: N802
        """Return the host's libvirt version as one number."""
        return _packed(self.host.libvirt_version)

    @remote
    def getCapabilities(self) -> str:  # noqa: N802
        """Return the host's capabilities document."""
        return markup.capabilities_document(self.host.host_uuid)

    @remote
    def getMemoryStats(  # noqa: N802
        self,
        cellNum: int,  # noqa: N803, ARG002
        flags: int | None = 0,  # noqa: ARG002
    ) -> dict[str, int]:
        """Return how much memory there is, and how much of it is free."""
        total, free = self.host.memory_kib, self.host.free_memory_kib()
        return {"total": total, "free": free, "buffers": 0, "cached": 0}

    def isAlive(self) -> int:  # noqa: N802
        """Return 1 as long as calls reach the host."""
        return int(self.link.alive and not self.host.crashed)

    def close(self) -> int:
        """Close the connection; its callbacks are gone."""
        self.link.close()
        with self.host.changing():
            if self in self.host.connections:
                self.host.connections.remove(self)
        return 0

    def setKeepAlive(self, interval: int, count: int) -> int:  # noqa: N802
        """Keep the settings; a test says when a host is silent."""
        self.keepalive = (interval, count)
        return 0

    def registerCloseCallback(  # noqa: N802
        self, cb: Callable[..., None], opaque: Any
    ) -> int:
        """Call ``cb(connection, reason, opaque)`` when the link breaks."""

        def broke(reason: int) -> None:
            call = functools.partial(cb, self, reason, opaque)
            with self.host.changing():
                self.host.group.later(call)

        self.link.on_cut(broke)
        return 0

    def unregisterCloseCallback(self) -> None:  # noqa: N802
        """Forget the callback for a broken link."""
        self.link.on_cut(None)

    # Node devices.

    @remote
    def listAllDevices(  # noqa: N802
        self, flags: int | None = 0
    ) -> list[SimulatedNodeDevice]:
        """List the node devices that the flags select: all by default."""
        selected = flags or 0
        if self.host.libvirt_version < (10, 1, 0):
            _refuse_flags(selected & (_PERSISTENT | _TRANSIENT))
        return [
            SimulatedNodeDevice(self, name)
            for name in self.host.devices.listed()
            if self._matches(name, selected)
        ]

    @remote
    def nodeDeviceLookupByName(  # noqa: N802
        self, name: str
    ) -> SimulatedNodeDevice:
        """Find a node device."""
        if name not in self.host.devices.names():
            raise errors.no_device(name)
        return SimulatedNodeDevice(self, name)

    @remote
    def nodeDeviceCreateXML(  # noqa: N802
        self,
        xmlDesc: str,  # noqa: N803
        flags: int | None = 0,  # noqa: ARG002
    ) -> SimulatedNodeDevice:
        """Create a transient mdev."""
        return SimulatedNodeDevice(self, self.host.devices.create(xmlDesc))

    @remote
    def nodeDeviceDefineXML(  # noqa: N802
        self,
        xmlDesc: str,  # noqa: N803
        flags: int | None = 0,  # noqa: ARG002
    ) -> SimulatedNodeDevice:
        """Define an mdev that survives a reboot, without starting it."""
        return SimulatedNodeDevice(self, self.host.devices.define(xmlDesc))

    @remote
    def nodeDeviceEventRegisterAny(  # noqa: N802
        self,
        dev: SimulatedNodeDevice | None,
        eventID: int,  # noqa: N803
        cb: Callable[..., Any],
        opaque: Any,
    ) -> int:
        """Call ``cb(connection, device, event, detail, opaque)`` later."""
        key = "" if dev is None else dev.name()
        subscription = _Subscription(key, eventID, cb, opaque)
        return self._register(self._devices, subscription)

    @remote
    def nodeDeviceEventDeregisterAny(  # noqa: N802
        self,
        callbackID: int,  # noqa: N803
    ) -> None:
        """Forget a node device callback."""
        _deregister(self._devices, callbackID)

    # Guests.

    @remote
    def listAllDomains(  # noqa: N802
        self, flags: int | None = 0
    ) -> list[SimulatedDomain]:
        """List the guests that the flags select: all by default."""
        uuids_found = self.host.guests.engine.uuids(flags or 0)
        return [self._domain(uuid) for uuid in uuids_found]

    @remote
    def lookupByName(self, name: str) -> SimulatedDomain:  # noqa: N802
        """Find a guest by its name."""
        engine = self.host.guests.engine
        for uuid in engine.uuids():
            if engine.name(uuid) == name:
                return SimulatedDomain(self, uuid, name)
        raise errors.no_domain(f"no domain with matching name '{name}'")

    @remote
    def lookupByID(self, id: int) -> SimulatedDomain:  # noqa: A002, N802
        """Find an active guest by its number."""
        engine = self.host.guests.engine
        for uuid in engine.uuids(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
            if engine.guest(uuid).ID() == id:
                return self._domain(uuid)
        raise errors.no_domain(f"no domain with matching id {id}")

    @remote
    def lookupByUUIDString(self, uuidstr: str) -> SimulatedDomain:  # noqa: N802
        """Find a guest by its UUID."""
        try:
            uuid = str(uuids.UUID(uuidstr))
        except ValueError:
            self.host.guests.engine.refuse_uuid(uuidstr)
            raise
        if not self.host.guests.engine.holds(uuid):
            raise errors.no_domain(f"no domain with matching uuid '{uuid}'")
        return self._domain(uuid)

    @remote
    def defineXML(self, xml: str) -> SimulatedDomain:  # noqa: N802
        """Define a guest, or change its definition."""
        return self._domain(self.host.guests.define(xml))

    @remote
    def createXML(  # noqa: N802
        self,
        xmlDesc: str,  # noqa: N803
        flags: int | None = 0,  # noqa: ARG002
    ) -> SimulatedDomain:
        """Start a transient guest."""
        return self._domain(self.host.guests.create(xmlDesc))

    @remote
    def domainEventRegisterAny(  # noqa: N802
        self,
        dom: SimulatedDomain | None,
        eventID: int,  # noqa: N803
        cb: Callable[..., Any],
        opaque: Any,
    ) -> int:
        """Call ``cb`` for lifecycle events or finished jobs."""
        key = "" if dom is None else dom.UUIDString()
        subscription = _Subscription(key, eventID, cb, opaque)
        return self._register(self._guests, subscription)

    @remote
    def domainEventDeregisterAny(  # noqa: N802
        self,
        callbackID: int,  # noqa: N803
    ) -> None:
        """Forget a guest callback."""
        _deregister(self._guests, callbackID)

    # What the host needs.

    def _domain(self, uuid: str) -> SimulatedDomain:
        name = self.host.guests.engine.name(uuid)
        return SimulatedDomain(self, uuid, name)

    def _register(
        self, where: dict[int, _Subscription], subscription: _Subscription
    ) -> int:
        number = self._next_id
        self._next_id += 1
        where[number] = subscription
        return number

    def _matches(self, name: str, flags: int) -> bool:
        devices = self.host.devices
        mdev = devices.mdev(name) if devices.is_mdev(name) else None
        active = mdev is None or mdev.active
        persistent = name == "computer" if mdev is None else mdev.persistent
        states = (
            (active, _ACTIVE, _INACTIVE),
            (persistent, _PERSISTENT, _TRANSIENT),
        )
        for state, true, false in states:
            if flags & (true | false) and not flags & (
                true if state else false
            ):
                return False
        capabilities = flags & ~(
            _ACTIVE | _INACTIVE | _PERSISTENT | _TRANSIENT
        )
        own = (_CAPABILITY_FLAGS[c] for c in devices.capabilities(name))
        return not capabilities or any(capabilities & flag for flag in own)


def _refuse_flags(flags: int) -> None:
    """Refuse flags that a daemon does not know."""
    if flags:
        raise errors.libvirt_error(
            libvirt.VIR_ERR_INVALID_ARG,
            f"unsupported flags (0x{flags:x}) in function "
            "nodeConnectListAllNodeDevices",
            libvirt.VIR_FROM_NODEDEV,
        )


def device_callbacks(
    connection: SimulatedConnection, name: str, event: int
) -> list[Callable[..., None]]:
    """Return what to call for an event of a node device."""
    device = SimulatedNodeDevice(connection, name)
    return _callbacks(connection, connection._devices, name, event, device)


def guest_callbacks(
    connection: SimulatedConnection, uuid: str, event: int
) -> list[Callable[..., None]]:
    """Return what to call for an event of a guest."""
    name = connection.host.guests.engine.name(uuid)
    guest = SimulatedDomain(connection, uuid, name)
    return _callbacks(connection, connection._guests, uuid, event, guest)


def _callbacks(
    connection: SimulatedConnection,
    where: dict[int, _Subscription],
    key: str,
    event: int,
    subject: SimulatedDomain | SimulatedNodeDevice,
) -> list[Callable[..., None]]:
    def bound(subscription: _Subscription) -> Callable[..., None]:
        def call(*facts: Any) -> None:
            subscription.callback(
                connection, subject, *facts, subscription.opaque
            )

        return call

    return [
        bound(subscription)
        for subscription in where.values()
        if subscription.event == event and subscription.key in ("", key)
    ]


def _deregister(where: dict[int, _Subscription], number: int) -> None:
    if number not in where:
        raise errors.libvirt_error(
            libvirt.VIR_ERR_INVALID_ARG,
            f"event callback id {number} not registered",
            libvirt.VIR_FROM_NONE,
        )
    del where[number]


def _packed(version: tuple[int, int, int]) -> int:
    major, minor, micro = version
    return major * 1_000_000 + minor * 1_000 + micro
