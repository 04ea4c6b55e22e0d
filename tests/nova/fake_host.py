# SPDX-License-Identifier: Apache-2.0
"""The mdev side of a fake libvirt host: parents with limited room, mdevs.

Nova's fake libvirt knows mdevs only as unchanging XML. Here they are created
and destroyed, take up room on their parent, and may be slow to show up.
"""

from __future__ import annotations

import dataclasses
import uuid as uuidlib
from typing import Any

from lxml import etree
from nova.tests.fixtures import libvirt as fakelibvirt

#: The mdev types that the parents offer.
TYPE_A = fakelibvirt.NVIDIA_11_VGPU_TYPE
TYPE_B = fakelibvirt.NVIDIA_12_VGPU_TYPE

#: Names of the parents of every host, in the order of their addresses.
PARENTS = ("pci_0000_81_00_0", "pci_0000_81_01_0", "pci_0000_81_02_0")


def pci_address(parent: str) -> str:
    """Return the PCI address of a parent: 0000:81:00.0."""
    return "{}:{}:{}.{}".format(*parent.removeprefix("pci_").split("_"))


def mdev_name(mdev_uuid: str) -> str:
    """Return libvirt's name of a mdev."""
    return f"mdev_{mdev_uuid.replace('-', '_')}"


def xml_mdevs(domain_xml: str) -> list[str]:
    """Return the mdevs in a domain's XML, in their order."""
    return [
        address.get("uuid")
        for address in etree.fromstring(domain_xml).iterfind(
            "devices/hostdev[@type='mdev']/source/address"
        )
    ]


class NodeMdev:
    """A mdev as libvirt's node device, with the calls that remove it."""

    def __init__(
        self, host: FakeMdevHost, uuid: str, mdev_type: str, parent: str
    ) -> None:
        self._host = host
        self.uuid = uuid
        self.mdev_type = mdev_type
        self.parent_name = parent
        self.defined = True
        #: How many listings still leave this mdev out.
        self.hidden_for = host.hide_new_mdevs_for

    def name(self) -> str:
        return mdev_name(self.uuid)

    def parent(self) -> str:
        return self.parent_name

    def XMLDesc(self, flags: int = 0) -> str:  # noqa: N802 libvirt's name
        return (
            f"<device><name>{self.name()}</name>"
            f"<path>/sys/devices/{self.parent_name}/{self.uuid}</path>"
            f"<parent>{self.parent_name}</parent>"
            "<driver><name>vfio_mdev</name></driver>"
            f"<capability type='mdev'><type id='{self.mdev_type}'/>"
            f"<uuid>{self.uuid}</uuid><iommuGroup number='12'/>"
            "</capability></device>"
        )

    def destroy(self) -> int:
        """Stop the mdev; refused while a guest has it."""
        user = self._host.user_of(self.uuid)
        if user is not None:
            raise libvirt_error(f"Unable to destroy '{self.name()}': in use")
        self._host.mdevs.pop(self.uuid, None)
        self._host.destroyed.append(self.uuid)
        if self.defined:
            self._host.stopped[self.uuid] = self
        return 0

    def create(self, flags: int = 0) -> int:
        """Start the mdev again."""
        self._host.mdevs[self.uuid] = self._host.stopped.pop(self.uuid)
        return 0

    def undefine(self, flags: int = 0) -> int:
        self.defined = False
        return 0

    def isActive(self) -> int:  # noqa: N802 libvirt's name
        return int(self.uuid in self._host.mdevs)

    def isPersistent(self) -> int:  # noqa: N802 libvirt's name
        return int(self.defined)


def libvirt_error(message: str, code: int | None = None) -> Exception:
    """Build an error as the fake libvirt raises it."""
    if code is None:
        code = fakelibvirt.VIR_ERR_INTERNAL_ERROR
    return fakelibvirt.make_libvirtError(
        fakelibvirt.libvirtError,
        message,
        error_code=code,
        error_domain=fakelibvirt.VIR_FROM_NODEDEV,
        error_message=message,
    )


class _NodeMdevs:
    """What the fake connection asks for its mdevs."""

    def __init__(self, host: FakeMdevHost) -> None:
        self._host = host

    @property
    def devices(self) -> dict[str, NodeMdev]:
        return {dev.name(): dev for dev in self._host.mdevs.values()}

    @property
    def known(self) -> dict[str, NodeMdev]:
        """The stopped ones, too, which are found by name."""
        stopped = {dev.name(): dev for dev in self._host.stopped.values()}
        return {**stopped, **self.devices}

    def get_all_devices(self) -> list[str]:
        listed = []
        for name, mdev in self.devices.items():
            if mdev.hidden_for > 0:
                mdev.hidden_for -= 1
            else:
                listed.append(name)
        return listed

    def get_device_by_name(self, name: str) -> NodeMdev:
        mdev = self.known.get(name)
        if mdev is None or mdev.hidden_for > 0:
            raise libvirt_error(
                f"no nodedev with matching name {name}",
                fakelibvirt.VIR_ERR_NO_NODE_DEVICE,
            )
        return mdev


