# SPDX-License-Identifier: Apache-2.0
"""Which objects does a simulated connection hand out?

:class:`SimulatedDomain` and :class:`SimulatedNodeDevice` have the names and
signatures of libvirt-python's ``virDomain`` and ``virNodeDevice``, as far as
they are simulated. They hold no state: each call asks the host anew.
"""

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import libvirt
from lxml import etree

from mdev_migrate.testing import (
    errors,
    guests,
    markup,
    statistics,
    transfer,
)
from mdev_migrate.testing.link import remote, remote_unlocked

if TYPE_CHECKING:
    from mdev_migrate.testing.connection import SimulatedConnection

#: QEMU's limit of the downtime that may be asked for, in milliseconds.
MAX_DOWNTIME_MS = 2_000_000


class SimulatedNodeDevice:
    """A node device of a simulated host, in place of ``virNodeDevice``."""

    def __init__(self, connection: "SimulatedConnection", name: str) -> None:
        self.host = connection.host
        self.link = connection.link
        self._connection = connection
        self._name = name

    def connect(self) -> "SimulatedConnection":
        """Return the connection."""
        return self._connection

    def name(self) -> str:
        """Return the device's libvirt name."""
        return self._name

    @remote
    def parent(self) -> str | None:
        """Return the name of the parent."""
        return self.host.devices.parent_of(self._name)

    @remote
    def XMLDesc(self, flags: int | None = 0) -> str:  # noqa: N802, ARG002
        """Return the device's document."""
        return self.host.told(
            self._name, self.host.devices.document(self._name)
        )

    @remote
    def listCaps(self) -> list[str]:  # noqa: N802
        """Return the names of the device's capabilities."""
        return list(self.host.devices.capabilities(self._name))

    @remote
    def destroy(self) -> int:
        """Destroy the mdev."""
        self.host.devices.destroy(self._name)
        return 0

    @remote
    def create(self, flags: int | None = 0) -> int:  # noqa: ARG002
        """Start the mdev, which is only defined."""
        self.host.devices.start(self._name)
        return 0

    @remote
    def undefine(self, flags: int | None = 0) -> int:  # noqa: ARG002
        """Remove the mdev's definition."""
        self.host.devices.undefine(self._name)
        return 0

    @remote
    def isActive(self) -> int:  # noqa: N802
        """Return 1 if the device exists now."""
        if self.host.devices.is_mdev(self._name):
            return int(self.host.devices.mdev(self._name).active)
        self.host.devices.check(self._name)
        return 1

    @remote
    def isPersistent(self) -> int:  # noqa: N802
        """Return 1 if the device survives a reboot."""
        if self.host.devices.is_mdev(self._name):
            return int(self.host.devices.mdev(self._name).persistent)
        self.host.devices.check(self._name)
        return int(self._name == "computer")

    @remote
    def autostart(self) -> int:
        """Return 1 if the mdev starts when its parent appears."""
        if self.host.devices.is_mdev(self._name):
            return int(self.host.devices.mdev(self._name).autostart)
        self.host.devices.check(self._name)
        return 0

    @remote
    def setAutostart(self, autostart: int) -> int:  # noqa: N802
        """Say whether the mdev starts when its parent appears."""
        self.host.devices.set_autostart(self._name, bool(autostart))
        return 0


