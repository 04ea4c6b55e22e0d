# SPDX-License-Identifier: Apache-2.0
"""How does a guest move from one simulated host to another?

A migration is the source daemon's work, not the client's: it runs in a thread
of its own and goes on when the client's connection breaks. The order is
libvirt's: begin on the source, prepare on the destination, copy, load on the
destination, finish. Before each of these, and before each round of the copy,
the group's ``pace`` is called without any lock held: there a test, or a
demonstration, may wait, and everything else may change.

What fails before the copy leaves no trace. What fails later leaves the
target mdevs resuming, unusable until they are destroyed.
"""

import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import libvirt

from mdev_migrate.testing import abi, errors, guests, statistics
from mdev_migrate.testing.engine import Engine

if TYPE_CHECKING:
    from mdev_migrate.testing.simulated_host import SimulatedHost

_MIGRATABLE = libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE
_INACTIVE = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
_REFUSED_FLAGS = {
    libvirt.VIR_MIGRATE_POSTCOPY: (
        "unable to execute QEMU command 'migrate': VFIO migration is not "
        "supported with postcopy migration"
    ),
    libvirt.VIR_MIGRATE_TUNNELLED: (
        "unable to execute QEMU command 'migrate-set-capabilities': "
        "Capability 'switchover-ack' requires capability 'return-path'"
    ),
}
#: What virDomainMigrateToURI3 takes (QEMU_MIGRATION_PARAMETERS), libvirt 11.3.
_PARAMETERS: dict[str, type] = {
    "migrate_uri": str,
    "destination_name": str,
    "destination_xml": str,
    "persistent_xml": str,
    "bandwidth": int,
    "bandwidth.postcopy": int,
    "bandwidth.avail.switchover": int,
    "graphics_uri": str,
    "listen_address": str,
    "migrate_disks": str,
    "migrate_disks_detect_zeroes": str,
    "disks_port": int,
    "disks.uri": str,
    "compression": str,
    "compression.mt.level": int,
    "compression.mt.threads": int,
    "compression.mt.dthreads": int,
    "compression.xbzrle.cache": int,
    "compression.zlib.level": int,
    "compression.zstd.level": int,
    "auto_converge.initial": int,
    "auto_converge.increment": int,
    "parallel.connections": int,
    "tls.destination": str,
}
_REPEATED = ("migrate_disks", "migrate_disks_detect_zeroes", "compression")
_NO_NAME = re.compile(r"<domain\s*/>")
_MIGRATED_AWAY = (
    libvirt.VIR_DOMAIN_SHUTOFF,
    libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED,
)
#: libvirt 8.6.0 is the first to ask QEMU whether a guest may be migrated.
_ASKS_QEMU = (8, 6, 0)


class Step(NamedTuple):
    """A point of a migration at which a test may wait or interfere.

    :ivar phase: ``begin``, ``prepare``, ``copy``, ``load`` or ``finish``.
    :ivar number: the round of the copy, from 1; 0 in other phases.
    """

    guest: str
    source: str
    destination: str
    phase: str
    number: int = 0


class Request(NamedTuple):
    """What a client asked ``migrateToURI3`` for."""

    guest: str
    peer_uri: str
    destination_xml: str | None
    persistent_xml: str | None
    flags: int
    parameters: Mapping[str, Any]

    def has(self, flag: int) -> bool:
        """Tell whether a flag is set."""
        return bool(self.flags & flag)


def check_parameters(request: Request) -> None:
    """Refuse parameters as virTypedParamsValidate does."""
    for name, value in request.parameters.items():
        if value is None:
            continue
        kind = _PARAMETERS.get(name)
        if kind is None:
            raise errors.libvirt_error(
                libvirt.VIR_ERR_INVALID_ARG,
                f"parameter '{name}' not supported",
            )
        values = value if isinstance(value, list) else [value]
        if isinstance(value, list) and name not in _REPEATED:
            raise errors.libvirt_error(
                libvirt.VIR_ERR_INVALID_ARG,
                f"parameter '{name}' occurs multiple times",
            )
        if not all(type(each) is kind for each in values):
            raise errors.libvirt_error(
                libvirt.VIR_ERR_INVALID_ARG,
                f"invalid type for parameter '{name}'",
            )


def check_request(source: "SimulatedHost", request: Request) -> None:
    """Refuse what libvirt refuses before it looks for the destination."""
    if not request.has(libvirt.VIR_MIGRATE_PEER2PEER):
        raise errors.libvirt_error(
            libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
            "direct migration is not supported by the source host",
            libvirt.VIR_FROM_DOM,
        )
    state = source.guests.state(request.guest)
    if state.migration is not None:
        raise errors.libvirt_error(
            libvirt.VIR_ERR_OPERATION_TIMEOUT,
            "(held by monitor=remoteDispatchDomainMigratePerform3Params)",
        )
    mdevs = source.guests.engine.mdevs(request.guest)
    if mdevs and source.libvirt_version < _ASKS_QEMU:
        raise errors.libvirt_error(
            libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
            "cannot migrate a domain with <hostdev mode='subsystem' "
            "type='mdev'>",
        )
    if state.blockers:
        reasons = "; ".join(state.blockers)
        raise errors.invalid(f"cannot migrate domain: {reasons}")


