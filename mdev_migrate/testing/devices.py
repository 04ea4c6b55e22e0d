# SPDX-License-Identifier: Apache-2.0
"""Which node devices does a simulated host have, and what do they allow?"""

import re
import uuid as uuids
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import libvirt
from lxml import etree

from mdev_migrate.testing import engine, errors, markup
from mdev_migrate.testing.parents import Parent

_NODEDEV = libvirt.VIR_FROM_NODEDEV


@dataclass(slots=True)
class SimulatedMdev:
    """An mdev of a simulated host; a copy says how it was.

    :ivar active: it exists now.
    :ivar persistent: it is defined, so it survives a reboot.
    :ivar resuming: a failed incoming migration left it unusable.
    :ivar half_known: it came or went without libvirt, which lists it as
        neither active nor defined, and without its type.
    :ivar hidden_lists: how many lists it is still missing from, because the
        host has not noticed it yet.
    """

    uuid: str
    mdev_type: str
    parent: str
    attributes: tuple[tuple[str, str], ...] = ()
    active: bool = True
    persistent: bool = False
    autostart: bool = False
    resuming: bool = False
    half_known: bool = False
    hidden_lists: int = 0
    iommu_group: int = 0
    suffix: str = ""

    @property
    def name(self) -> str:
        """The libvirt name of the node device."""
        return re.sub("[^0-9A-Za-z]", "_", f"mdev_{self.uuid}_{self.suffix}")


