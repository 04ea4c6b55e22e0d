# SPDX-License-Identifier: Apache-2.0
"""How do parents share out their capacity, and how do they look?

Three ways are known: all types draw on common units (mtty), the first mdev
decides which type the whole parent serves (NVIDIA), one mdev for each virtual
function (SR-IOV).
"""

import abc
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lxml import etree

from mdev_migrate.testing import markup


@dataclass(frozen=True, slots=True)
class OfferedType:
    """An mdev type as a parent offers it.

    :ivar units: how much of the parent one mdev takes.
    """

    mdev_type: str
    name: str
    units: int = 1
    device_api: str = "vfio-pci"


class Parent(abc.ABC):
    """A device that mdevs are cut from.

    :ivar name: libvirt name, as in ``pci_0000_06_00_0``.
    :ivar types: what it offers, by type id.
    :ivar physical: address of the physical function that it is a virtual one
        of, as in ``0000:06:00.0``; None if it is none.
    """

    def __init__(self, name: str, types: Iterable[OfferedType]) -> None:
        self.name = name
        self.physical: str | None = None
        self.types = {offered.mdev_type: offered for offered in types}

    @abc.abstractmethod
    def available(self, mdev_type: str, existing: Sequence[str]) -> int:
        """Return how many more mdevs of a type the parent reports.

        :param existing: the types of the mdevs that exist on it.
        """

    @property
    def card(self) -> tuple[str, int] | None:
        """A hidden limit shared with other parents: its name and size."""
        return None

    @property
    def address(self) -> str:
        """The parent's address in sysfs, as in ``0000:06:00.0``."""
        domain, bus, slot, function = self._numbers()
        return f"{domain}:{bus}:{slot}.{function}"

    @property
    def path(self) -> str:
        """The parent's folder in sysfs."""
        return f"/sys/devices/pci0000:00/{self.address}"

    @property
    def driver(self) -> str:
        """The driver that libvirt names for the parent's mdevs."""
        return "vfio_mdev"

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What ``virNodeDeviceListCaps`` answers."""
        return ("pci", "mdev_types")

    def document(self, existing: Sequence[str]) -> str:
        """Write the parent's document as libvirt does.

        :param existing: the types of the mdevs that exist on it.
        """
        root = etree.Element("device")
        markup.add_child(root, "name", self.name)
        markup.add_child(root, "path", self.path)
        markup.add_child(root, "parent", "computer")
        offers = markup.add_child(
            self._add_capability(root), "capability", type="mdev_types"
        )
        for offered in self.types.values():
            self._add_type(offers, offered, existing)
        return markup.write(root)

    def _add_capability(self, root: markup.Element) -> markup.Element:
        capability = markup.add_child(root, "capability", type="pci")
        markup.add_child(capability, "class", "0x030200")
        tags = ("domain", "bus", "slot", "function")
        for tag, digits in zip(tags, self._numbers(), strict=True):
            markup.add_child(capability, tag, str(int(digits, 16)))
        markup.add_child(capability, "product", "Simulated", id="0x0001")
        markup.add_child(capability, "vendor", "Simulated", id="0x10de")
        if self.physical is not None:
            self._add_physical(capability, self.physical)
        return capability

    def _add_physical(self, pci: markup.Element, address: str) -> None:
        function = markup.add_child(pci, "capability", type="phys_function")
        names = ("domain", "bus", "slot", "function")
        digits = re.split("[:.]", address)
        markup.add_child(
            function,
            "address",
            **{n: f"0x{d}" for n, d in zip(names, digits, strict=True)},
        )

    def _add_type(
        self,
        offers: markup.Element,
        offered: OfferedType,
        existing: Sequence[str],
    ) -> None:
        available = self.available(offered.mdev_type, existing)
        element = markup.add_child(offers, "type", id=offered.mdev_type)
        markup.add_child(element, "name", offered.name)
        markup.add_child(element, "deviceAPI", offered.device_api)
        markup.add_child(element, "availableInstances", str(available))

    def _numbers(self) -> list[str]:
        return self.name.removeprefix("pci_").split("_")


class SharedParent(Parent):
    """A parent whose types draw on the same units."""

    def __init__(
        self, name: str, types: Iterable[OfferedType], units: int
    ) -> None:
        super().__init__(name, types)
        self.units = units

    def available(self, mdev_type: str, existing: Sequence[str]) -> int:
        """Return how often the type fits into the units left."""
        taken = sum(self.types[other].units for other in existing)
        return max(0, self.units - taken) // self.types[mdev_type].units


class MttyParent(SharedParent):
    """The kernel's sample parent: serial ports, one or two for an mdev."""

    def __init__(self, name: str = "mtty_mtty", ports: int = 24) -> None:
        types = (
            OfferedType("mtty-1", "Single port serial", 1),
            OfferedType("mtty-2", "Dual port serial", 2),
        )
        super().__init__(name, types, ports)

    @property
    def address(self) -> str:
        """The parent's name in sysfs."""
        return self.name.split("_", 1)[-1]

    @property
    def path(self) -> str:
        """The parent's folder in sysfs."""
        return f"/sys/devices/virtual/mtty/{self.address}"

    @property
    def driver(self) -> str:
        """The driver that libvirt names for the parent's mdevs."""
        return "mtty"

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What ``virNodeDeviceListCaps`` answers."""
        return ("mdev_types",)

    def _add_capability(self, root: markup.Element) -> markup.Element:
        return markup.add_child(root, "capability", type="mdev_types")


class NvidiaParent(Parent):
    """A card that serves one type at a time.

    :param instances: how many mdevs of a type fit, by type id.
    """

    def __init__(self, name: str, instances: Mapping[str, int]) -> None:
        super().__init__(
            name,
            (OfferedType(kind, f"GRID {kind}") for kind in instances),
        )
        self.instances = dict(instances)

    def available(self, mdev_type: str, existing: Sequence[str]) -> int:
        """Return what is left, or nothing if another type is served."""
        if any(other != mdev_type for other in existing):
            return 0
        return max(0, self.instances[mdev_type] - len(existing))


class SriovParent(Parent):
    """A virtual function: room for one mdev.

    :param card: name and size of a limit that several functions share and
        none of them reports: creating one mdev too many fails, although an
        instance was said to be available.
    """

    def __init__(
        self,
        name: str,
        mdev_types: Iterable[str],
        card: tuple[str, int] | None = None,
    ) -> None:
        super().__init__(
            name, (OfferedType(kind, f"GRID {kind}") for kind in mdev_types)
        )
        self._card = card

    @property
    def card(self) -> tuple[str, int] | None:
        """The limit shared with other functions."""
        return self._card

    def available(
        self,
        mdev_type: str,  # noqa: ARG002 - one of any type
        existing: Sequence[str],
    ) -> int:
        """Return one until there is an mdev."""
        return 0 if existing else 1
