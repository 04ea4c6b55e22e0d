# SPDX-License-Identifier: Apache-2.0
"""What does libvirt report of a migration's progress?

Time is counted in rounds of the copy, not measured, so that a test sees the
same figures every time.
"""

from typing import TYPE_CHECKING, Any

import libvirt

from mdev_migrate.testing import markup

if TYPE_CHECKING:
    from mdev_migrate.testing.guests import GuestState
    from mdev_migrate.testing.simulated_host import SimulatedHost

#: How long a round of the copy is said to take, in milliseconds.
ROUND_MS = 100
#: How many bytes of device state an mdev is said to have.
MDEV_STATE_BYTES = 1 << 20
#: How fast memory is said to be copied.
MEMORY_BYTES_PER_S = 1 << 30
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
    """Return the statistics of a job that has copied some rounds.

    Until the first one libvirt knows no totals, no downtime and nothing of
    the device state.
    """
    share = min(rounds, host.group.copy_rounds) / host.group.copy_rounds
    total = _memory_bytes(host, guest) if rounds else 0
    figures = {
        "type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED,
        "operation": libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT,
        "time_elapsed": rounds * ROUND_MS,
        "memory_iteration": rounds,
        "memory_dirty_rate": 0,
        "memory_postcopy_requests": 0,
    }
    for kind in ("data", "memory", "disk"):
        whole = 0 if kind == "disk" else total
        figures[f"{kind}_total"] = whole
        figures[f"{kind}_processed"] = int(whole * share)
        figures[f"{kind}_remaining"] = whole - int(whole * share)
    if rounds:
        figures |= _of_the_copy(host, guest, share, state)
    return figures


def _of_the_copy(
    host: "SimulatedHost", guest: str, share: float, state: "GuestState"
) -> dict[str, int]:
    figures = {
        # At first QEMU expects what it was told.
        "downtime": max(SHORT_DOWNTIME_MS, host.required_downtime_ms)
        if share == 1
        else state.max_downtime_ms,
        "setup_time": 1,
        "memory_page_size": 4096,
        "memory_bps": MEMORY_BYTES_PER_S,
    }
    mdevs = len(host.guests.engine.mdevs(guest))
    if mdevs and share == 1 and host.libvirt_version >= _REPORTS_VFIO:
        # Sent last. libvirt-python has no constant for it before 10.6.
        figures["vfio_data_transferred"] = mdevs * MDEV_STATE_BYTES
    return figures


def completed(
    host: "SimulatedHost", guest: str, rounds: int, state: "GuestState"
) -> dict[str, Any]:
    """Return the statistics of a job that has moved its guest.

    The destination has them, and libvirt does not tell it of device state.
    """
    figures = running(host, guest, rounds, state)
    figures.pop("vfio_data_transferred", None)
    figures["type"] = libvirt.VIR_DOMAIN_JOB_COMPLETED
    figures["downtime"] = max(SHORT_DOWNTIME_MS, host.required_downtime_ms)
    figures["time_elapsed"] += figures["downtime"]
    return figures


def job_info(figures: dict[str, Any]) -> list[int]:
    """Return what ``jobInfo`` answers for some statistics."""
    return [int(figures.get(field, 0)) for field in _JOB_INFO_FIELDS]


def _memory_bytes(host: "SimulatedHost", guest: str) -> int:
    document = markup.parse(host.guests.engine.document(guest))
    return int(markup.text_of(document, "memory")) * 1024
