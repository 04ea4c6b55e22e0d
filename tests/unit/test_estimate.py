# SPDX-License-Identifier: Apache-2.0
"""Is the memory of a device known where its type's name tells it?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdev_migrate import exception, model
from mdev_migrate.core import estimate
from tests import builders

GIB = 2**30


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("NVIDIA A40-8Q", 8),
        ("A40-8Q", 8),
        ("NVIDIA A40-48Q", 48),
        ("GRID M60-0B", 0.5),
        ("GRID M60-0Q", 0.5),
        ("GRID M60-1B4", 1),
        ("GRID P100X-16C", 16),
        ("GRID RTX6000P-24Q", 24),
        ("GRID A100-1-5C", 5),
        ("NVIDIA A100-1-5CME", 5),
        ("NVIDIA A100DX-7-80C", 80),
        ("NVIDIA H100XL-94C", 94),
        ("NVIDIA H200X-141C", 141),
        ("NVIDIA RTX6000-Ada-48Q", 48),
        ("NVIDIA RTXA6000-12C", 12),
        ("NVIDIA L40S-1B", 1),
        ("NVIDIA A16-1A", 1),
        ("NVIDIA RTX Pro 6000 Blackwell DC-1-24QGFX", 24),
        ("NVIDIA RTX Pro 6000 Blackwell DC-4-96Q", 96),
    ],
)
def test_names_of_nvidia(name, gib):
    """Board, slices, frame buffer, series: the third is what counts."""
    assert estimate.type_bytes("nvidia-1", name) == gib * GIB


@pytest.mark.parametrize(
    "name",
    [
        "",
        "GRID K120Q",
        "i915-GVTg_V5_4",
        "Dual port serial",
        "NVIDIA A40-8",
        "A40-8q",
        "A40-8192Q",
        "A40-8Q and more",
        "nvidia-557",
    ],
)
def test_other_names(name):
    """What does not follow the rule is not known."""
    assert estimate.type_bytes("some-1", name) is None


def test_sample_devices():
    """The state of the kernel's sample device is in its source."""
    assert estimate.type_bytes("mtty-1", "Single port serial") == 60
    assert estimate.type_bytes("mtty-2", "") == 96


@given(st.text(max_size=60))
def test_any_name(name):
    """Whatever a host calls its types, there is a size or none."""
    size = estimate.type_bytes("some-1", name)

    assert size is None or size > 0


def test_sum_of_all_mdevs():
    """Two of a type are twice of its memory."""
    found = estimate.make(
        builders.wants("nvidia-1", "nvidia-1", "nvidia-2"),
        {"nvidia-1": "A40-8Q", "nvidia-2": "A40-1B"},
        1024,
    )

    assert found == estimate.Estimate(17 * GIB, (), 1024)
    assert found.downtime_ms == 17_000


def test_one_that_is_not_known():
    """A sum without one of its parts would be a lie."""
    found = estimate.make(
        builders.wants("nvidia-1", "other"), {"nvidia-1": "A40-8Q"}, 1024
    )

    assert found == estimate.Estimate(None, ("other",), 1024)
    assert found.downtime_ms is None


def test_names_are_read_from_what_parents_offer():
    """A type without a name has none."""
    parent = model.Parent(
        "p",
        (
            model.MdevType("nvidia-1", "vfio-pci", 1, "A40-8Q"),
            model.MdevType("nvidia-2", "vfio-pci", 1),
        ),
    )

    assert estimate.names_of([parent]) == {"nvidia-1": "A40-8Q"}


class TestJudge:
    """What is said of an estimate, and what is refused."""

    def test_fits(self):
        """Both figures are named."""
        found = estimate.Estimate(8 * GIB, (), 1024)

        assert estimate.judge("vm", found, 10_000, strict=True) == (
            "the state of its devices, 8.0 GiB, may take 8000 ms at 1024 "
            "MiB/s, the maximal downtime is 10000 ms"
        )

    def test_does_not_fit(self):
        """It is said, and refused only if the user asked for that."""
        found = estimate.Estimate(8 * GIB, (), 1024)

        said = estimate.judge("vm", found, 5000, strict=False)
        with pytest.raises(exception.DowntimeTooLong) as caught:
            estimate.judge("vm", found, 5000, strict=True)

        assert said.startswith(str(caught.value))
        assert (caught.value.needed_ms, caught.value.code) == (
            8000,
            "downtime-too-long",
        )

    @pytest.mark.parametrize(
        ("found", "reason"),
        [
            (
                estimate.Estimate(None, ("other",), 1024),
                "how much memory other has is not known",
            ),
            (
                estimate.Estimate(512 * 2**20),
                "its devices have 512.0 MiB of state at most; the bandwidth "
                + "is not known",
            ),
        ],
    )
    def test_not_known(self, found, reason):
        """No estimate is no refusal, and unknown if one was asked for."""
        said = estimate.judge("vm", found, 5000, strict=False)
        with pytest.raises(exception.DowntimeUnknown, match=reason):
            estimate.judge("vm", found, 5000, strict=True)

        assert said == f"no estimate: {reason}"