class SimulatedDomain:
    """A guest of a simulated host, in place of ``virDomain``."""

    def __init__(
        self, connection: "SimulatedConnection", uuid: str, name: str
    ) -> None:
        self.host = connection.host
        self.link = connection.link
        self._connection = connection
        self._uuid = uuid
        self._name = name

    def connect(self) -> "SimulatedConnection":
        """Return the connection."""
        return self._connection

    def name(self) -> str:
        """Return the guest's name."""
        return self._name

    def UUIDString(self) -> str:  # noqa: N802
        """Return the guest's UUID."""
        return self._uuid

    def ID(self) -> int:  # noqa: N802
        """Return the guest's number, -1 if it is not active."""
        with self.host.changing():
            engine = self.host.guests.engine
            known = engine.holds(self._uuid)
            return int(engine.guest(self._uuid).ID()) if known else -1

    @remote
    def isActive(self) -> int:  # noqa: N802
        """Return 1 if the guest runs."""
        self._check()
        return int(self.host.guests.engine.is_active(self._uuid))

    @remote
    def isPersistent(self) -> int:  # noqa: N802
        """Return 1 if the guest has a definition."""
        self._check()
        return int(self.host.guests.engine.is_persistent(self._uuid))

    @remote
    def state(self, flags: int | None = 0) -> list[int]:  # noqa: ARG002
        """Return the guest's state and the reason of it."""
        self._check()
        return list(self.host.guests.told_state(self._uuid))

    @remote
    def info(self) -> list[int]:
        """Return state, memory and processors of the guest."""
        self._check()
        return list(self.host.guests.engine.guest(self._uuid).info())

    @remote
    def XMLDesc(self, flags: int | None = 0) -> str:  # noqa: N802
        """Return the guest's document."""
        self._check()
        engine = self.host.guests.engine
        document = engine.document(self._uuid, flags or 0)
        hidden = (
            libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_MIGRATABLE
        )
        if engine.is_active(self._uuid) and not (flags or 0) & hidden:
            document = _with_aliases(document)
        return self.host.told(self._name, document)

    @remote
    def autostart(self) -> int:
        """Return 1 if the guest is started when its host boots."""
        self._check()
        return int(self.host.guests.engine.guest(self._uuid).autostart())

    @remote
    def setAutostart(self, autostart: int) -> int:  # noqa: N802
        """Say whether the guest is started when its host boots."""
        self._check()
        if not self.host.guests.engine.is_persistent(self._uuid):
            raise errors.invalid("cannot set autostart for transient domain")
        self.host.guests.engine.guest(self._uuid).setAutostart(autostart)
        return 0

    @remote
    def create(self) -> int:
        """Start the guest."""
        self._check()
        self.host.guests.start(self._uuid)
        return 0

    @remote
    def destroy(self) -> int:
        """Stop the guest at once."""
        self._check_running()
        self.host.guests.stop(self._uuid)
        self.host.group.wake_migrations()
        return 0

    @remote
    def suspend(self) -> int:
        """Pause the guest."""
        self._check_running()
        if self.host.guests.state(self._uuid).incoming:
            raise errors.libvirt_error(
                libvirt.VIR_ERR_OPERATION_TIMEOUT,
                "(held by monitor=remoteDispatchDomainMigratePrepare3Params)",
            )
        self.host.guests.suspend(self._uuid)
        return 0

    @remote
    def resume(self) -> int:
        """Let the guest go on, which somebody paused."""
        self._check_running()
        if self.host.guests.state(self._uuid).incoming:
            raise errors.libvirt_error(
                libvirt.VIR_ERR_OPERATION_TIMEOUT,
                "(held by monitor=remoteDispatchDomainMigratePrepare3Params)",
            )
        self.host.guests.resume(self._uuid)
        return 0

    @remote
    def undefine(self) -> int:
        """Remove the guest's definition."""
        self._undefine()
        return 0

    @remote
    def undefineFlags(self, flags: int | None = 0) -> int:  # noqa: N802, ARG002
        """Remove the guest's definition."""
        self._undefine()
        return 0

    @remote
    def setMetadata(  # noqa: N802
        self,
        type: int,  # noqa: A002
        metadata: str,
        key: str,
        uri: str,
        flags: int | None = 0,
    ) -> int:
        """Replace what the guest's document says in a namespace."""
        self._check()
        guest = self.host.guests.engine.guest(self._uuid)
        guest.setMetadata(type, metadata, key, uri, flags)
        self.host.announce_metadata(self._uuid, type, uri)
        return 0

    # Migration and its job.

    @remote_unlocked
    def migrateToURI3(  # noqa: N802
        self,
        dconnuri: str,
        params: Mapping[str, Any],
        flags: int | None = 0,
    ) -> int:
        """Migrate the guest and return when it has moved."""
        request = transfer.Request(
            guest=self._uuid,
            peer_uri=dconnuri,
            destination_xml=params.get(libvirt.VIR_MIGRATE_PARAM_DEST_XML),
            persistent_xml=params.get(libvirt.VIR_MIGRATE_PARAM_PERSIST_XML),
            flags=flags or 0,
            parameters=dict(params),
        )
        transfer.check_parameters(request)
        ended = threading.Event()
        if request.has(libvirt.VIR_MIGRATE_OFFLINE):
            with self.host.changing():
                self._check()
                self.host.requests.append(request)
                transfer.move_definition(self.host, request)
            return 0
        with self.host.changing():
            self._check_running()
            transfer.check_request(self.host, request)
            job = transfer.Migration(self.host, request)
            self.host.requests.append(request)
            job.start(ended)
        self.link.wait_for(ended)
        job.result()
        return 0

    @remote
    def migrateSetMaxDowntime(  # noqa: N802
        self,
        downtime: int,
        flags: int | None = 0,  # noqa: ARG002
    ) -> int:
        """Set the longest pause allowed, in milliseconds."""
        self._check_running()
        if not 0 <= downtime <= MAX_DOWNTIME_MS:
            raise errors.internal(
                "unable to execute QEMU command 'migrate-set-parameters': "
                "Parameter 'downtime-limit' expects an integer in the range "
                "of 0 to 2000000 milliseconds"
            )
        self.host.guests.state(self._uuid).max_downtime_ms = downtime
        self.host.group.wake_migrations()
        return 0

    @remote
    def migrateGetMaxDowntime(  # noqa: N802
        self,
        flags: int | None = 0,  # noqa: ARG002
    ) -> int:
        """Return the longest pause allowed, in milliseconds."""
        self._check_running()
        return self.host.guests.state(self._uuid).max_downtime_ms

    @remote
    def migrateSetMaxSpeed(  # noqa: N802
        self,
        bandwidth: int,
        flags: int | None = 0,  # noqa: ARG002
    ) -> int:
        """Set the bandwidth limit, in MiB/s; a running job heeds it too."""
        if not 0 <= bandwidth <= guests.MAX_SPEED:
            raise errors.libvirt_error(
                libvirt.VIR_ERR_OVERFLOW,
                f"bandwidth must be less than {guests.MAX_SPEED + 1}",
            )
        self._check_running()
        state = self.host.guests.state(self._uuid)
        state.max_speed = bandwidth
        if state.migration is not None:
            state.migration.speed = bandwidth
        self.host.group.wake_migrations()
        return 0

    @remote
    def migrateGetMaxSpeed(  # noqa: N802
        self,
        flags: int | None = 0,  # noqa: ARG002
    ) -> int:
        """Return the bandwidth limit, in MiB/s: a running job's own."""
        self._check_running()
        state = self.host.guests.state(self._uuid)
        if state.migration is not None:
            return state.migration.speed
        return state.max_speed

    @remote
    def jobStats(self, flags: int | None = 0) -> dict[str, Any]:  # noqa: N802
        """Return the statistics of the running, or of the last, job."""
        self._check()
        return self._job_statistics(flags or 0)

    @remote
    def jobInfo(self) -> list[int]:  # noqa: N802
        """Return the twelve figures of the running job."""
        self._check()
        return statistics.job_info(self._job_statistics(0))

    @remote
    def abortJob(self) -> int:  # noqa: N802
        """Ask the running job to stop."""
        self._check_running()
        job = self.host.guests.state(self._uuid).migration
        if job is None:
            raise errors.invalid("no job is active on the domain")
        job.abort()
        return 0

    def _job_statistics(self, flags: int) -> dict[str, Any]:
        state = self.host.guests.state(self._uuid)
        if flags & libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED:
            figures = dict(state.completed)
            if not flags & libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED:
                state.completed = {}
        elif state.migration is not None:
            figures = state.migration.statistics()
        else:
            figures = {}
        return figures or {"type": libvirt.VIR_DOMAIN_JOB_NONE}

    def _undefine(self) -> None:
        self._check()
        if not self.host.guests.engine.is_persistent(self._uuid):
            raise errors.invalid("cannot undefine transient domain")
        self.host.guests.undefine(self._uuid)

    def _check(self) -> None:
        self.host.guests.check(self._uuid, self._name)

    def _check_running(self) -> None:
        self.host.guests.check_running(self._uuid, self._name)


def _with_aliases(document: str) -> str:
    """Name the host devices of a running guest, as libvirt does."""
    root = markup.parse(document)
    for number, hostdev in enumerate(root.iterfind("devices/hostdev")):
        if hostdev.find("alias") is None:
            alias = etree.Element("alias", name=f"hostdev{number}")
            hostdev.insert(1, alias)
    return markup.write(root)