class DeviceTable:
    """The parents and mdevs of one host.

    Not safe for threads: the caller holds the lock of the host's group.

    :param in_use: tells whether a guest has an mdev open.
    :param announce: is told the name of a device and what became of it.
    """

    def __init__(
        self,
        parents: Iterable[Parent],
        in_use: Callable[[str], bool],
        announce: Callable[[str, int], None],
    ) -> None:
        self.parents = {parent.name: parent for parent in parents}
        for parent in self.parents.values():
            if parent.card is not None:
                parent.physical = self._first_of(parent.card)
        self.udev_lag = 0
        self._in_use = in_use
        self._announce = announce
        self._mdevs: dict[str, SimulatedMdev] = {}
        self._groups = 0

    def mdevs(self) -> list[SimulatedMdev]:
        """Return all mdevs, active or defined, in the order made."""
        return list(self._mdevs.values())

    def active(self, mdev_uuid: str) -> SimulatedMdev | None:
        """Return the mdev that exists under a UUID."""
        found = (m for m in self.mdevs() if m.active and m.uuid == mdev_uuid)
        return next(found, None)

    def names(self) -> list[str]:
        """Return the names of the devices that the host has noticed."""
        return ["computer", *self.parents, *self._noticed()]

    def listed(self) -> list[str]:
        """List the noticed devices; unnoticed ones are one list nearer."""
        names = self.names()
        for mdev in self._mdevs.values():
            mdev.hidden_lists = max(0, mdev.hidden_lists - 1)
        return names

    def notice_all(self) -> None:
        """Let the host notice every mdev now."""
        for mdev in self._mdevs.values():
            mdev.hidden_lists = 0

    def mdev(self, name: str) -> SimulatedMdev:
        """Return an mdev by its libvirt name.

        :raises libvirt.libvirtError: if there is none.
        """
        if name not in self._mdevs:
            raise errors.no_device(name)
        return self._mdevs[name]

    def is_mdev(self, name: str) -> bool:
        """Tell whether a name is an mdev's."""
        return name in self._mdevs

    def check(self, name: str) -> None:
        """Refuse the name of a device that does not exist."""
        if name not in ("computer", *self.parents, *self._mdevs):
            raise errors.no_device(name)

    def capabilities(self, name: str) -> tuple[str, ...]:
        """Return what ``virNodeDeviceListCaps`` answers for a device."""
        self.check(name)
        if name in self.parents:
            return self.parents[name].capabilities
        return ("system",) if name == "computer" else ("mdev",)

    def parent_of(self, name: str) -> str | None:
        """Return the name of a device's parent."""
        self.check(name)
        if name in self._mdevs:
            return self._mdevs[name].parent
        return None if name == "computer" else "computer"

    def document(self, name: str) -> str:
        """Write a device's document as libvirt does."""
        self.check(name)
        if name in self.parents:
            return self.parents[name].document(self._existing(name))
        if name == "computer":
            return _COMPUTER
        mdev = self._mdevs[name]
        return _mdev_document(mdev, self.parents.get(mdev.parent))

    def create(self, document: str) -> str:
        """Create a transient mdev, or start a defined one; return its name.

        :raises libvirt.libvirtError: as libvirt and mdevctl refuse it.
        """
        mdev = self._requested(document, "create")
        defined = self._mdevs.get(mdev.name)
        if defined is not None and not defined.active:
            mdev.persistent = True
            mdev.autostart = defined.autostart
        self._activate(mdev, "Unable to start mediated device")
        return mdev.name

    def define(self, document: str) -> str:
        """Define an mdev that survives a reboot; return its name."""
        mdev = self._requested(document, "define")
        known = self._mdevs.get(mdev.name)
        if known is not None:
            known.persistent = True
            return known.name
        mdev.active = False
        mdev.persistent = True
        self._mdevs[mdev.name] = mdev
        self._announce(mdev.name, libvirt.VIR_NODE_DEVICE_EVENT_DEFINED)
        return mdev.name

    def start(self, name: str) -> None:
        """Start a defined mdev."""
        mdev = self.mdev(name)
        if mdev.active:
            raise errors.invalid("Device is already active", _NODEDEV)
        self._activate(mdev, "Unable to create mediated device")

    def destroy(self, name: str) -> None:
        """Destroy an mdev: its capacity comes back."""
        if name not in self._mdevs:
            raise errors.mdev_gone(name)
        mdev = self.mdev(name)
        if not mdev.active:
            detail = f"Device '{name}' is not active"
            raise errors.invalid(detail, _NODEDEV)
        if self._in_use(mdev.uuid):
            detail = f"Unable to destroy '{name}': device in use"
            raise errors.internal(detail, _NODEDEV)
        mdev.active = mdev.resuming = False
        if not mdev.persistent:
            del self._mdevs[name]
        self._announce(name, libvirt.VIR_NODE_DEVICE_EVENT_DELETED)

    def undefine(self, name: str) -> None:
        """Remove an mdev's definition; an active one stays till destroyed."""
        mdev = self.mdev(name)
        if not mdev.persistent:
            detail = f"Node device '{name}' is not defined"
            raise errors.invalid(detail, _NODEDEV)
        mdev.persistent = mdev.autostart = False
        if not mdev.active:
            del self._mdevs[name]
        self._announce(name, libvirt.VIR_NODE_DEVICE_EVENT_UNDEFINED)

    def half_know(self, mdev_uuid: str) -> None:
        """Let libvirt not notice fully that an mdev went without it."""
        for mdev in self._mdevs.values():
            if mdev.uuid == mdev_uuid:
                mdev.active = mdev.persistent = mdev.resuming = False
                mdev.half_known = True

    def reboot(self) -> None:
        """Keep what is defined, and start what starts by itself."""
        for name, mdev in list(self._mdevs.items()):
            mdev.active = mdev.persistent and mdev.autostart
            mdev.resuming = False
            if not mdev.persistent:
                del self._mdevs[name]

    def set_autostart(self, name: str, autostart: bool) -> None:
        """Say whether a defined mdev starts when its parent appears."""
        mdev = self.mdev(name)
        if not mdev.persistent:
            detail = "cannot set autostart for transient device"
            raise errors.invalid(detail, _NODEDEV)
        mdev.autostart = autostart

    def _noticed(self) -> list[str]:
        return [
            name for name, mdev in self._mdevs.items() if not mdev.hidden_lists
        ]

    def _existing(self, parent: str) -> list[str]:
        return [
            mdev.mdev_type
            for mdev in self._mdevs.values()
            if mdev.active and mdev.parent == parent
        ]

    def _requested(self, document: str, verb: str) -> SimulatedMdev:
        root = engine.parse_node_device(document)
        capability = root.find("capability[@type='mdev']")
        if capability is None:
            raise errors.libvirt_error(
                libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
                "Unsupported device type",
                _NODEDEV,
            )
        parent = markup.text_of(root, "parent")
        if not parent:
            raise errors.libvirt_error(
                libvirt.VIR_ERR_XML_ERROR,
                f"cannot {verb} a mediated device without a parent",
                _NODEDEV,
            )
        if parent not in self.parents:
            raise errors.libvirt_error(
                libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
                f"invalid parent device '{parent}'",
                _NODEDEV,
            )
        mdev = _read_mdev(capability, parent)
        mdev.suffix = self.parents[parent].address
        return mdev

    def _activate(self, mdev: SimulatedMdev, failure: str) -> None:
        refusal = self._refusal(mdev)
        if refusal:
            detail = f"{failure}: Error: {refusal}"
            raise errors.internal(detail, _NODEDEV)
        self._groups += 1
        mdev.iommu_group = self._groups
        mdev.active = True
        mdev.hidden_lists = self.udev_lag
        self._mdevs[mdev.name] = mdev
        self._announce(mdev.name, libvirt.VIR_NODE_DEVICE_EVENT_CREATED)

    def _refusal(self, mdev: SimulatedMdev) -> str | None:
        """Say in mdevctl's words why an mdev cannot be started."""
        parent = self.parents[mdev.parent]
        other = self.active(mdev.uuid)
        if other is not None and other.parent != mdev.parent:
            return "Device exists under different parent"
        if other is not None:
            return "Device already exists"
        if mdev.mdev_type not in parent.types:
            return (
                f"Parent {parent.address} does not support mdev type "
                f"{mdev.mdev_type}"
            )
        existing = self._existing(parent.name)
        if not parent.available(mdev.mdev_type, existing):
            return (
                f"No available instances of {mdev.mdev_type} on "
                f"{parent.address}"
            )
        if self._card_is_full(parent.card):
            return (
                f"Failed to create mdev {mdev.uuid}, type {mdev.mdev_type} "
                f"on {parent.address}: No space left on device (os error 28)"
            )
        return None

    def _first_of(self, card: tuple[str, int]) -> str:
        """Return the address by which the functions of a card know it."""
        return min(p.address for p in self.parents.values() if p.card == card)

    def _card_is_full(self, card: tuple[str, int] | None) -> bool:
        if card is None:
            return False
        functions = [p for p in self.parents.values() if p.card == card]
        return sum(len(self._existing(p.name)) for p in functions) >= card[1]


