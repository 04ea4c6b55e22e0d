# SPDX-License-Identifier: Apache-2.0
"""What the lab needs of the machine that it runs on."""

import os
import shutil
from collections.abc import Sequence

from labhost.failure import LabError

_TOOLS = (
    *("apt-get", "debootstrap", "unshare", "chroot", "dpkg-deb", "tar"),
    *("mkfs.ext4", "gcc", "ld", "qemu-img", "qemu-system-x86_64", "virsh"),
)
_SEARCH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def obstacles(more: Sequence[str] = ()) -> list[str]:
    """Return why the lab cannot run here; nothing if it can.

    :param more: programs that are needed besides the lab's.
    """
    wanted = (*_TOOLS, *more)
    missing = [t for t in wanted if not shutil.which(t, path=_SEARCH)]
    found = []
    if missing:
        found.append("not installed: " + ", ".join(missing))
    if os.geteuid() != 0:
        found.append("only root can install the packages of a host")
    return found


def check(more: Sequence[str] = ()) -> None:
    """Refuse to go on without the programs and rights the lab needs.

    :param more: programs that are needed besides the lab's.
    :raises LabError: naming what is missing.
    """
    found = obstacles(more)
    if found:
        raise LabError("; ".join(found))
