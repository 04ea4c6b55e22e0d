# SPDX-License-Identifier: Apache-2.0
"""Metrics of the live migrations that leave or reach a compute node.

The source knows how one ended, what it took and how much device state it saw
sent, the destination how long the guest stood still and what was sent; either
knows how long its own part of the checks, of claiming and preparing took. Each
writes what it knows, of the last migration of each instance, into a file of
its own. That it cannot be written is said, and disturbs no migration.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from oslo_log import log

from mdev_migrate import exception, metrics, model
from mdev_migrate.compute import objects
from mdev_migrate.compute.driver_host import DriverHost
from mdev_migrate.core.phases import Step

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
        self._steps: dict[str, dict[str, float]] = {}
        self._lock = threading.Lock()
        self._complaint = ""

    @property
    def wanted(self) -> bool:
        """Tell whether there is a file to write."""
        return bool(self._path())

    def took(self, instance: Any, step: Step, seconds: float) -> None:
        """Keep what a step before a migration took here.

        The check is the first, and begins anew.
        """
        if not self.wanted:
            return
        uuid = objects.instance_uuid(instance)
        with self._lock:
            known = self._steps.pop(uuid, {})
            if step is Step.CHECK:
                known = {}
            self._steps[uuid] = {**known, step.value: seconds}
            _forget(self._steps)

    def left(
        self,
        instance: Any,
        mdev_types: Iterable[str],
        seconds: float,
        code: str = "",
        device_bytes: int | None = None,
    ) -> None:
        """Note how a migration from here has ended.

        :param seconds: what libvirt's migration took.
        :param code: of why the guest stayed; empty if it has left.
        :param device_bytes: of device state, as was seen last.
        """
        self._note(
            metrics.Ended(
                guest=_name_of(instance),
                instance_uuid=objects.instance_uuid(instance),
                mdev_types=tuple(mdev_types),
                at=time.time(),
                result="failed" if code else "migrated",
                code=code,
                steps={Step.MIGRATE.value: seconds},
                device_bytes=device_bytes,
            )
        )

    def arrived(self, instance: Any, mdev_types: Iterable[str]) -> None:
        """Note what libvirt tells of a migration to here."""
        if not self.wanted:
            return
        uuid = objects.instance_uuid(instance)
        job = self._completed(uuid)
        stopped_ms = job.downtime_ms if job else None
        self._note(
            metrics.Ended(
                guest=_name_of(instance),
                instance_uuid=uuid,
                mdev_types=tuple(mdev_types),
                at=time.time(),
                downtime_s=None if stopped_ms is None else stopped_ms / 1000,
                sent_bytes=job.bytes_moved() if job else None,
            )
        )

    def _completed(self, instance_uuid: str) -> model.JobProgress | None:
        try:
            return self._host.completed(instance_uuid)
        except exception.MdevMigrateError as error:
            LOG.debug("Not known of %s: %s", instance_uuid, error)
            return None

    def _note(self, ended: metrics.Ended) -> None:
        path = self._path()
        if not path:
            return
        with self._lock:
            uuid = ended.instance_uuid
            before = self._steps.pop(uuid, {})
            self._ended.pop(uuid, None)
            self._ended[uuid] = replace(ended, steps={**before, **ended.steps})
            _forget(self._ended)
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


def _forget(by_instance: dict[str, Any]) -> None:
    """Forget those that are noted longest."""
    for uuid in list(by_instance)[:-_KEPT]:
        del by_instance[uuid]


def _name_of(instance: Any) -> str:
    """Return an instance's name, its UUID if Nova gave no more."""
    return str(getattr(instance, "name", objects.instance_uuid(instance)))
