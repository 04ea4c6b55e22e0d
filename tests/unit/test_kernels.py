# SPDX-License-Identifier: Apache-2.0
"""Is a kernel judged by what is in it, as far as its release tells?"""

import pytest

from mdev_migrate.core import kernels

NEW_ENOUGH = [
    "5.18.0",
    "5.18.0-rc1+",
    "6.1.0-28-amd64",
    "6.8.0-45-generic",
    "6.8.12-4-pve",
    # Enterprise kernels whose number tells.
    "6.12.0-55.9.1.el10_0.x86_64",
    "6.12.0-105.51.5.el9uek.x86_64",
    "6.4.0-150600.23.25-default",
    "6.6.0-72.0.0.76.oe2403sp1.aarch64",
    # The table's, and what is built from it.
    "5.14.0-427.el9.x86_64",
    "5.14.0-427.13.1.el9_4.x86_64",
    "5.14.0-503.11.1.el9_5.aarch64",
    "5.14.0-570.el9",
    "5.14.0-570.12.1.el9_6.x86_64+rt",
    "5.14.0-611.5.1.el9_7.x86_64+debug",
    "5.14.0-1000.el9.x86_64",
]
MAINLINE_TOO_OLD = [
    "5.17.15",
    "5.15.0-91-generic",
    "5.15.0-1032-realtime",
    "5.15.0-1074-azure",
    "5.15.158-2-pve",
    "5.10.0-28-amd64",
    "5.10.0-28-rt-amd64",
    "5.10.0-0.deb10.16-amd64",
    "5.14.10-300.fc35.x86_64",
    "5.17.9-arch1-1",
    "5.15.41-gentoo-x86_64",
    "4.19.0+1",
    "5.17.0-rc8.x86_64",
]
UNKNOWN = [
    # Before the first of the table, and before the number that it has.
    "5.14.0-426.el9.x86_64",
    "5.14.0-362.8.1.el9_3.x86_64",
    "5.14.0-284.11.1.rt14.296.el9_2.x86_64",
    "5.13.0-999.el9.x86_64",
    "4.18.0-553.el8_10.x86_64",
    # Oracle's own kernels, also those for Enterprise Linux 9.
    "5.15.0-200.131.27.el9uek.x86_64",
    "5.15.0-927.1.1.el9uek.x86_64",
    "5.4.17-2136.330.7.1.el8uek.x86_64",
    # SUSE, openEuler, Anolis, Kylin, Amazon, Virtuozzo, Tencent.
    "5.14.21-150500.55.39-default",
    "5.3.18-150300.59.93-preempt",
    "5.10.0-153.12.0.92.oe2203sp2.x86_64",
    "4.19.90-52.22.v2207.ky10.aarch64",
    "5.10.134-16.3.an8.x86_64",
    "5.10.227-219.884.amzn2.x86_64",
    "3.10.0-1160.41.1.vz7.183.5",
    "5.4.119-19.0009.44.tl3.x86_64",
    "5.4.241-1-tlinux4-0017",
    # Others who build on the table's number.
    "5.14.0-570.el9uek.x86_64",
    # No number at all.
    "next-20260101",
    "",
]


@pytest.mark.parametrize("release", NEW_ENOUGH)
def test_has_it(release):
    """A mainline number that tells, or a known vendor's kernel."""
    assert kernels.judge(release) == "has"


@pytest.mark.parametrize("release", MAINLINE_TOO_OLD)
def test_has_it_not(release):
    """A mainline number below 5.18, however a distribution spells it."""
    assert kernels.judge(release) == "lacks"


@pytest.mark.parametrize("release", UNKNOWN)
def test_does_not_tell(release):
    """An enterprise kernel that the table does not know."""
    assert kernels.judge(release) == "unknown"


@pytest.mark.parametrize("vendor", kernels.VENDOR_KERNELS)
def test_says_who_says_so(vendor):
    """Every kernel of the table has its source."""
    assert vendor.source
    assert vendor.name
