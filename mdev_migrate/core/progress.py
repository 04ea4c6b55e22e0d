# SPDX-License-Identifier: Apache-2.0
"""Tell from a job's statistics how much of a guest's memory is there.

A page that the guest writes again is sent again, so what was *sent* says
nothing: it may be many times the total. What is *done* is the total without
what remains, as virsh counts it. Memory and disks only: libvirt knows no
total of device state.
"""

from __future__ import annotations

from mdev_migrate import model


def done(progress: model.JobProgress) -> int | None:
    """Return the bytes that need not be sent (again); None if unknown.

    Before anything was sent it is not known what there is to send.
    """
    total, remaining = progress.data_total, progress.data_remaining
    if total is None or remaining is None or min(total, remaining) < 0:
        return None
    if remaining == 0 and progress.data_processed == 0:
        return None
    return max(0, total - remaining)


def share(progress: model.JobProgress) -> int | None:
    """Return how many percent are done, None if that is unknown.

    100 is said only when nothing remains.

    >>> share(model.JobProgress(data_total=1000, data_remaining=1))
    99
    """
    known = done(progress)
    if known is None or not progress.data_total:
        return None
    return 100 * known // progress.data_total


def rate(progress: model.JobProgress) -> float | None:
    """Return the bytes sent a second, None if that is unknown.

    What libvirt measured last, else the average since the job began.
    """
    if progress.rate is not None and progress.rate > 0:
        return float(progress.rate)
    if progress.data_processed and progress.elapsed_ms:
        return 1000 * progress.data_processed / progress.elapsed_ms
    return None


def time_left_s(progress: model.JobProgress) -> float | None:
    """Estimate in how many seconds nothing remains; None if unknown.

    What the guest writes meanwhile has to be sent as well. Infinite if it
    writes as fast as is sent: at this rate the copy does not end.
    """
    if progress.data_remaining == 0:
        return 0.0
    sending = rate(progress)
    if progress.data_remaining is None or sending is None:
        return None
    gained = sending - (progress.dirty_rate or 0)
    return progress.data_remaining / gained if gained > 0 else float("inf")
