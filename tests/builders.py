# SPDX-License-Identifier: Apache-2.0
"""Short ways to write the values that the rules work on."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

from mdev_migrate import model

MTTY_FILES = pathlib.Path(__file__).parent / "data" / "mtty"
MTTY = "mtty_mtty"
INSTANCE = "aaaaaaaa-0000-4000-8000-000000000002"


def captured(name: str) -> str:
    """Return a document captured from a real host."""
    return (MTTY_FILES / name).read_text()


def uuid(number: int) -> str:
    """Return the UUID of a numbered mdev."""
    return f"{number:08x}-0000-4000-8000-000000000000"


def instance(number: int) -> str:
    """Return the UUID of a numbered instance."""
    return f"aaaaaaaa-0000-4000-8000-{number:012x}"


def mdev(
    number: int, mdev_type: str = "mtty-1", parent: str = MTTY, **facts: Any
) -> model.Mdev:
    """Return a numbered mdev."""
    return model.Mdev(uuid(number), mdev_type, parent, **facts)


def want(
    number: int, mdev_type: str = "mtty-1", **facts: Any
) -> model.WantedMdev:
    """Return what a numbered source mdev asks for."""
    return model.WantedMdev(uuid(number), mdev_type, **facts)


def wants(*mdev_types: str) -> tuple[model.WantedMdev, ...]:
    """Return what source mdevs of these types ask for, numbered from 1."""
    return tuple(want(n, kind) for n, kind in enumerate(mdev_types, 1))


def parent(
    name: str = MTTY, device_api: str = "vfio-pci", /, **available: int
) -> model.Parent:
    """Return a parent; ``mtty_1=24`` offers 24 instances of ``mtty-1``."""
    return model.Parent(
        name,
        tuple(
            model.MdevType(kind.replace("_", "-"), device_api, instances)
            for kind, instances in available.items()
        ),
    )


def mtty(ports: int = 24, name: str = MTTY) -> model.Parent:
    """Return a parent with so many serial ports left."""
    return parent(name, mtty_1=ports, mtty_2=ports // 2)


def guest(name: str = "vm", *mdevs: int, **facts: Any) -> model.Guest:
    """Return a running, persistent guest with numbered mdevs."""
    known: dict[str, Any] = {
        "instance_uuid": INSTANCE,
        "active": True,
        "running": True,
        "persistent": True,
    }
    return model.Guest(
        name=name, mdevs=frozenset(map(uuid, mdevs)), **(known | facts)
    )


def guest_by_option(name: str, instance_uuid: str, mdev_uuid: str) -> str:
    """Return the document of a guest that has an mdev by an option of QEMU."""
    return f"""
<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  <uuid>{instance_uuid}</uuid>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64'>hvm</type></os>
  <devices/>
  <qemu:commandline>
    <qemu:arg value='-device'/>
    <qemu:arg value='vfio-pci,sysfsdev=/sys/bus/mdev/devices/{mdev_uuid}'/>
  </qemu:commandline>
</domain>
"""


def inventory(
    parents: Iterable[model.Parent] = (),
    mdevs: Iterable[model.Mdev] = (),
    guests: Iterable[model.Guest] = (),
    claims: Iterable[model.Claim] = (),
) -> model.Inventory:
    """Return what a look at the destination found."""
    return model.Inventory(
        "host-b",
        tuple(parents),
        tuple(mdevs),
        tuple(guests),
        claims=model.Claims(tuple(claims)),
    )


def target(
    mdev: model.Mdev, *, created: bool = False, domain: int = 0
) -> model.Target:
    """Return a target of a claim; its domain is numbered as its mdev."""
    number = domain or int(mdev.uuid[:8], 16)
    return model.Target(mdev, created, f"d{uuid(number)[1:]}")


def claim(*targets: model.Target, token: int = 1, **facts: Any) -> model.Claim:
    """Return a claim for the guest ``vm`` of ``host-a``."""
    known: dict[str, Any] = {
        "instance_uuid": INSTANCE,
        "owner": "somebody",
        "guest": "vm",
        "source": "host-a",
        "source_uuid": instance(0xA),
    }
    return model.Claim(
        token=f"cccccccc-0000-4000-8000-{token:012x}",
        targets=targets,
        **(known | facts),
    )


def minting(first: int = 0xF00) -> Callable[[], str]:
    """Return a function that mints numbered UUIDs."""
    numbers = itertools.count(first)
    return lambda: uuid(next(numbers))
