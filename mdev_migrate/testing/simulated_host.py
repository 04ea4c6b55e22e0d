# SPDX-License-Identifier: Apache-2.0
"""What does one simulated host know, and what may a test do to it?"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import libvirt

from mdev_migrate.testing import connection, errors, markup
from mdev_migrate.testing.devices import DeviceTable, SimulatedMdev
from mdev_migrate.testing.faults import Call, Faults
from mdev_migrate.testing.guests import GuestTable
from mdev_migrate.testing.parents import Parent

if TYPE_CHECKING:
    from mdev_migrate.testing.group import SimulatedGroup
    from mdev_migrate.testing.transfer import Request


class SimulatedHost:
    """A host with a libvirt daemon, guests, parents and mdevs.

    Made by :meth:`SimulatedGroup.add_host`. The attributes are facts that a
    test may change at any time.

    :ivar hostname: what ``getHostname`` answers.
    :ivar host_uuid: libvirt's own UUID of the host.
    :ivar libvirt_version: three numbers, as in ``(11, 3, 0)``.
    :ivar qemu_version: three numbers.
    :ivar kernel_release: what ``uname -r`` says; libvirt does not tell it.
    :ivar open_mdevs: UUIDs of mdevs that a process has open which libvirt
        does not know.
    :ivar required_downtime_ms: a migration from here goes on copying until
        the guest's downtime limit is at least this.
    :ivar held_up_by_bandwidth: beside memory that is written to all the time,
        devices do not get their turn while there is a bandwidth limit; see
        :mod:`core.downtime`.
    :ivar memory_kib: how much memory it has.
    :ivar requests: what migrations from here were asked for, in order.
    """

    def __init__(
        self,
        group: "SimulatedGroup",
        name: str,
        uris: Iterable[str],
        host_uuid: str,
        parents: Iterable[Parent],
    ) -> None:
        self.group = group
        self.name = name
        self.uris = tuple(uris)
        self.hostname = name
        self.host_uuid = host_uuid
        self.libvirt_version = (11, 3, 0)
        self.qemu_version = (10, 0, 13)
        self.kernel_release = "6.12.0-amd64"
        self.open_mdevs: set[str] = set()
        self.required_downtime_ms = 0
        self.held_up_by_bandwidth = False
        self.memory_kib = 256 << 20
        self.daemon_runs = True
        self.daemon_starts = 1
        self.requests: list[Request] = []
        self.connections: list[connection.SimulatedConnection] = []
        self.guests = GuestTable(self)
        self.devices = DeviceTable(
            parents, self._mdev_in_use, self.announce_device
        )
        self._crashed: str | None = None
        self._spoilt: dict[str, Callable[[str], str]] = {}

    def free_memory_kib(self) -> int:
        """Return how much memory its guests leave; it may be less than none.

        The caller holds the lock of the host's group.
        """
        engine = self.guests.engine
        taken = sum(
            int(engine.guest(uuid).maxMemory())
            for uuid in self.running_guests()
        )
        return max(self.memory_kib - taken, 0)

    # What a test prepares.

    def open(self) -> connection.SimulatedConnection:
        """Open a connection by the host's first URI."""
        return self.group.open(self.uris[0])

    def add_mdev(  # noqa: PLR0913 - facts by name
        self,
        uuid: str,
        mdev_type: str,
        parent: str | None = None,
        *,
        attributes: Mapping[str, str] | None = None,
        persistent: bool = False,
        active: bool = True,
    ) -> str:
        """Give the host an mdev and return its libvirt name.

        :param parent: name of its parent; the host's first by default.
        :raises libvirt.libvirtError: as creating it would.
        """
        parent = parent or next(iter(self.devices.parents))
        attrs = tuple((attributes or {}).items())
        request = markup.mdev_request(parent, mdev_type, uuid, attrs)
        with self.changing():
            name = None
            if persistent or not active:
                name = self.devices.define(request)
            if active:
                name = self.devices.create(request)
            self.devices.notice_all()
        return str(name)

    def add_guest(  # noqa: PLR0913 - facts by name
        self,
        name: str,
        uuid: str,
        mdevs: Iterable[str] = (),
        *,
        xml: str | None = None,
        persistent: bool = True,
        running: bool = True,
        blockers: Iterable[str] = (),
        memory_mib: int = 64,
    ) -> None:
        """Give the host a guest.

        :param mdevs: UUIDs of its mdevs, in guest order.
        :param xml: the whole document, in place of the facts before it and
            of ``memory_mib``.
        :param blockers: why QEMU will not migrate it, in QEMU's words.
        """
        xml = xml or markup.guest_document(
            name, uuid, mdevs, memory_mib=memory_mib
        )
        with self.changing():
            if persistent or not running:
                made = self.guests.define(xml)
                if running:
                    self.guests.start(made)
            else:
                made = self.guests.create(xml)
            self.guests.state(made).blockers = tuple(blockers)

    def stand_still(self, name: str, state: int, reason: int) -> None:
        """Let a guest that runs not go on, though nobody has paused it.

        :param state: what libvirt calls that, ``VIR_DOMAIN_PAUSED`` or
            another state of an active guest.
        :param reason: for that state, as ``VIR_DOMAIN_PAUSED_IOERROR``.
        """
        with self.changing():
            uuid = self.open().lookupByName(name).UUIDString()
            self.guests.stand_still(uuid, state, reason)

    # What a test looks at.

    def mdevs(self) -> dict[str, SimulatedMdev]:
        """Return copies of the mdevs that exist now, by UUID."""
        return {mdev.uuid: mdev for mdev in self.all_mdevs() if mdev.active}

    def all_mdevs(self) -> list[SimulatedMdev]:
        """Return copies of all mdevs, those only defined as well."""
        with self.changing():
            return [dataclasses.replace(m) for m in self.devices.mdevs()]

    def running_guests(self) -> set[str]:
        """Return the UUIDs of the guests that run, not of incoming ones."""
        with self.changing():
            return self.guests.running()

    def used_mdevs(self) -> dict[str, str]:
        """Return who has each mdev open: guest name by mdev UUID."""
        with self.changing():
            return self.guests.used_mdevs()

    def unusable_mdevs(self) -> set[str]:
        """Return the mdevs that a failed incoming migration spoiled."""
        return {uuid for uuid, mdev in self.mdevs().items() if mdev.resuming}

    @property
    def crashed(self) -> str | None:
        """Why the host's kernel crashed; nothing if it did not."""
        return self._crashed

    @property
    def calls(self) -> list[Call]:
        """The calls that reached this host, oldest first."""
        return [call for call in self.faults.calls if call.host == self.name]

    @property
    def faults(self) -> Faults:
        """The faults of the host's group."""
        return self.group.faults

    # What a test does to it.

    def cut_connections(self) -> None:
        """Break every connection to the host, which itself lives on."""
        with self.changing():
            links = [opened.link for opened in self.connections]
            self.connections.clear()
        for link in links:
            link.cut()

    def stop_daemon(self) -> None:
        """Stop libvirtd: guests go on, connections and migrations do not."""
        self.daemon_runs = False
        self.group.wake_migrations()
        self.cut_connections()

    def start_daemon(self) -> None:
        """Start libvirtd again: it kills what was coming in meanwhile."""
        with self.changing():
            self.daemon_starts += 1
            self.daemon_runs = True
            self.guests.kill_abandoned()

    def reboot(self) -> None:
        """Stop all, and start the daemon again: no guest runs here then.

        Of the mdevs only those are left that are defined.
        """
        self.stop_daemon()
        with self.changing():
            self.guests.reboot()
            self.devices.reboot()
            self._crashed = None
        self.start_daemon()

    def lose_mdev(self, uuid: str) -> None:
        """Destroy an mdev without libvirt, which goes on to list it.

        It lists such an mdev as neither active nor defined, and without its
        type.
        """
        with self.changing():
            self.devices.half_know(uuid)

    def spoil(self, name: str, change: Callable[[str], str]) -> None:
        """Let a device's or guest's document be read as something else.

        :param name: libvirt's name of it.
        :param change: gets the document and returns what is told in its
            place, or raises what libvirt's binding would.
        """
        self._spoilt[name] = change

    def notice_mdevs(self) -> None:
        """Let the host notice the mdevs that ``udev_lag`` still hides."""
        with self.changing():
            self.devices.notice_all()

    @property
    def udev_lag(self) -> int:
        """How many lists a new mdev is missing from at first."""
        return self.devices.udev_lag

    @udev_lag.setter
    def udev_lag(self, lists: int) -> None:
        self.devices.udev_lag = lists

    def crash(self, reason: str) -> None:
        """Let the host's kernel crash: nothing answers any more."""
        self._crashed = reason
        self.stop_daemon()

    # What the simulation itself needs.

    def told(self, name: str, document: str) -> str:
        """Return what is told of a document: see :meth:`spoil`."""
        return self._spoilt.get(name, str)(document)

    def changing(self) -> contextlib.AbstractContextManager[None]:
        """Hold the lock of the host's group; events go out afterwards."""
        return self.group.changing()

    def announce_device(self, name: str, event: int) -> None:
        """Send a node device's lifecycle event to who asked for it."""
        self._announce(
            lambda opened: connection.device_callbacks(
                opened, name, libvirt.VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE
            ),
            event,
            0,
        )

    def announce_guest(self, uuid: str, event: int, detail: int) -> None:
        """Send a guest's lifecycle event to who asked for it."""
        self._announce(
            lambda opened: connection.guest_callbacks(
                opened, uuid, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
            ),
            event,
            detail,
        )

    def announce_metadata(self, uuid: str, kind: int, uri: str) -> None:
        """Say that what a guest's document says of itself has changed."""
        self._announce(
            lambda opened: connection.guest_callbacks(
                opened, uuid, libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE
            ),
            kind,
            uri,
        )

    def announce_job(self, uuid: str, statistics: dict[str, Any]) -> None:
        """Send the statistics of a finished job to who asked for them."""
        self._announce(
            lambda opened: connection.guest_callbacks(
                opened, uuid, libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED
            ),
            dict(statistics),
        )

    def check_reachable(self, uri: str) -> None:
        """Refuse a new connection if no daemon answers."""
        if self.crashed or not self.daemon_runs:
            raise errors.refused(uri)

    def _announce(
        self,
        subscribers: Callable[
            [connection.SimulatedConnection], list[Callable[..., None]]
        ],
        *facts: Any,
    ) -> None:
        for opened in self.connections:
            if opened.link.alive:
                for callback in subscribers(opened):
                    self.group.later(functools.partial(callback, *facts))

    def _mdev_in_use(self, mdev_uuid: str) -> bool:
        return mdev_uuid in self.open_mdevs | self.guests.used_mdevs().keys()
