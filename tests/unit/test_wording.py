# SPDX-License-Identifier: Apache-2.0
"""Can people read the amounts that they are told?"""

from __future__ import annotations

import pytest

from mdev_migrate.core import wording


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (-1, "unknown"),
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (2**70, "1024.0 EiB"),
    ],
)
def test_edges_of_units(count, text):
    """No amount is rounded to a thousand of its unit and more."""
    assert wording.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (120, "about 120 s"),
        (7200, "about 120 min"),
        (86400, "more than a day"),
    ],
)
def test_edges_of_times(seconds, text):
    """A time is told no more exactly than it is known."""
    assert wording.about(seconds) == text
