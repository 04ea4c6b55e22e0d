# SPDX-License-Identifier: Apache-2.0
"""How much of a guest's memory is there, and when will all of it be?"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdev_migrate.core import progress
from mdev_migrate.model import JobProgress

_BYTES = st.integers(min_value=0, max_value=2**50)
_KNOWN = st.none() | _BYTES


@given(total=_BYTES, processed=_BYTES, remaining=_BYTES)
def test_share_is_of_the_total(total, processed, remaining):
    """However much was sent: 0 to 100, and 100 only if nothing is left."""
    job = JobProgress(total, processed, remaining)

    share = progress.share(job)

    if total == 0 or remaining == processed == 0:
        assert share is None
    else:
        assert share is not None
        assert 0 <= share <= 100
        assert (share == 100) == (remaining == 0)


@given(first=_BYTES, second=_BYTES)
def test_share_does_not_fall_as_less_remains(first, second):
    """Whoever sees the number rise sees the guest come nearer."""
    total = 2**50
    more, less = max(first, second), min(first, second)

    shares = [
        progress.share(JobProgress(total, data_remaining=left))
        for left in (more, less)
    ]

    assert shares == sorted(shares)


def test_more_remains_than_there_was():
    """A guest whose memory grew meanwhile has nothing done, not less."""
    assert progress.share(JobProgress(10, 50, 20)) == 0


@pytest.mark.parametrize(
    "job",
    [
        JobProgress(),
        JobProgress(data_total=10, data_processed=5),
        JobProgress(data_processed=5, data_remaining=5),
        JobProgress(data_total=0, data_processed=0, data_remaining=0),
        JobProgress(data_total=10, data_processed=0, data_remaining=0),
        JobProgress(data_total=-1, data_processed=-1, data_remaining=-1),
        JobProgress(data_total=10, data_remaining=-1),
    ],
)
def test_unknown_share(job):
    """What libvirt does not say is not made up."""
    assert progress.share(job) is None


def test_measured_rate_is_preferred():
    """The average of the whole time hides that a link became slow."""
    job = JobProgress(data_processed=10_000, elapsed_ms=1000, rate=10)

    assert progress.rate(job) == 10


def test_average_rate():
    """A libvirt that measures no rate tells bytes and time."""
    job = JobProgress(data_processed=10_000, elapsed_ms=500, rate=None)

    assert progress.rate(job) == 20_000


def test_time_left_counts_what_the_guest_writes():
    """Half of what is sent is sent again."""
    job = JobProgress(data_remaining=1000, rate=100, dirty_rate=50)

    assert progress.time_left_s(job) == 20


def test_no_end():
    """A guest that writes faster than is sent is never there."""
    job = JobProgress(data_remaining=1000, rate=100, dirty_rate=100)

    assert progress.time_left_s(job) == math.inf


@given(
    st.builds(
        JobProgress,
        data_total=_KNOWN,
        data_processed=_KNOWN,
        data_remaining=_KNOWN,
        elapsed_ms=_KNOWN,
        rate=_KNOWN,
        dirty_rate=_KNOWN,
    )
)
def test_whatever_libvirt_says(job):
    """There is an answer or none, and time never runs backwards."""
    left_s = progress.time_left_s(job)

    assert left_s is None or left_s >= 0
    if job.data_remaining == 0:
        assert left_s == 0
