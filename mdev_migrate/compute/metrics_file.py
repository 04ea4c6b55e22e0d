# SPDX-License-Identifier: Apache-2.0
"""Metrics of the live migrations that leave or reach a compute node.

The source knows how one ended and what it took, the destination how long the
guest stood still and what was sent: each writes what it knows, of the last
migration of each instance, into a file of its own. That it cannot be written
is said, and disturbs no migration.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from oslo_log import log

from mdev_migrate import exception, metrics
from mdev_migrate.compute import objects
from mdev_migrate.compute.driver_host import DriverHost

LOG = log.getLogger(__name__)

#: Of how many instances the last migration is kept.
_KEPT = 500


class MetricsFile:
    """The file of metrics of a compute service.

    :param path: returns where it is; empty for none.
    """

    def __init__(self, host: DriverHost, path: Callable[[], str]) -> None:
        self._host = host
        self._path = path
        self._ended: dict[str, metrics.Ended] = {}
        self._lock = threading.Lock()
        self._complaint = ""

    def left(
        self,
        instance: Any,
        mdev_types: Iterable[str],
        seconds: float,
        code: str = "",
    ) -> None:
        """Note how a migration from here has ended.

        :param seconds: what libvirt's migration took.
        :param code: of why the guest stayed; empty if it has left.
        """
        self._note(
            metrics.Ended(
                guest=_name_of(instance),
                instance_uuid=objects.instance_uuid(instance),
                mdev_types=tuple(mdev_types),
                at=time.time(),
                result="failed" if code else "migrated",
                code=code,
                steps={"migrate": seconds},
            )
        )

    def arrived(self, instance: Any, mdev_types: Iterable[str]) -> None:
        """Note what libvirt tells of a migration to here."""
        if not self._path():
            return
        uuid = objects.instance_uuid(instance)
        try:
            job = self._host.completed(uuid)
        except exception.MdevMigrateError as error:
            LOG.debug("Not known of %s: %s", uuid, error)
            return
        if job is not None:
            stopped_ms = job.downtime_ms
            self._note(
                metrics.Ended(
                    guest=_name_of(instance),
                    instance_uuid=uuid,
                    mdev_types=tuple(mdev_types),
                    at=time.time(),
                    downtime_s=None
                    if stopped_ms is None
                    else stopped_ms / 1000,
                    sent_bytes=job.bytes_moved(),
                )
            )

    def _note(self, ended: metrics.Ended) -> None:
        path = self._path()
        if not path:
            return
        with self._lock:
            self._ended.pop(ended.instance_uuid, None)
            self._ended[ended.instance_uuid] = ended
            for uuid in list(self._ended)[:-_KEPT]:
                del self._ended[uuid]
            self._write(path)

    def _write(self, path: str) -> None:
        complaint = ""
        try:
            metrics.write(path, self._ended.values())
        except Exception as error:  # noqa: BLE001 - no guest is hurt by it
            complaint = str(error)
        if complaint and complaint != self._complaint:
            LOG.warning(
                "No metrics of live migrations: %(complaint)s",
                {"complaint": complaint},
            )
        self._complaint = complaint


def _name_of(instance: Any) -> str:
    """Return an instance's name, its UUID if Nova gave no more."""
    return str(getattr(instance, "name", objects.instance_uuid(instance)))