class _Parent(fakelibvirt.FakePCIDevice):
    """A parent whose XML tells how much room is left right now."""

    def follow(self, host: FakeMdevHost, name: str) -> None:
        self._host = host
        self._parent = name

    def XMLDesc(self, flags: int) -> str:  # noqa: N802 libvirt's name
        types = "".join(
            f"<type id='{mdev_type}'><name>{mdev_type}</name>"
            "<deviceAPI>vfio-pci</deviceAPI><availableInstances>"
            f"{self._host.available(self._parent, mdev_type)}"
            "</availableInstances></type>"
            for mdev_type in self._host.room[self._parent]
        )
        return (
            f"<device><name>{self._parent}</name>"
            f"<path>/sys/devices/{self._parent}</path>"
            "<parent>pci_0000_80_01_0</parent>"
            "<driver><name>nvidia</name></driver><capability type='pci'>"
            f"<domain>0</domain><bus>{self.bus}</bus><slot>{self.slot}</slot>"
            f"<function>{self.function}</function>"
            "<product id='0x0ff3'>GRID M60-0B</product>"
            "<vendor id='0x10de'>Nvidia</vendor>"
            f"<capability type='mdev_types'>{types}</capability>"
            "</capability></device>"
        )


@dataclasses.dataclass
class FakeMdevHost:
    """The parents and mdevs of one host.

    :ivar room: most instances, by parent and by type; the types of one
        parent share its room in proportion, as mtty's ports do.
    :ivar fail_create: raised instead of creating a mdev, if set.
    :ivar hide_new_mdevs_for: a new mdev is left out of so many listings.
    :ivar created: UUID of every mdev that was ever created, in order.
    :ivar destroyed: UUID of every mdev that was destroyed, in order.
    :ivar stopped: mdevs that are only defined.
    """

    name: str
    room: dict[str, dict[str, int]]
    fail_create: Exception | None = None
    hide_new_mdevs_for: int = 0
    mdevs: dict[str, NodeMdev] = dataclasses.field(default_factory=dict)
    created: list[str] = dataclasses.field(default_factory=list)
    destroyed: list[str] = dataclasses.field(default_factory=list)
    stopped: dict[str, NodeMdev] = dataclasses.field(default_factory=dict)
    connection: Any = None

    def pci_info(self) -> Any:
        """Return the host's PCI devices for Nova's fake connection."""
        devices = fakelibvirt.HostPCIDevicesInfo(
            num_pci=0, num_pfs=0, num_vfs=0, num_mdevcap=len(self.room)
        )
        for name, device in devices.devices.items():
            device.__class__ = _Parent
            device.follow(self, name)
        return devices

    def mdev_info(self) -> Any:
        """Return the host's mdevs for Nova's fake connection."""
        return _NodeMdevs(self)

    def available(self, parent: str, mdev_type: str) -> int:
        """Tell how many more mdevs of a type the parent has room for."""
        used = sum(
            1 / self.room[parent][mdev.mdev_type]
            for mdev in self.mdevs.values()
            if mdev.parent_name == parent
        )
        return int((1 - used) * self.room[parent][mdev_type] + 1e-6)

    def create(
        self, parent: str, mdev_type: str, uuid: str | None = None
    ) -> str:
        """Create a mdev and return its UUID."""
        if self.fail_create is not None:
            raise self.fail_create
        if self.available(parent, mdev_type) < 1:
            raise OSError(28, "No space left on device")
        uuid = uuid or str(uuidlib.uuid4())
        self.mdevs[uuid] = NodeMdev(self, uuid, mdev_type, parent)
        self.created.append(uuid)
        return uuid

    def domain_mdevs(self) -> dict[str, list[str]]:
        """Return what the host's guests hold, by instance UUID."""
        return {
            domain.UUIDString(): xml_mdevs(domain.XMLDesc(0))
            for name, domain in self.connection._vms.items()
            if not name.startswith("mdev-claim-")
        }

    def claim_domains(self) -> list[str]:
        """Return the mdevs that are claimed, as libvirt has it."""
        return sorted(
            name.removeprefix("mdev-claim-")
            for name in self.connection._vms
            if name.startswith("mdev-claim-")
        )

    def user_of(self, mdev_uuid: str) -> str | None:
        """Return the instance whose domain holds a mdev, if any."""
        for instance_uuid, mdevs in self.domain_mdevs().items():
            if mdev_uuid in mdevs:
                return instance_uuid
        return None
