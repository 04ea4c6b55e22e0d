# SPDX-License-Identifier: Apache-2.0
"""What does libvirt report of a migration's progress?

Time is counted in rounds of the copy, not measured, so that a test sees the
same figures every time.
"""

from typing import TYPE_CHECKING, Any

import libvirt

from mdev_migrate.testing import documents

if TYPE_CHECKING:
    from mdev_migrate.testing.guests import GuestState
    from mdev_migrate.testing.host import SimulatedHost

#: How long a round of the copy is said to take, in milliseconds.
ROUND_MS = 100
#: How many bytes of device state an mdev is said to have.
MDEV_STATE_BYTES = 1 << 20
#: The pause of a guest that needs no longer one, in milliseconds.
SHORT_DOWNTIME_MS = 40
#: libvirt 10.6.0 is the first to report the device state's progress.
_REPORTS_VFIO = (10, 6, 0)
_JOB_INFO_FIELDS = (
    "type",
    "time_elapsed",
    "time_remaining",
    "data_total",
    "data_processed",
    "data_remaining",
    "memory_total",
    "memory_processed",
    "memory_remaining",
    "disk_total",
    "disk_processed",
    "disk_remaining",
)


def running(
    host: "SimulatedHost", guest: str, rounds: int, state: "GuestState"
) -> dict[str, Any]:
    """Return the statistics of a job that has copied some rounds."""
    total = _memory_bytes(host, guest)
    done = min(rounds, host.group.copy_rounds)
    processed = total * done // host.group.copy_rounds
    figures = {
        "type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED,
        "operation": libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT,
        "time_elapsed": rounds * ROUND_MS,
        "setup_time": 1,
        "downtime": state.max_downtime_ms,
        "memory_iteration": rounds,
        "memory_dirty_rate": 0,
        "memory_page_size": 4096,
        "memory_bps": total * 1000 // (host.group.copy_rounds * ROUND_MS),
    }
    for kind in ("data", "memory"):
        figures[f"{kind}_total"] = total
        figures[f"{kind}_processed"] = processed
        figures[f"{kind}_remaining"] = total - processed
    figures |= {f"disk_{k}": 0 for k in ("total", "processed", "remaining")}
    mdevs = len(host.guests.engine.mdevs(guest))
    if mdevs and host.libvirt_version >= _REPORTS_VFIO:
        device_bytes = mdevs * MDEV_STATE_BYTES
        figures[libvirt_vfio()] = device_bytes * done // host.group.copy_rounds
    return figures


def completed(
    host: "SimulatedHost", guest: str, rounds: int, state: "GuestState"
) -> dict[str, Any]:
    """Return the statistics of a job that has moved its guest."""
    figures = running(host, guest, rounds, state)
    figures["type"] = libvirt.VIR_DOMAIN_JOB_COMPLETED
    figures["downtime"] = max(SHORT_DOWNTIME_MS, host.required_downtime_ms)
    figures["time_elapsed"] += figures["downtime"]
    return figures


def job_info(figures: dict[str, Any]) -> list[int]:
    """Return what ``jobInfo`` answers for some statistics."""
    return [int(figures.get(field, 0)) for field in _JOB_INFO_FIELDS]


def libvirt_vfio() -> str:
    """Return libvirt's name for the device state's bytes.

    The constant is missing from libvirt-python on libvirt older than 10.6.
    """
    return "vfio_data_transferred"


def _memory_bytes(host: "SimulatedHost", guest: str) -> int:
    document = documents.parse(host.guests.engine.document(guest))
    return int(documents.text_of(document, "memory")) * 1024