def _read_mdev(capability: markup.Element, parent: str) -> SimulatedMdev:
    kind = capability.find("type")
    return SimulatedMdev(
        uuid=markup.text_of(capability, "uuid") or str(uuids.uuid4()),
        mdev_type="" if kind is None else kind.get("id", ""),
        parent=parent,
        attributes=tuple(
            (attr.get("name", ""), attr.get("value", ""))
            for attr in capability.iterfind("attr")
        ),
    )


def _mdev_document(mdev: SimulatedMdev, parent: Parent | None) -> str:
    root = etree.Element("device")
    markup.add_child(root, "name", mdev.name)
    if mdev.half_known:
        markup.add_child(root, "parent", mdev.parent)
        capability = markup.add_child(root, "capability", type="mdev")
        markup.add_child(capability, "uuid", mdev.uuid)
        markup.add_child(capability, "parent_addr", mdev.suffix)
        markup.add_child(capability, "iommuGroup", number="0")
        return markup.write(root)
    if mdev.active and parent is not None:
        path = f"{parent.path}/{mdev.uuid}"
        markup.add_child(root, "path", path)
    markup.add_child(root, "parent", mdev.parent)
    if mdev.active and parent is not None:
        driver = markup.add_child(root, "driver")
        markup.add_child(driver, "name", parent.driver)
    capability = markup.add_child(root, "capability", type="mdev")
    markup.add_child(capability, "type", id=mdev.mdev_type)
    markup.add_child(capability, "uuid", mdev.uuid)
    markup.add_child(capability, "parent_addr", mdev.suffix)
    group = str(mdev.iommu_group if mdev.active else 0)
    markup.add_child(capability, "iommuGroup", number=group)
    _add_attributes(capability, mdev.attributes)
    return markup.write(root)


def _add_attributes(
    capability: markup.Element, attributes: Sequence[tuple[str, str]]
) -> None:
    for name, value in attributes:
        markup.add_child(capability, "attr", name=name, value=value)


_COMPUTER = """<device>
  <name>computer</name>
  <capability type='system'>
    <hardware/>
    <firmware/>
  </capability>
</device>
"""
