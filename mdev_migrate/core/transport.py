# SPDX-License-Identifier: Apache-2.0
"""By which way is a guest migrated, and which ways are closed?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mdev_migrate import exception

#: virDomainMigrateFlags, from libvirt-domain.h.
LIVE = 1 << 0
PEER2PEER = 1 << 1
TUNNELLED = 1 << 2
PERSIST_DEST = 1 << 3
UNDEFINE_SOURCE = 1 << 4
NON_SHARED_DISK = 1 << 6
NON_SHARED_INC = 1 << 7
UNSAFE = 1 << 9
OFFLINE = 1 << 10
COMPRESSED = 1 << 11
AUTO_CONVERGE = 1 << 13
POSTCOPY = 1 << 15
TLS = 1 << 16
PARALLEL = 1 << 17

#: Why: QEMU 8.2 refuses post-copy with a VFIO device and older ones lose
#: the guest; throttled processors do not slow a device that writes memory;
#: a tunnel has no return path, which the switchover acknowledgement needs.
UNSUPPORTED = {
    POSTCOPY: "post-copy",
    AUTO_CONVERGE: "auto-converge",
    TUNNELLED: "tunnelled transport",
}

#: What to tell who asks for one.
WHY_CLOSED = {
    POSTCOPY: "none: QEMU refuses it with a VFIO device, or loses the guest",
    AUTO_CONVERGE: "none: slow processors do not slow a device; the downtime "
    "limit is raised instead",
    TUNNELLED: "none: a tunnel has no way back for the destination's word "
    "that it is ready; TLS keeps memory secret",
}
_MIB = 2**20

#: The largest bandwidth, in MiB/s, and libvirt's word for none: it keeps one
#: as bytes in 64 bits with a sign (QEMU_DOMAIN_MIG_BANDWIDTH_MAX).
MAX_BANDWIDTH = (2**63 - 1) // 2**20

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


#: A value of virDomainMigrateToURI3's parameters.
Value = str | int | tuple[str, ...]

#: What else decides, or must not be decided: why it cannot be given by name.
_NOT_BY_NAME = {
    "destination_name": "a guest keeps its name",
    "destination_xml": "give a base with --xml",
    "persistent_xml": "give a base with --persistent-xml",
    "migrate_uri": "give --migrate-uri",
    "bandwidth": "give --bandwidth",
    "bandwidth.avail.switchover": "give --switchover-bandwidth",
    "parallel.connections": "give --parallel",
    "tls.destination": "give --tls-destination",
    "listen_address": "give --listen-address",
    "migrate_disks": "give --migrate-disks",
    "disks_port": "give --disks-port",
    "bandwidth.postcopy": "there is no post-copy with a VFIO device",
    "auto_converge.initial": "there is no auto-converge with a VFIO device",
    "auto_converge.increment": "there is no auto-converge with a VFIO device",
}


@dataclass(frozen=True, slots=True)
class Way:
    """What a migration of a real guest may need besides its mdevs.

    :ivar parallel: connections to send over; QEMU 10.0 sends device state
        over them too.
    :ivar tls_destination: the name in the destination's certificate.
    :ivar listen_address: where the destination's QEMU listens.
    :ivar switchover_bandwidth: MiB/s that there are for the last part, for
        QEMU's expectation (libvirt 11.1, QEMU 8.2).
    :ivar copy_storage: copy disks that the hosts do not share: all of each,
        or what differs from its backing file.
    :ivar migrate_disks: the targets of the disks to copy; empty for those
        that libvirt chooses.
    :ivar disks_port: where disks are sent; None lets libvirt choose.
    :ivar parameters: more of virDomainMigrateToURI3, by name.
    """

    parallel: int | None = None
    tls_destination: str | None = None
    listen_address: str | None = None
    switchover_bandwidth: int | None = None
    copy_storage: Literal["all", "inc"] | None = None
    migrate_disks: tuple[str, ...] = ()
    disks_port: int | None = None
    parameters: Mapping[str, Value] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse what cannot be meant.

        :raises OptionInvalid: if it is so.
        """
        for name, value in (
            ("parallel connections", self.parallel),
            ("switchover bandwidth", self.switchover_bandwidth),
            ("disks port", self.disks_port),
        ):
            if value is not None and value <= 0:
                raise exception.OptionInvalid(name, f"{value}", "more than 0")
        if self.copy_storage is None and (
            self.migrate_disks or self.disks_port
        ):
            raise exception.OptionInvalid(
                "disks to copy",
                "no copying of storage",
                "copying of all storage or of increments",
            )
        for name in self.parameters:
            if name in _NOT_BY_NAME:
                raise exception.OptionInvalid(
                    "parameter", name, _NOT_BY_NAME[name]
                )

    @property
    def flags(self) -> int:
        """Return the virDomainMigrateFlags that it takes."""
        storage = {"all": NON_SHARED_DISK, "inc": NON_SHARED_INC}
        flags = storage[self.copy_storage] if self.copy_storage else 0
        if self.parallel is not None:
            flags |= PARALLEL
        if self.tls_destination is not None:
            flags |= TLS
        if any(name.startswith("compression") for name in self.parameters):
            flags |= COMPRESSED
        return flags

    def as_parameters(self) -> dict[str, Value]:
        """Return it as parameters of virDomainMigrateToURI3."""
        return dict(self._named()) | dict(self.parameters)

    def _named(self) -> Iterator[tuple[str, Value]]:
        bandwidth = self.switchover_bandwidth
        known = {
            "parallel.connections": self.parallel,
            "tls.destination": self.tls_destination,
            "listen_address": self.listen_address,
            "bandwidth.avail.switchover": bandwidth and bandwidth * _MIB,
            "migrate_disks": self.migrate_disks or None,
            "disks_port": self.disks_port,
        }
        for name, value in known.items():
            if value is not None:
                yield name, value


def read_parameters(given: Iterable[str]) -> dict[str, Value]:
    """Return parameters of virDomainMigrateToURI3 from ``NAME=VALUE``.

    A value of digits is a number. One that is given again has all values.

    >>> read_parameters(["compression=zstd", "compression.zstd.level=3"])
    {'compression': 'zstd', 'compression.zstd.level': 3}
    >>> read_parameters(["compression=mt", "compression=xbzrle"])
    {'compression': ('mt', 'xbzrle')}
    """
    values: dict[str, list[str]] = {}
    for each in given:
        name, _, value = each.partition("=")
        values.setdefault(name.strip(), []).append(value.strip())
    return {name: _typed(found) for name, found in values.items()}


def _typed(found: Sequence[str]) -> Value:
    if len(found) > 1:
        return tuple(found)
    text = found[0]
    return int(text) if text.isascii() and text.isdigit() else text


def check_flags(flags: int) -> None:
    """Refuse flags that no guest with mdevs can use.

    :raises OptionInvalid: if there are some.
    """
    for flag, name in UNSUPPORTED.items():
        if flags & flag:
            raise exception.OptionInvalid(name, "asked for", WHY_CLOSED[flag])
