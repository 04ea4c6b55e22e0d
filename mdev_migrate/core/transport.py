# SPDX-License-Identifier: Apache-2.0
"""Which ways to migrate are closed to a guest with a VFIO device."""

from __future__ import annotations

from mdev_migrate import exception

#: virDomainMigrateFlags, from libvirt-domain.h.
LIVE = 1 << 0
PEER2PEER = 1 << 1
TUNNELLED = 1 << 2
PERSIST_DEST = 1 << 3
UNDEFINE_SOURCE = 1 << 4
UNSAFE = 1 << 9
AUTO_CONVERGE = 1 << 13
POSTCOPY = 1 << 15
TLS = 1 << 16

#: Why: QEMU 8.2 refuses post-copy with a VFIO device and older ones lose
#: the guest; throttled processors do not slow a device that writes memory;
#: a tunnel has no return path, which the switchover acknowledgement needs.
UNSUPPORTED = {
    POSTCOPY: "post-copy",
    AUTO_CONVERGE: "auto-converge",
    TUNNELLED: "tunnelled transport",
}

#: QEMU's MAX_MIGRATE_DOWNTIME, in milliseconds.
MAX_DOWNTIME_MS = 2_000_000


def drop_unsupported(flags: int) -> tuple[int, tuple[str, ...]]:
    """Drop what a guest with mdevs cannot use.

    :param flags: virDomainMigrateFlags as asked for.
    :returns: the flags to use, and the names of those dropped.
    """
    dropped = [flag for flag in UNSUPPORTED if flags & flag]
    return (
        flags & ~sum(dropped),
        tuple(UNSUPPORTED[flag] for flag in dropped),
    )


def check_secrecy(flags: int, host: str) -> str:
    """Need a way that is as secret as the one that was asked for.

    A tunnel is asked for to encrypt what is sent. Without it, that would go
    in clear unless QEMU itself encrypts it.

    :param flags: virDomainMigrateFlags as asked for.
    :param host: the source's name, for texts.
    :raises TunnelUnsupported: if a tunnel is all that would encrypt.
    """
    if flags & TUNNELLED and not flags & TLS:
        raise exception.TunnelUnsupported(host)
    return f"nothing is sent from {host} in clear that was not to be"


def check_max_downtime(downtime_ms: int) -> int:
    """Return a downtime limit that QEMU takes.

    :raises OptionInvalid: if it is not between 1 and 2000000 ms.
    """
    if not 1 <= downtime_ms <= MAX_DOWNTIME_MS:
        raise exception.OptionInvalid(
            "maximal downtime", f"{downtime_ms} ms", f"1 to {MAX_DOWNTIME_MS}"
        )
    return downtime_ms
