# SPDX-License-Identifier: Apache-2.0
"""Which guests does a simulated host have, and which mdevs do they hold?"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import libvirt

from mdev_migrate.testing import errors
from mdev_migrate.testing.engine import Engine

if TYPE_CHECKING:
    from mdev_migrate.testing.simulated_host import SimulatedHost
    from mdev_migrate.testing.transfer import Migration

#: QEMU's own default, until somebody sets another limit.
DEFAULT_DOWNTIME_MS = 300

_PAUSED_BY_MIGRATION = (
    libvirt.VIR_DOMAIN_PAUSED,
    libvirt.VIR_DOMAIN_PAUSED_MIGRATION,
)
_RUNNING_MIGRATED = (
    libvirt.VIR_DOMAIN_RUNNING,
    libvirt.VIR_DOMAIN_RUNNING_MIGRATED,
)
_RUNNING_AGAIN = (
    libvirt.VIR_DOMAIN_RUNNING,
    libvirt.VIR_DOMAIN_RUNNING_MIGRATION_CANCELED,
)


#: MiB/s: what libvirt takes for no limit (QEMU_DOMAIN_MIG_BANDWIDTH_MAX).
MAX_SPEED = (2**63 - 1) // 2**20


@dataclass(slots=True)
class GuestState:
    """What libvirt's test driver does not keep of a guest.

    :ivar blockers: why QEMU will not migrate it.
    :ivar max_speed: the bandwidth limit of its migrations, in MiB/s.
    :ivar migration: the migration that it is leaving by.
    :ivar completed: the statistics of its last finished job.
    :ivar incoming: its memory is still coming in; it does not run yet.
    :ivar reason: the state that a migration gave it, and libvirt's reason.
    """

    blockers: tuple[str, ...] = ()
    max_downtime_ms: int = DEFAULT_DOWNTIME_MS
    max_speed: int = MAX_SPEED
    migration: "Migration | None" = None
    completed: dict[str, Any] = field(default_factory=dict)
    incoming: bool = False
    reason: tuple[int, int] | None = None


class GuestTable:
    """The guests of one host.

    Not safe for threads: the caller holds the lock of the host's group.
    """

    def __init__(self, host: "SimulatedHost") -> None:
        self.engine = Engine()
        self._host = host
        self._states: dict[str, GuestState] = {}
        self._abandoned: set[str] = set()

    def state(self, uuid: str) -> GuestState:
        """Return what is kept of a guest beside the test driver."""
        return self._states.setdefault(uuid, GuestState())

    def check(self, uuid: str, name: str) -> None:
        """Refuse a guest that the host does not have."""
        if not self.engine.holds(uuid):
            raise errors.no_domain(
                f"no domain with matching uuid '{uuid}' ({name})"
            )

    def check_running(self, uuid: str, name: str) -> None:
        """Refuse a guest that does not run."""
        self.check(uuid, name)
        if not self.engine.is_active(uuid):
            raise errors.invalid("domain is not running")

    def running(self) -> set[str]:
        """Return the UUIDs of the guests that run, not of incoming ones."""
        uuids = self.engine.uuids(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        return {uuid for uuid in uuids if not self.state(uuid).incoming}

    def used_mdevs(self) -> dict[str, str]:
        """Return who has each mdev open: guest name by mdev UUID."""
        users = self.mdev_users()
        return {mdev_uuid: guests[0] for mdev_uuid, guests in users.items()}

    def mdev_users(self) -> dict[str, list[str]]:
        """Return the names of all guests that have an mdev open."""
        users: dict[str, list[str]] = {}
        flags = libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
        for uuid in self.engine.uuids(flags):
            opened = self.engine.mdevs(uuid)
            opened += self.engine.mdevs_by_options(uuid, live=True)
            for mdev_uuid in opened:
                users.setdefault(mdev_uuid, []).append(self.engine.name(uuid))
        return users

    def define(self, document: str) -> str:
        """Define a guest and return its UUID."""
        uuid = self.engine.define(document)
        self._announce(uuid, libvirt.VIR_DOMAIN_EVENT_DEFINED)
        return uuid

    def start(self, uuid: str) -> None:
        """Start a defined guest on its mdevs."""
        if self.engine.is_active(uuid):
            raise errors.invalid("domain is already running")
        self._take_mdevs(self.engine.mdevs(uuid), may_resume=False)
        self._open(self.engine.mdevs_by_options(uuid, live=False))
        self.engine.start(uuid)
        self._started(uuid)

    def create(self, document: str) -> str:
        """Start a guest from a document and return its UUID."""
        mdevs, opened, _ = self._tried(document)
        self._take_mdevs(mdevs, may_resume=False)
        self._open(opened)
        uuid = self.engine.create(document)
        self._started(uuid)
        return uuid

    def receive(self, document: str) -> str:
        """Start a guest whose memory is about to come in."""
        mdevs, opened, uuid = self._tried(document)
        if self.engine.is_active(uuid):
            name = self.engine.name(uuid)
            raise errors.invalid(f"domain '{name}' is already active")
        self._take_mdevs(mdevs, may_resume=True)
        self._open(opened)
        self.engine.create(document)
        self.engine.suspend(uuid)
        self.state(uuid).incoming = True
        self.state(uuid).reason = _PAUSED_BY_MIGRATION
        self._announce(
            uuid,
            libvirt.VIR_DOMAIN_EVENT_STARTED,
            libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED,
        )
        return uuid

    def accept(
        self, uuid: str, state: GuestState, *, paused: bool = False
    ) -> None:
        """Take an incoming guest, all of its memory being there.

        :param paused: as it was on the source; otherwise it runs.
        """
        self._states[uuid] = state
        if paused:
            state.reason = None
            return
        state.reason = _RUNNING_MIGRATED
        self.engine.resume(uuid)
        self._announce(uuid, libvirt.VIR_DOMAIN_EVENT_RESUMED, 1)

    def is_paused(self, uuid: str) -> bool:
        """Tell whether a guest is paused."""
        return bool(self.told_state(uuid)[0] == libvirt.VIR_DOMAIN_PAUSED)

    def told_state(self, uuid: str) -> tuple[int, int]:
        """Return a guest's state and the reason, as libvirt tells them."""
        state, reason = self.engine.guest(uuid).state()
        given = self.state(uuid).reason
        stands_still = state == libvirt.VIR_DOMAIN_PAUSED and (
            given and given[0] != libvirt.VIR_DOMAIN_RUNNING
        )
        if given and (given[0] == state or stands_still):
            return given
        return state, reason

    def stand_still(self, uuid: str, state: int, reason: int) -> None:
        """Let a guest not go on, for something that happened to it."""
        self.engine.suspend(uuid)
        self.state(uuid).reason = state, reason
        self._announce(uuid, libvirt.VIR_DOMAIN_EVENT_SUSPENDED)

    def suspend(self, uuid: str) -> None:
        """Pause a guest because somebody asks for it.

        One that is leaving is thereby only helped to be done: it runs on when
        it has arrived, or is not going to.
        """
        if self.state(uuid).migration is not None:
            self.switch_over(uuid)
            return
        self.engine.suspend(uuid)
        self.state(uuid).reason = None
        self._announce(uuid, libvirt.VIR_DOMAIN_EVENT_SUSPENDED)

    def resume(self, uuid: str) -> None:
        """Let a guest go on that somebody paused."""
        self.engine.resume(uuid)
        self.state(uuid).reason = None
        self._announce(uuid, libvirt.VIR_DOMAIN_EVENT_RESUMED)

    def switch_over(self, uuid: str) -> None:
        """Pause a guest that is about to run elsewhere."""
        self.engine.suspend(uuid)
        self.state(uuid).reason = _PAUSED_BY_MIGRATION
        self._announce(uuid, libvirt.VIR_DOMAIN_EVENT_SUSPENDED)

    def switch_back(self, uuid: str) -> None:
        """Let a guest go on that will not run elsewhere."""
        if (
            self.engine.is_active(uuid)
            and self.told_state(uuid) == _PAUSED_BY_MIGRATION
        ):
            self.engine.resume(uuid)
            self.state(uuid).reason = _RUNNING_AGAIN
            self._announce(uuid, libvirt.VIR_DOMAIN_EVENT_RESUMED)

    def drop(self, uuid: str) -> None:
        """Kill an incoming guest, now or when the daemon is back."""
        if not self._host.daemon_runs:
            self._abandoned.add(uuid)
            return
        self._abandoned.discard(uuid)
        if self.engine.is_active(uuid) and self.state(uuid).incoming:
            self.engine.stop(uuid)
            self._states.pop(uuid, None)
            self._stopped(uuid, libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED)

    def kill_abandoned(self) -> None:
        """Kill the incoming guests that lost their source."""
        for uuid in list(self._abandoned):
            self.drop(uuid)

    def stop(
        self,
        uuid: str,
        detail: int = libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED,
    ) -> None:
        """Stop a guest: its mdevs are free, a transient one is gone."""
        self.engine.stop(uuid)
        self._host.group.expected_guests.discard(uuid)
        self._stopped(uuid, detail)

    def reboot(self) -> None:
        """Stop all guests, and those that were coming in."""
        self._abandoned.clear()
        flags = libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
        for uuid in self.engine.uuids(flags):
            if not self.state(uuid).incoming:
                self._host.group.expected_guests.discard(uuid)
            self.engine.stop(uuid)
            self._states.pop(uuid, None)

    def forget(self, uuid: str, completed: dict[str, Any]) -> None:
        """Keep nothing of a guest that has left but its last job."""
        self._states[uuid] = GuestState(completed=dict(completed))

    def undefine(self, uuid: str) -> None:
        """Remove a guest's definition."""
        self.engine.undefine(uuid)
        self._announce(uuid, libvirt.VIR_DOMAIN_EVENT_UNDEFINED)

    def _started(self, uuid: str) -> None:
        self._states[uuid] = GuestState(blockers=self.state(uuid).blockers)
        self._host.group.expected_guests.add(uuid)
        self._announce(uuid, libvirt.VIR_DOMAIN_EVENT_STARTED)

    def _stopped(self, uuid: str, detail: int) -> None:
        self._announce(uuid, libvirt.VIR_DOMAIN_EVENT_STOPPED, detail)

    def _announce(self, uuid: str, event: int, detail: int = 0) -> None:
        self._host.announce_guest(uuid, event, detail)

    def _tried(self, document: str) -> tuple[list[str], list[str], str]:
        """Parse a document on the side.

        :returns: its mdevs, those that only QEMU knows of, and its UUID.
        """
        trial = Engine()
        uuid = trial.define(document)
        opened = trial.mdevs_by_options(uuid, live=False)
        return trial.mdevs(uuid), opened, uuid

    def _open(self, mdevs: list[str]) -> None:
        """Let QEMU open mdevs that libvirt knows nothing of."""
        for mdev_uuid in mdevs:
            if self._host.devices.active(mdev_uuid) is None:
                raise _qemu_ended(mdev_uuid, "No such file or directory")
            if mdev_uuid in self.used_mdevs():
                raise _qemu_ended(mdev_uuid, "Device or resource busy")
        self._refuse_spoiled(mdevs)

    def _take_mdevs(self, mdevs: list[str], may_resume: bool) -> None:
        used = self.used_mdevs()
        for mdev_uuid in mdevs:
            if self._host.devices.active(mdev_uuid) is None:
                raise errors.libvirt_error(
                    libvirt.VIR_ERR_DEVICE_MISSING,
                    f"mediated device '{mdev_uuid}' not found",
                    libvirt.VIR_FROM_NONE,
                )
            if mdev_uuid in self._used_unseen():
                raise _qemu_ended(mdev_uuid, "Device or resource busy")
            if mdev_uuid in used:
                raise errors.invalid(
                    f"mediated device {mdev_uuid} is in use by driver QEMU, "
                    f"domain {used[mdev_uuid]}",
                    libvirt.VIR_FROM_NONE,
                )
            if mdev_uuid in self._host.open_mdevs:
                raise errors.internal(
                    "QEMU unexpectedly closed the monitor: vfio "
                    f"{mdev_uuid}: failed to open /dev/vfio/1: Device or "
                    "resource busy"
                )
        if not may_resume:
            self._refuse_spoiled(mdevs)

    def _used_unseen(self) -> set[str]:
        """Return the mdevs in use that libvirt keeps no book of."""
        flags = libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
        return {
            mdev_uuid
            for uuid in self.engine.uuids(flags)
            for mdev_uuid in self.engine.mdevs_by_options(uuid, live=True)
        }

    def _refuse_spoiled(self, mdevs: list[str]) -> None:
        for mdev_uuid in mdevs:
            mdev = self._host.devices.active(mdev_uuid)
            if mdev is not None and mdev.resuming:
                self._host.crash(
                    f"kernel oops: a guest was started on mdev {mdev_uuid}, "
                    "which a failed incoming migration had left resuming"
                )
                raise errors.connection_broke()


def _qemu_ended(mdev_uuid: str, reason: str) -> libvirt.libvirtError:
    """Return what libvirt says of a QEMU that could not open an mdev."""
    return errors.internal(
        "QEMU unexpectedly closed the monitor: qemu-system-x86_64: -device "
        f"vfio-pci: vfio {mdev_uuid}: error getting device: {reason}"
    )
