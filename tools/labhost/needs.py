# SPDX-License-Identifier: Apache-2.0
"""What the lab needs of the machine that it runs on."""

import os
import shutil

from labhost.failure import LabError

_TOOLS = (
    *("apt-get", "debootstrap", "unshare", "chroot", "dpkg-deb", "tar"),
    *("mkfs.ext4", "gcc", "ld", "qemu-img", "qemu-system-x86_64", "virsh"),
)
_SEARCH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def obstacles() -> list[str]:
    """Return why the lab cannot run here; nothing if it can."""
    missing = [t for t in _TOOLS if not shutil.which(t, path=_SEARCH)]
    found = []
    if missing:
        found.append("not installed: " + ", ".join(missing))
    if os.geteuid() != 0:
        found.append("only root can install the packages of a host")
    return found


def check() -> None:
    """Refuse to go on without the programs and rights the lab needs.

    :raises LabError: naming what is missing.
    """
    found = obstacles()
    if found:
        raise LabError("; ".join(found))
