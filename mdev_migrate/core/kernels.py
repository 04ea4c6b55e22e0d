# SPDX-License-Identifier: Apache-2.0
"""Has a kernel, by its release, version 2 of the VFIO migration protocol?

A mainline number tells. Vendors of enterprise systems keep a number for
years and bring newer code into it: their kernels are looked up in a table,
and one that is not there is unknown. The last word is QEMU's, which asks the
driver of each device.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mdev_migrate import model

Verdict = Literal["has", "lacks", "unknown"]

#: Linux 5.18 brought version 2 of the VFIO migration protocol (its commit
#: 115dcec65f61).
MIN_MAINLINE = model.Version(5, 18, 0)


@dataclass(frozen=True, slots=True)
class VendorKernel:
    """A vendor's kernel that has the protocol under an older number.

    :ivar name: of the system, for documentation.
    :ivar release: matches the system's releases; its group is the build.
    :ivar build: the first that has it.
    :ivar source: who says so.
    """

    name: str
    release: re.Pattern[str]
    build: int
    source: str


#: Later ones of the same vendors have mainline numbers that tell: el10 has
#: 6.12, UEK 8 has 6.12, SUSE Linux Enterprise 15 SP6 has 6.4.
VENDOR_KERNELS = (
    VendorKernel(
        "Red Hat Enterprise Linux 9.4 and later, CentOS Stream 9, and what "
        "is built from them",
        # 5.14.0-427.13.1.el9_4.x86_64; not Oracle's 5.15.0-200.1.el9uek.
        re.compile(r"5\.14\.0-(\d+)(?:\.\w+)*?\.el9(?:_\d+)?(?![a-z0-9])"),
        427,
        "Red Hat, Configuring and managing virtualization (RHEL 9), 'Live "
        "migrating a virtual machine with an attached NVIDIA vGPU'; NVIDIA "
        "AI Enterprise 8, 'Platform Support for Live Migration'",
    ),
)

#: How enterprise kernels are told: by the system that an RPM names (el8_9,
#: el9uek, oe2203sp1, an8, ky10, amzn2), other than Fedora, which follows
#: mainline, or by SUSE's number of product and service pack (-150500.55.39).
#: Debian's backports name the system too (deb11) and keep mainline's number.
_ENTERPRISE = re.compile(
    r"\.(?!(?:fc|deb|x|aarch|armv|i|ppc|s|riscv|loongarch)\d)[a-z]+\d"
    r"|-1[25]0\d{3}\.|-tlinux"
)


def judge(release: str) -> Verdict:
    """Tell whether a kernel has the protocol.

    :param release: as ``uname -r`` prints it.

    >>> judge("6.12.0-55.9.1.el10_0.x86_64"), judge("5.15.0-91-generic")
    ('has', 'lacks')
    >>> judge("5.14.0-570.el9.x86_64"), judge("5.14.0-362.8.1.el9_3.x86_64")
    ('has', 'unknown')
    """
    try:
        number = model.Version.parse(release)
    except ValueError:
        return "unknown"
    if number >= MIN_MAINLINE:
        return "has"
    for vendor in VENDOR_KERNELS:
        found = vendor.release.match(release)
        if found and int(found[1]) >= vendor.build:
            return "has"
    return "unknown" if _ENTERPRISE.search(release) else "lacks"
