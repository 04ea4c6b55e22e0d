# SPDX-License-Identifier: Apache-2.0
"""A host reached through libvirt."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import queue
import re
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Collection, Iterator
from typing import Any

import libvirt

from mdev_migrate import (
    exception,
    libvirt_claims,
    libvirt_jobs,
    libvirt_reading,
    libvirt_watch,
    model,
)
from mdev_migrate.core import cards, documents, nodedev_xml, transport
from mdev_migrate.host import Journey
from mdev_migrate.libvirt_errors import (
    DENIED,
    UNSUPPORTED,
    failure,
    is_alive,
    reason_of,
)
from mdev_migrate.libvirt_reading import Reading, naming

LOG = logging.getLogger(__name__)

#: An open connection, or what behaves like one (mdev_migrate.testing).
Connection = Any

#: How libvirt refuses to migrate a guest before it does anything.
_BLOCKED = (
    libvirt.VIR_ERR_OPERATION_INVALID,
    libvirt.VIR_ERR_MIGRATE_UNSAFE,
    # Another job holds the guest: it is migrated by somebody else, say.
    libvirt.VIR_ERR_OPERATION_TIMEOUT,
)
#: How it says, of a guest that it would migrate, that it got no further.
_NOT_CONNECTED = (
    libvirt.VIR_ERR_INVALID_ARG,
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_SYSTEM_ERROR,
    # Some versions say "Failed to connect to remote libvirt URI" around it.
    libvirt.VIR_ERR_OPERATION_FAILED,
)
#: libvirt looks for migration blockers before it connects to the peer
#: (qemuMigrationSrcPerformJob), and this URI it refuses without connecting
#: anywhere: a UNIX socket cannot be on a remote server.
_PROBE_URI = "qemu+unix://probe/system?socket=/nonexistent"
#: With a peer that answers, libvirt reads this document before it tells the
#: peer of any guest (qemuMigrationSrcBegin), and it is none of a guest.
_NO_GUEST = "<domain/>"
#: How it says that it has read it; libvirt 11.3 misses the name.
_READ = (
    libvirt.VIR_ERR_NO_NAME,
    libvirt.VIR_ERR_XML_ERROR,
    libvirt.VIR_ERR_XML_DETAIL,
    libvirt.VIR_ERR_OS_TYPE,
)
#: How it says that it does not get as far: no address, nobody there, TLS.
_NOT_REACHED = (
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_AUTH_FAILED,
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_RPC,
)
#: Seconds: how long a source may take to reach its peer.
_PEER_S = 30.0
#: A guest's number, as in the first column of 'virsh list'; a C int.
_NUMBER = re.compile("[0-9]{1,9}")
#: Seconds between keepalive messages, and how many may go unanswered.
_KEEPALIVE = (5, 6)


@functools.cache
def own_process() -> None:
    """Run libvirt's event loop, and let libvirt write no errors. Once.

    Both are of a whole process: a program that embeds this library has its
    own, or calls this before it opens its first connection. Without any
    event loop there are neither events nor keepalive messages, and a dead
    peer is not noticed.
    """
    libvirt.virEventRegisterDefaultImpl()
    libvirt.registerErrorHandler(lambda _context, _error: None, None)

    def run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    thread = _system_thread()
    thread(target=run, name="libvirt-events", daemon=True).start()


def _system_thread() -> type[threading.Thread]:
    """Return the class of threads that the system runs.

    Eventlet puts green ones in their place. One of those, waiting in
    libvirt, would hold up all others.
    """
    patcher: Any = sys.modules.get("eventlet.patcher")
    if patcher is None or not patcher.is_monkey_patched("thread"):
        return threading.Thread
    original: type[threading.Thread] = patcher.original("threading").Thread
    return original


def connect(uri: str) -> Connection:
    """Open a connection that notices when its peer is gone.

    For that the process needs an event loop, see :func:`own_process`.

    :raises HostUnreachable: if it cannot be opened.
    :raises AccessDenied: if it can, and the host wants nothing of us.
    """
    with opening(uri):
        connection = libvirt.open(uri)
        with contextlib.suppress(libvirt.libvirtError):
            connection.setKeepAlive(*_KEEPALIVE)
    return connection


def guest_names(uri: str) -> list[str]:
    """Return the names of a host's running guests.

    By a connection that may only read, which any user may open.

    :raises HostUnreachable: if the host cannot be asked.
    :raises AccessDenied: if it does not answer us.
    """
    with opening(uri):
        connection = libvirt.openReadOnly(uri)
        with contextlib.closing(connection):
            active = libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
            guests = connection.listAllDomains(active)
            return [guest.name() for guest in guests]


@contextlib.contextmanager
def opening(uri: str) -> Iterator[None]:
    """Translate libvirt's errors of a block that opens a connection.

    :raises HostUnreachable: and ``AccessDenied``: as :func:`connect` does.
    """
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() in DENIED:
            raise failure(uri, "virConnectOpen", error) from error
        raise exception.HostUnreachable(uri, reason_of(error)) from error


def _tells_of_use(error: libvirt.libvirtError) -> bool:
    """Tell whether an mdev is not destroyed because something has it open.

    libvirt and the kernel have no error code of their own for that.
    """
    reason = reason_of(error).lower()
    return "in use" in reason or "busy" in reason


def local_kernel(uri: str) -> str | None:
    """Return the kernel of the host at a URI if that is this machine.

    A socket that is named may be another machine's, forwarded.
    """
    parts = urllib.parse.urlsplit(uri)
    if parts.netloc or "socket=" in parts.query:
        return None
    return os.uname().release


class LibvirtHost:
    """A host behind a libvirt connection; fulfils ``host.Host``.

    :param uri: where the host is.
    :param kernel: the host's kernel, as ``uname -r`` prints it; None if
        unknown.
    :param opener: opens a connection to a URI.
    :ivar claims: see ``host.Claims``.
    :raises HostUnreachable: if it cannot be opened.
    """

    def __init__(
        self,
        uri: str,
        *,
        kernel: str | model.Version | None = None,
        opener: Callable[[str], Connection] = connect,
    ) -> None:
        self._uri = uri
        self._kernel = None if kernel is None else str(kernel)
        self._opener = opener
        self._connection = opener(uri)
        #: What was looked up once: libvirt finds a guest by its UUID anyway.
        self._domains: dict[str, Any] = {}
        self._facts: model.HostFacts | None = None
        self._name = ""
        self._watch: libvirt_watch.Watch | None = None
        self.claims = libvirt_claims.LibvirtClaims(
            self._lending, lambda: self.name
        )

    @classmethod
    def open(cls, uri: str) -> LibvirtHost:
        """Open the host at a URI, as virsh does.

        :raises HostUnreachable: if it cannot be opened.
        """
        host = cls(uri)
        with host._calling("virConnectGetURI"):
            # Not the URI given: that may be an alias from libvirt.conf.
            host._kernel = local_kernel(host._connection.getURI())
        return host

    @property
    def uri(self) -> str:
        """Where this host is reached."""
        return self._uri

    @property
    def name(self) -> str:
        """The host's name, for texts."""
        # A cached property, until Python 3.12, locks those of all hosts.
        if not self._name:
            with self._calling("virConnectGetHostname"):
                self._name = str(self._connection.getHostname())
        return self._name

    def reconnect(self) -> None:
        """Open the connection anew; see ``host.Host``."""
        watched = self._watch is not None
        self.close()
        self._connection = self._opener(self._uri)
        if watched:
            self.keep_watch()

    def keep_watch(self) -> None:
        """Keep what is there in mind from now on, for warm inventories.

        Needs libvirt's event loop, which :func:`connect` runs.

        :raises LibvirtFailed: if the host tells no events.
        """
        with self._calling("virConnectDomainEventRegisterAny"):
            self._watch = libvirt_watch.Watch(
                self._connection, self._look_at_everything
            )

    def _look_at_everything(self) -> model.Inventory:
        self._facts = None
        return self.inventory()

    def close(self) -> None:
        """Close the connection, whatever state it is in."""
        if self._watch is not None:
            self._watch.close()
        self._watch = self._facts = None
        self._domains.clear()
        with contextlib.suppress(libvirt.libvirtError):
            self._connection.close()

    # Errors -----------------------------------------------------------

    @contextlib.contextmanager
    def _calling(self, operation: str) -> Iterator[None]:
        """Translate libvirt's errors of the block to ours."""
        began = time.monotonic()
        try:
            yield
        except libvirt.libvirtError as error:
            reason = reason_of(error)
            if not is_alive(self._connection):
                raise exception.HostUnreachable(self._uri, reason) from error
            host = self._name or self._uri
            raise failure(host, operation, error) from error
        finally:
            LOG.debug(
                "%(uri)s: %(operation)s: %(seconds).3f s",
                {
                    "uri": self._uri,
                    "operation": operation,
                    "seconds": time.monotonic() - began,
                },
            )

    @contextlib.contextmanager
    def _lending(self, operation: str) -> Iterator[Connection]:
        with self._calling(operation):
            yield self._connection

    # What is there ----------------------------------------------------

    def facts(self) -> model.HostFacts:
        """Return who the host is and what runs on it; see ``host.Host``.

        A watched host is asked as often as for everything else.
        """
        facts = self._facts or self._ask_facts()
        if self._watch is not None:
            self._facts = facts
        return facts

    def _ask_facts(self) -> model.HostFacts:
        with self._calling("virConnectGetVersion"):
            qemu = self._connection.getVersion()
            daemon = self._connection.getLibVersion()
        with self._calling("virConnectGetCapabilities"):
            capabilities = self._connection.getCapabilities()
        root = documents.parse(capabilities, "capabilities XML")
        return model.HostFacts(
            name=self.name,
            host_uuid=root.findtext("host/uuid") or "",
            libvirt=model.Version.unpack(daemon),
            qemu=model.Version.unpack(qemu),
            kernel=self._kernel,
        )

    def inventory(
        self,
        *kinds: model.Kind,
        warm: bool = False,
        since: model.Inventory | None = None,
    ) -> model.Inventory:
        """Return parents, mdevs and guests; see ``host.Host``."""
        if warm and self._watch is not None:
            with self._calling("virConnectListAllDomains"):
                return self._watch.inventory()
        if since is not None:
            return self._look_again(since)
        wanted = kinds or ("parent", "mdev", "guest")
        parents: Reading[model.Parent] = Reading()
        devices: Reading[libvirt_reading.Device] = Reading()
        guests: Reading[model.Guest] = Reading()
        claims = model.Claims()
        with self._calling("virConnectListAllNodeDevices"):
            # Parents first: one created meanwhile may then seem to leave
            # more room than there is, which its creation decides, but never
            # less, which would refuse what fits.
            if "parent" in wanted:
                parents = libvirt_reading.read_parents(self._connection)
            if "mdev" in wanted:
                devices = libvirt_reading.read_mdevs(self._connection)
        with self._calling("virConnectListAllDomains"):
            if "guest" in wanted:
                claims, guests = libvirt_reading.read_domains(self._connection)
        return self._found(parents, devices, guests, claims)

    def _look_again(self, known: model.Inventory) -> model.Inventory:
        """Read what has come, gone or changed its state since a look."""
        read_mdevs = libvirt_reading.read_mdevs
        with self._calling("virConnectListAllNodeDevices"):
            devices = read_mdevs(self._connection, known.mdevs)
            found = {device.mdev for device in devices.found}
            names = libvirt_watch.concerned(
                known.parents, {mdev.parent for mdev in found ^ {*known.mdevs}}
            )
            parents = libvirt_reading.read_parents(self._connection, names)
            if names:
                # Parents before mdevs: see inventory().
                devices = read_mdevs(self._connection, found)
        parents.found += [p for p in known.parents if p.name not in names]
        parents.not_read += [
            each for each in known.unreadable if each.kind == "parent"
        ]
        with self._calling("virConnectListAllDomains"):
            claims, guests = libvirt_reading.read_domains(
                self._connection, known.guests
            )
        return self._found(parents, devices, guests, claims)

    def inventory_of(self, mdev_uuids: Collection[str]) -> model.Inventory:
        """Return some mdevs and their parents; see ``host.MdevHost``."""
        with self._calling("virConnectListAllNodeDevices"):
            devices = libvirt_reading.read_mdevs(
                self._connection, uuids=mdev_uuids
            )
            names = {device.mdev.parent for device in devices.found}
            parents = libvirt_reading.read_parents(self._connection, names)
        return self._found(parents, devices, Reading(), model.Claims())

    def free_memory_kib(self) -> int | None:
        """Return how much memory is to be had; see ``host.Host``."""
        everywhere = libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS
        try:
            with self._calling("virNodeGetMemoryStats"):
                stats = self._connection.getMemoryStats(everywhere, 0)
        except exception.AccessDenied:
            return None
        except exception.LibvirtFailed as error:
            if error.number in UNSUPPORTED:
                return None
            raise
        # What files are cached in is given up for guests.
        names = ("free", "buffers", "cached")
        return sum(int(stats.get(name, 0)) for name in names)

    def cards(self) -> tuple[cards.Card, ...]:
        """Return the cards that mdevs may come from; see ``host.Host``."""
        with self._calling("virConnectListAllNodeDevices"):
            return tuple(libvirt_reading.read_cards(self._connection).found)

    def _found(
        self,
        parents: Reading[model.Parent],
        devices: Reading[libvirt_reading.Device],
        guests: Reading[model.Guest],
        claims: model.Claims,
    ) -> model.Inventory:
        reads = (parents, devices, guests)
        return model.Inventory(
            host=self.name,
            parents=tuple(parents.found),
            mdevs=tuple(device.mdev for device in devices.found),
            guests=tuple(guests.found),
            unreadable=tuple(each for read in reads for each in read.not_read),
            claims=claims,
        ).in_order()

    # Guests -----------------------------------------------------------

    def find_guest(self, name: str) -> model.Guest:
        """Return a guest by UUID, name or number; see ``host.Host``."""
        lookups: list[tuple[Callable[[Any], Any], str | int]] = [
            (self._connection.lookupByName, name)
        ]
        with contextlib.suppress(ValueError):
            uuid = model.read_uuid(name)
            # Spelt otherwise, it may be a name, as it is for virsh.
            place = 0 if uuid == name.lower() else 1
            lookups.insert(place, (self._connection.lookupByUUIDString, uuid))
        if _NUMBER.fullmatch(name):
            lookups.append((self._connection.lookupByID, int(name)))
        for lookup, word in lookups:
            with self._calling(f"virDomainLookup of {name!r:.80}"):
                try:
                    domain = lookup(word)
                    if libvirt_reading.is_claim(domain):
                        continue
                    guest = libvirt_reading.read_guest(domain)
                    self._domains[guest.instance_uuid] = domain
                    return guest
                except libvirt.libvirtError as error:
                    if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                        raise
        raise exception.GuestNotFound(name, self.name)

    @contextlib.contextmanager
    def _domain(self, operation: str, instance_uuid: str) -> Iterator[Any]:
        with self._calling(operation):
            domain = self._domains.get(instance_uuid)
            if domain is None:
                domain = self._connection.lookupByUUIDString(instance_uuid)
                self._domains[instance_uuid] = domain
            yield domain

    def _xml(self, instance_uuid: str, flags: int, *, secure: bool) -> str:
        if secure:
            flags |= libvirt.VIR_DOMAIN_XML_SECURE
        with (
            self._domain("virDomainGetXMLDesc", instance_uuid) as domain,
            naming(domain),
        ):
            return str(domain.XMLDesc(flags))

    def live_xml(self, instance_uuid: str, *, secure: bool = False) -> str:
        """Return the live definition; see ``host.Host``."""
        # To read the migratable form, access control demands as much as to
        # read the passwords, even if they are not in it.
        flags = libvirt.VIR_DOMAIN_XML_MIGRATABLE if secure else 0
        return self._xml(instance_uuid, flags, secure=secure)

    def inactive_xml(self, instance_uuid: str, *, secure: bool = False) -> str:
        """Return the inactive definition; see ``host.Host``."""
        return self._xml(
            instance_uuid, libvirt.VIR_DOMAIN_XML_INACTIVE, secure=secure
        )

    # mdevs ------------------------------------------------------------

    def _find_device(self, uuid: str) -> libvirt_reading.Device | None:
        """Return the node device of an mdev, None if there is none.

        :raises DocumentUnreadable: if its document cannot be read.
        """
        devices = libvirt_reading.read_mdevs(self._connection, uuids={uuid})
        for each in devices.not_read:
            raise exception.DocumentUnreadable(self.name, each.reason)
        found = devices.found
        if len(found) > 1:
            raise exception.MdevUnderTwoParents(
                self.name, uuid, tuple(each.mdev.parent for each in found)
            )
        return found[0] if found else None

    def create_mdev(self, mdev: model.Mdev) -> None:
        """Create an mdev; see ``host.Host``."""
        text = nodedev_xml.write_mdev(mdev)
        with self._creating(mdev):
            device = self._connection.nodeDeviceCreateXML(text, 0)
            if mdev.persistent:
                try:
                    self._define(text, autostart=mdev.autostart)
                except libvirt.libvirtError:
                    device.destroy()
                    raise

    def _define(self, text: str, *, autostart: bool) -> None:
        device = self._connection.nodeDeviceDefineXML(text, 0)
        try:
            if autostart:
                device.setAutostart(1)
        except libvirt.libvirtError:
            device.undefine(0)
            raise

    def define_mdev(self, mdev_uuid: str, *, autostart: bool) -> None:
        """Let an mdev survive a reboot; see ``host.Host``."""
        with self._calling("virNodeDeviceDefineXML"):
            found = self._find_device(mdev_uuid)
            if found is None:
                gone = frozenset({mdev_uuid})
                raise exception.TargetMdevGone(self.name, gone)
            device, mdev = found
            if not mdev.persistent:
                self._define(nodedev_xml.write_mdev(mdev), autostart=autostart)
            elif autostart and not mdev.autostart:
                device.setAutostart(1)

    @contextlib.contextmanager
    def _creating(self, mdev: model.Mdev) -> Iterator[None]:
        try:
            with self._calling("virNodeDeviceCreateXML"):
                yield
        except exception.AccessDenied:
            raise
        except exception.LibvirtFailed as error:
            if error.number == libvirt.VIR_ERR_NO_NODE_DEVICE:
                # Made, but udev has not told libvirt of it within its limit.
                gone = frozenset({mdev.uuid})
                raise exception.TargetMdevGone(self.name, gone) from error
            raise exception.creation_failed(
                self.name,
                mdev.uuid,
                mdev.mdev_type,
                mdev.parent,
                error.reason,
            ) from error

    def remove_mdev(self, mdev: model.Mdev) -> bool:
        """Destroy an mdev; see ``host.Host``."""
        with self._calling("virNodeDeviceDestroy"):
            found = self._find_device(mdev.uuid)
            if found is None:
                return False
            device, listed = found
            self._stop(device, listed)
            if mdev.persistent and listed.persistent:
                device.undefine(0)
        return True

    def _stop(self, device: Any, listed: model.Mdev) -> None:
        """Destroy an mdev if it is active; one that has gone is as good.

        libvirt has many words for one that has gone, so it is looked for.
        """
        if not listed.active:
            return
        try:
            device.destroy()
        except libvirt.libvirtError as error:
            if not is_alive(self._connection):
                raise
            found = self._find_device(listed.uuid)
            if found is None or not found.mdev.active:
                return
            if _tells_of_use(error):
                raise exception.MdevBusy(
                    self.name, listed.uuid, reason_of(error)
                ) from error
            raise

    def recycle_mdev(self, mdev: model.Mdev) -> None:
        """Destroy an mdev and create it again; see ``host.Host``."""
        with self._calling("virNodeDeviceDestroy"):
            found = self._find_device(mdev.uuid)
            if found is not None:
                self._stop(*found)
        with self._creating(mdev):
            if found is not None and found.mdev.persistent:
                found.device.create(0)
            else:
                text = nodedev_xml.write_mdev(mdev)
                self._connection.nodeDeviceCreateXML(text, 0)

    # Migration --------------------------------------------------------

    def starts_with_host(self, instance_uuid: str) -> bool:
        """Tell whether a guest is started at boot; see ``host.Host``."""
        with self._domain("virDomainGetAutostart", instance_uuid) as domain:
            return bool(domain.autostart())

    def start_with_host(self, instance_uuid: str) -> None:
        """Let a guest be started at boot; see ``host.Host``."""
        with self._domain("virDomainSetAutostart", instance_uuid) as domain:
            domain.setAutostart(1)

    def ask_blockers(
        self, instance_uuid: str, flags: int, peer_uri: str | None = None
    ) -> str | None:
        """Return why libvirt would not migrate a guest; see ``host.Host``."""
        error = self._try_to_migrate(instance_uuid, flags, peer_uri)
        if error.number in _BLOCKED:
            return error.reason
        if peer_uri is None:
            if error.number in _NOT_CONNECTED:
                return None
        elif error.number in _READ:
            return None
        elif error.number == libvirt.VIR_ERR_INVALID_ARG:
            # No server in the URI, which is seen before anything is asked.
            blockers = self.ask_blockers(instance_uuid, flags)
            if blockers is not None:
                return blockers
            raise exception.PeerUnreachable(self.name, peer_uri, error.reason)
        elif error.number in _NOT_REACHED or peer_uri in error.reason:
            # Some versions say "Failed to connect to remote libvirt URI".
            raise exception.PeerUnreachable(self.name, peer_uri, error.reason)
        raise exception.BlockersUnknown(self.name, error.reason) from error

    def _try_to_migrate(
        self, instance_uuid: str, flags: int, peer_uri: str | None
    ) -> exception.LibvirtFailed:
        """Ask for a migration that libvirt refuses, and return how it does.

        :raises PeerUnreachable: if the peer lets the source wait.
        """
        parameters = {}
        if peer_uri is not None:
            parameters[libvirt.VIR_MIGRATE_PARAM_DEST_XML] = _NO_GUEST
        answers: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def ask() -> None:
            try:
                with self._domain(
                    "virDomainMigrateToURI3", instance_uuid
                ) as domain:
                    domain.migrateToURI3(
                        peer_uri or _PROBE_URI, parameters, flags
                    )
            except BaseException as error:  # noqa: BLE001 - raised below
                answers.put(error)
            else:
                answers.put(None)

        if peer_uri is None:
            ask()
        else:
            thread = _system_thread()
            thread(target=ask, name="ask", daemon=True).start()
        try:
            error = answers.get(timeout=_PEER_S)
        except queue.Empty:
            raise exception.PeerUnreachable(
                self.name, peer_uri or "", f"no answer within {_PEER_S:g} s"
            ) from None
        if error is None:
            raise exception.BlockersUnknown(self.name, "it was not refused")
        if isinstance(error, exception.AccessDenied) or not isinstance(
            error, exception.LibvirtFailed
        ):
            raise error
        return error

    def max_downtime(self, instance_uuid: str) -> int | None:
        """Return the downtime limit of a guest; see ``host.Host``."""
        try:
            with self._domain(
                "virDomainMigrateGetMaxDowntime", instance_uuid
            ) as domain:
                return int(domain.migrateGetMaxDowntime(0))
        except exception.LibvirtFailed as error:
            if error.number in UNSUPPORTED:
                return None
            raise

    def set_max_downtime(self, instance_uuid: str, downtime_ms: int) -> None:
        """Limit the downtime of a guest's migration; see ``host.Host``."""
        with self._domain(
            "virDomainMigrateSetMaxDowntime", instance_uuid
        ) as domain:
            domain.migrateSetMaxDowntime(downtime_ms, 0)

    def max_bandwidth(self, instance_uuid: str) -> int:
        """Return the bandwidth limit of a guest; see ``host.Host``."""
        with self._domain(
            "virDomainMigrateGetMaxSpeed", instance_uuid
        ) as domain:
            return int(domain.migrateGetMaxSpeed(0))

    def set_max_bandwidth(
        self, instance_uuid: str, bandwidth: int | None
    ) -> None:
        """Limit the bandwidth of a guest's migration; see ``host.Host``."""
        limit = transport.MAX_BANDWIDTH if bandwidth is None else bandwidth
        with self._domain(
            "virDomainMigrateSetMaxSpeed", instance_uuid
        ) as domain:
            domain.migrateSetMaxSpeed(limit, 0)

    def migrate(self, instance_uuid: str, journey: Journey) -> None:
        """Migrate a guest away from here; see ``host.Host``."""
        given = {
            libvirt.VIR_MIGRATE_PARAM_DEST_XML: journey.destination_xml,
            libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: journey.persistent_xml,
            libvirt.VIR_MIGRATE_PARAM_URI: journey.migrate_uri,
            libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: journey.bandwidth,
        }
        parameters = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in (given | dict(journey.parameters)).items()
            if value is not None
        }
        with self._domain("virDomainMigrateToURI3", instance_uuid) as domain:
            domain.migrateToURI3(journey.peer_uri, parameters, journey.flags)

    def progress(self, instance_uuid: str) -> model.JobProgress | None:
        """Return how far a guest's job is; see ``host.Host``."""
        with self._domain("virDomainGetJobStats", instance_uuid) as domain:
            return libvirt_jobs.read(domain.jobStats(0))

    def completed(self, instance_uuid: str) -> model.JobProgress | None:
        """Return the statistics of the last job; see ``host.Host``."""
        try:
            with self._domain("virDomainGetJobStats", instance_uuid) as domain:
                return libvirt_jobs.completed(domain)
        except exception.LibvirtFailed:
            return None

    def abort(self, instance_uuid: str) -> None:
        """Abort a guest's job; see ``host.Host``."""
        try:
            with self._domain("virDomainAbortJob", instance_uuid) as domain:
                domain.abortJob()
        except exception.LibvirtFailed as error:
            if error.number not in (
                libvirt.VIR_ERR_OPERATION_INVALID,
                libvirt.VIR_ERR_NO_DOMAIN,
            ):
                raise
