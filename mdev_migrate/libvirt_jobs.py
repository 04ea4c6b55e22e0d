# SPDX-License-Identifier: Apache-2.0
"""Read what libvirt tells of a guest's job."""

from __future__ import annotations

from typing import Any

import libvirt

from mdev_migrate import model

#: virDomainJobOperation.
_OPERATIONS = {
    libvirt.VIR_DOMAIN_JOB_OPERATION_START: "start",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE: "save",
    libvirt.VIR_DOMAIN_JOB_OPERATION_RESTORE: "restore",
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN: "incoming migration",
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT: model.MIGRATION_OUT,
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT: "snapshot",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT: "revert to a snapshot",
    libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP: "dump",
}


def read(stats: dict[str, Any]) -> model.JobProgress | None:
    """Return a job's statistics, None if there is no job."""
    if stats.get("type", 0) == libvirt.VIR_DOMAIN_JOB_NONE:
        return None
    return model.JobProgress(
        data_total=stats.get(libvirt.VIR_DOMAIN_JOB_DATA_TOTAL),
        data_processed=stats.get(libvirt.VIR_DOMAIN_JOB_DATA_PROCESSED),
        data_remaining=stats.get(libvirt.VIR_DOMAIN_JOB_DATA_REMAINING),
        #: VIR_DOMAIN_JOB_VFIO_DATA_TRANSFERRED, libvirt 10.6.0.
        device_transferred=stats.get("vfio_data_transferred"),
        downtime_ms=stats.get(libvirt.VIR_DOMAIN_JOB_DOWNTIME),
        elapsed_ms=stats.get(libvirt.VIR_DOMAIN_JOB_TIME_ELAPSED),
        iteration=stats.get(libvirt.VIR_DOMAIN_JOB_MEMORY_ITERATION),
        operation=_OPERATIONS.get(stats.get("operation", 0)),
        rate=_rate(stats),
        dirty_rate=_dirty_rate(stats),
    )


def completed(domain: Any) -> model.JobProgress | None:
    """Return the statistics of a guest's last job, None if it had none.

    :raises libvirt.libvirtError: if they cannot be read.
    """
    return read(domain.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED))


def _rate(stats: dict[str, Any]) -> int | None:
    """Return the bytes of memory and disks that are sent a second."""
    names = (
        libvirt.VIR_DOMAIN_JOB_MEMORY_BPS,
        libvirt.VIR_DOMAIN_JOB_DISK_BPS,
    )
    known = [stats[name] for name in names if name in stats]
    return sum(known) if known else None


def _dirty_rate(stats: dict[str, Any]) -> int | None:
    """Return the bytes a second; libvirt counts pages."""
    pages = stats.get(libvirt.VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE)
    size = stats.get(libvirt.VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE)
    return None if pages is None or size is None else pages * size