def move_definition(source: "SimulatedHost", request: Request) -> None:
    """Move a guest's definition, as libvirt does of one that is off.

    Of one that runs, too: it runs on, without one.
    """
    if not request.has(libvirt.VIR_MIGRATE_PERSIST_DEST):
        raise errors.libvirt_error(
            libvirt.VIR_ERR_OPERATION_INVALID,
            "offline migration must be specified with the persistent flag set",
        )
    engine = source.guests.engine
    own = engine.document(request.guest, _INACTIVE)
    peer = source.group.reach(request.peer_uri)
    abi.check(_normal(own), _normal(request.destination_xml or own))
    peer.guests.define(request.persistent_xml or own)
    if request.has(libvirt.VIR_MIGRATE_UNDEFINE_SOURCE):
        source.guests.undefine(request.guest)


class Migration:
    """One run of ``migrateToURI3``, from the source daemon's side."""

    def __init__(self, source: "SimulatedHost", request: Request) -> None:
        self.changed = threading.Event()
        self.round = 0
        self._source = source
        self._request = request
        self._guest = request.guest
        self._state = source.guests.state(self._guest)
        self.speed = request.parameters.get("bandwidth") or (
            self._state.max_speed
        )
        self._peer: SimulatedHost | None = None
        self._starts: dict[str, int] = {}
        self._aborted = False
        self._copying = False
        self._endless = False
        self._was_paused = source.guests.is_paused(self._guest)
        self._error: BaseException | None = None
        self._targets: list[str] = []

    def start(self, ended: threading.Event) -> None:
        """Start the job; ``ended`` is set when it is over."""
        self._state.migration = self
        self._watch(self._source)
        self._source.group.run_migration(self, ended)

    def run(self) -> None:
        """Migrate the guest, keeping what went wrong for :meth:`result`."""
        try:
            self._migrate()
        except BaseException as error:  # noqa: BLE001 - the client gets it
            self._error = error
        with self._source.changing():
            self._state.migration = None

    def result(self) -> None:
        """Return if the guest has moved.

        :raises libvirt.libvirtError: if it has not.
        """
        if self._error is not None:
            raise self._error

    def abort(self) -> None:
        """Ask the job to stop at its next step."""
        self._aborted = True
        self.changed.set()

    def statistics(self) -> dict[str, Any]:
        """Return what ``jobStats`` answers while the job runs.

        While the downtime limit does not do, QEMU goes through the memory
        again and again: once for each time that somebody looks.
        """
        if self._endless:
            self.round += 1
        return statistics.running(
            self._source, self._guest, self.round, self._state
        )

    def _migrate(self) -> None:
        self._step("begin")
        peer = self._connect()
        with self._source.changing():
            document = self._begin()
        self._step("prepare")
        with self._source.changing():
            self._prepare(peer, document)
        try:
            self._refuse_flags()
            self._copy()
            with self._source.changing():
                self._switch_over()
            self._step("load")
            with self._source.changing():
                self._load(peer)
            self._step("finish")
            with self._source.changing():
                self._check()
                self._finish(peer)
        except BaseException:
            with self._source.changing():
                self._undo(peer)
            raise

    def _connect(self) -> "SimulatedHost":
        uri = self._request.peer_uri
        try:
            peer = self._source.group.reach(uri)
        except libvirt.libvirtError as error:
            raise errors.failed(
                f"Failed to connect to remote libvirt URI {uri}: {error}"
            ) from None
        self._peer = peer
        self._watch(peer)
        return peer

    def _watch(self, host: "SimulatedHost") -> None:
        self._starts[host.name] = host.daemon_starts

    def _begin(self) -> str:
        engine = self._source.guests.engine
        source = engine.document(self._guest, _MIGRATABLE)
        target = self._request.destination_xml or source
        if _NO_NAME.fullmatch(target):
            # The test driver would report it on stderr, too.
            raise errors.libvirt_error(
                libvirt.VIR_ERR_NO_NAME, "missing name information"
            )
        abi.check(_normal(source), _normal(target))
        if self._request.persistent_xml is not None:
            _normal(self._request.persistent_xml)
        return target

    def _prepare(self, peer: "SimulatedHost", document: str) -> None:
        if peer.host_uuid == self._source.host_uuid:
            raise errors.internal(
                f"Attempt to migrate guest to the same host {peer.host_uuid}"
            )
        peer.guests.receive(document)
        self._targets = peer.guests.engine.mdevs(self._guest)

    def _refuse_flags(self) -> None:
        for flag, refusal in _REFUSED_FLAGS.items():
            if self._targets and self._request.has(flag):
                raise errors.internal(refusal)

    def _copy(self) -> None:
        last = self._source.group.copy_rounds
        while self.round < last or not self._converged():
            self._step("copy", self.round + 1)
            self._copying = True
            self.round += 1
            if self.round >= last and not self._converged():
                self._endless = True
                self.changed.wait()
                self.changed.clear()
                self._endless = False

    def _converged(self) -> bool:
        source = self._source
        with source.changing():
            fits = self._state.max_downtime_ms >= source.required_downtime_ms
            held_up = (
                source.held_up_by_bandwidth and self.speed < guests.MAX_SPEED
            )
            return (fits and not held_up) or self._obstacle() is not None

    def _switch_over(self) -> None:
        guests = self._source.guests
        if not guests.is_paused(self._guest):
            guests.switch_over(self._guest)

    def _load(self, peer: "SimulatedHost") -> None:
        sources = self._source.guests.engine.mdevs(self._guest)
        for source_uuid, target_uuid in zip(
            sources, self._targets, strict=True
        ):
            source = self._source.devices.active(source_uuid)
            target = peer.devices.active(target_uuid)
            if target is None or target.resuming:
                raise _not_loaded("Bad file descriptor")
            if source is None or source.mdev_type != target.mdev_type:
                raise _not_loaded("Bad address")

    def _finish(self, peer: "SimulatedHost") -> None:
        completed = statistics.completed(
            self._source, self._guest, self.round, self._state
        )
        self._state.completed = completed
        config = self._persistent_document()
        peer.guests.accept(self._guest, self._state, paused=self._was_paused)
        if self._request.has(libvirt.VIR_MIGRATE_PERSIST_DEST):
            peer.guests.define(config)
        self._leave()
        self._source.group.expected_guests.add(self._guest)
        peer.announce_job(self._guest, completed)

    def _persistent_document(self) -> str:
        if self._request.persistent_xml is not None:
            return self._request.persistent_xml
        return self._source.guests.engine.document(self._guest, _INACTIVE)

    def _leave(self) -> None:
        guests = self._source.guests
        detail = libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED
        persistent = guests.engine.is_persistent(self._guest)
        guests.stop(self._guest, detail)
        guests.forget(self._guest, self._state.completed)
        guests.state(self._guest).reason = _MIGRATED_AWAY
        if persistent and self._request.has(
            libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
        ):
            guests.undefine(self._guest)

    def _undo(self, peer: "SimulatedHost") -> None:
        peer.guests.drop(self._guest)
        self._source.guests.switch_back(self._guest)
        for mdev_uuid in self._targets if self._copying else ():
            target = peer.devices.active(mdev_uuid)
            if target is not None:
                target.resuming = True

    def _step(self, phase: str, number: int = 0) -> None:
        group = self._source.group
        peer = "" if self._peer is None else self._peer.name
        step = Step(self._guest, self._source.name, peer, phase, number)
        group.pace(step)
        with self._source.changing():
            self._check()

    def _check(self) -> None:
        obstacle = self._obstacle()
        if obstacle is not None:
            raise obstacle

    def _obstacle(self) -> libvirt.libvirtError | None:
        """Say what keeps the job from going on: nothing, as a rule."""
        if self._aborted:
            return errors.libvirt_error(
                libvirt.VIR_ERR_OPERATION_ABORTED,
                "job 'migration out' canceled by client",
            )
        if self._is_cut_off(self._source):
            return errors.failed("migration was interrupted by a restart")
        if self._peer is not None and self._is_cut_off(self._peer):
            return errors.failed("Lost connection to destination host")
        if not self._goes_on():
            return errors.failed("domain is not running")
        if self._targets and not self._arriving():
            return errors.failed("domain is no longer running")
        return None

    def _goes_on(self) -> bool:
        """Tell whether the guest is the process that the job began with."""
        guests = self._source.guests
        active = guests.engine.is_active(self._guest)
        return active and guests.state(self._guest) is self._state

    def _arriving(self) -> bool:
        peer = self._peer
        return peer is not None and peer.guests.engine.is_active(self._guest)

    def _is_cut_off(self, host: "SimulatedHost") -> bool:
        return (
            not host.daemon_runs
            or host.daemon_starts != self._starts[host.name]
        )


def _not_loaded(reason: str) -> libvirt.libvirtError:
    return errors.failed(
        f"job 'migration in' failed: load of migration failed: {reason}"
    )


def _normal(document: str) -> str:
    """Let libvirt parse a document on the side, and format it."""
    engine = Engine()
    return engine.document(engine.define(document), _INACTIVE)
