# SPDX-License-Identifier: Apache-2.0
"""What is well with a host that is to take part, and what is to be done?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mdev_migrate import exception, model
from mdev_migrate.core import cards, precheck

#: Bytes: less than this, and a host cannot pin a guest's memory.
_LITTLE = 1 << 30
_RESULTS: dict[str, Literal["well", "wrong", "unknown"]] = {
    "passed": "well",
    "refused": "wrong",
    "unknown": "unknown",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    :ivar advice: what to do; empty if nothing is.
    """

    name: str
    result: Literal["well", "wrong", "unknown"]
    detail: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """What only a machine itself can tell of itself.

    :ivar mdevctl: where the program is; None if it is not found.
    :ivar has_mdev_bus: the kernel knows parents of mdevs.
    :ivar missing: the files of libvirt's and QEMU's TLS that are not there,
        by what they are for; none are missing of what is left out.
    :ivar ports: the first and the last port that QEMU takes guests at.
    :ivar busy_ports: how many of these are in use.
    :ivar locked_bytes: how much memory libvirt's daemon may lock; None for
        no limit.
    :ivar daemon: the name of that daemon; empty if none was found.
    """

    mdevctl: str | None
    has_mdev_bus: bool
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ports: tuple[int, int] = (49152, 49215)
    busy_ports: int = 0
    locked_bytes: int | None = None
    daemon: str = ""


def versions(facts: model.HostFacts) -> Iterator[Finding]:
    """Judge what runs on a host."""
    for check in precheck.check_versions("source", facts):
        yield Finding(
            check.name,
            _RESULTS[check.result],
            check.detail,
            check.error.hint if check.error else "",
        )


def parents(
    inventory: model.Inventory, found: Sequence[cards.Card]
) -> Iterator[Finding]:
    """Judge what mdevs can be cut from."""
    room = sum(
        max((kind.available_instances for kind in parent.types), default=0)
        for parent in inventory.parents
    )
    if inventory.parents:
        yield Finding(
            "parents",
            "well",
            f"{len(inventory.parents)} of them, with room for {room} more "
            "mdevs at the most",
        )
    lacks = cards.lacks(found, inventory.parents)
    for lack in lacks:
        yield Finding("card", "wrong", lack.found, lack.advice)
    if not inventory.parents:
        yield Finding(
            "parents",
            "wrong",
            "there is nothing that mdevs can be cut from",
            "see the cards"
            if lacks
            else "load the driver of what mdevs are to be cut from",
        )
    for text in inventory.not_read():
        yield Finding(
            "readable",
            "wrong",
            text,
            "what cannot be read is not used: mend or remove it",
        )


def right(name: str, error: exception.MdevMigrateError | None) -> Finding:
    """Judge whether something may be done.

    :param error: how it was refused, None if it was not.
    """
    if error is None:
        return Finding(name, "well", "it may be done")
    denied = isinstance(error, exception.AccessDenied | exception.ClaimsDenied)
    result: Literal["wrong", "unknown"] = "wrong" if denied else "unknown"
    return Finding(name, result, str(error), error.hint)


def machine(found: Machine | None) -> Iterator[Finding]:
    """Judge what only the machine itself can tell.

    :param found: None if the host is another machine.
    """
    if found is None:
        yield Finding(
            "machine",
            "unknown",
            "mdevctl, TLS files, ports and the lock limit can be told only "
            "there",
            "run 'mdev-migrate doctor' on that host, too",
        )
        return
    yield _mdevctl(found)
    if not found.has_mdev_bus:
        yield Finding(
            "mdev-bus",
            "wrong",
            "the kernel knows no parents of mdevs: /sys/class/mdev_bus is "
            "not there",
            "load the vendor's host driver; one that gives out VFIO devices "
            "of its own in place of mdevs is not for this program",
        )
    yield from _tls(found.missing)
    yield _ports(found)
    yield _lock_limit(found)


def _mdevctl(found: Machine) -> Finding:
    if found.mdevctl is None:
        return Finding(
            "mdevctl",
            "wrong",
            "libvirt makes mdevs with mdevctl, which is not installed",
            "install the package mdevctl",
        )
    return Finding("mdevctl", "well", found.mdevctl)


def _tls(missing: dict[str, tuple[str, ...]]) -> Iterator[Finding]:
    for purpose, paths in missing.items():
        if paths:
            yield Finding(
                f"tls-{purpose}",
                "unknown",
                f"not there: {', '.join(paths)}",
                "needed only where TLS is used: see libvirt's 'TLS setup'",
            )
        else:
            yield Finding(f"tls-{purpose}", "well", "all files are there")


def _ports(found: Machine) -> Finding:
    first, last = found.ports
    left = last - first + 1 - found.busy_ports
    text = f"{first} to {last}, of which {found.busy_ports} are in use"
    if left <= 0:
        return Finding(
            "migration-ports",
            "wrong",
            text,
            "give QEMU more: migration_port_max in libvirt's qemu.conf",
        )
    return Finding(
        "migration-ports", "well", f"{text}; a firewall must let them through"
    )


def _lock_limit(found: Machine) -> Finding:
    if not found.daemon:
        return Finding(
            "lock-limit",
            "unknown",
            "no daemon of libvirt's was found here",
            "start libvirtd or virtqemud",
        )
    if found.locked_bytes is None:
        return Finding(
            "lock-limit", "well", f"{found.daemon} may lock any memory"
        )
    text = f"{found.daemon} may lock {found.locked_bytes} bytes"
    if found.locked_bytes < _LITTLE:
        return Finding(
            "lock-limit",
            "unknown",
            text,
            "a guest with an mdev locks all of its memory: if it does not "
            "start, raise LimitMEMLOCK of the daemon's unit",
        )
    return Finding("lock-limit", "well", text)


def is_well(findings: Iterable[Finding]) -> bool:
    """Tell whether nothing is wrong."""
    return all(each.result != "wrong" for each in findings)
