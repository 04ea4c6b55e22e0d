# SPDX-License-Identifier: Apache-2.0
"""The domain XML of the lab's guests."""

import uuid
from collections.abc import Sequence
from xml.etree import ElementTree as ET

QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
PROGRAM = "/lab/guest.elf"

#: What an mtty device needs to migrate on a kernel without iova_bitmap.
MIGRATABLE = {
    "enable-migration": "on",
    "x-device-dirty-page-tracking": "off",
}
#: Neither the device nor an IOMMU tracks what it writes: QEMU refuses.
BLOCKED = {"x-device-dirty-page-tracking": "off"}

ET.register_namespace("qemu", QEMU)


def serial_log(name: str) -> str:
    """Return the path, on either host, of what the guest reports."""
    return f"/var/log/{name}.serial"


def guest_xml(
    name: str,
    mdevs: Sequence[str] = (),
    *,
    guest_uuid: str | None = None,
    migratable: bool = True,
    properties: dict[str, str] | None = None,
    dirty_mib: int = 0,
    memory_mib: int = 64,
    disk: str | None = None,
) -> str:
    """Return the XML of a guest that runs the guest program.

    :param mdevs: mdev UUIDs, in the order the guest gets them.
    :param guest_uuid: its UUID; by default one that follows from its name.
    :param migratable: whether QEMU may migrate the mdevs.
    :param properties: QEMU's properties of every mdev, instead of those
        that follow from ``migratable``.
    :param dirty_mib: memory the guest writes to each second.
    :param disk: the path of a disk's image, raw.
    """
    if properties is None:
        properties = MIGRATABLE if migratable else BLOCKED
    domain = ET.Element("domain", type="qemu")
    _add(domain, "name", name)
    _add(domain, "uuid", guest_uuid or _uuid_of(name))
    _add(domain, "memory", str(memory_mib), unit="MiB")
    _add(domain, "vcpu", "1")
    _add_system(domain, dirty_mib)
    devices = _add(domain, "devices")
    _add_serial(devices, serial_log(name))
    if disk is not None:
        _add_disk(devices, disk)
    for mdev in mdevs:
        _add_mdev(devices, mdev)
    _add(devices, "memballoon", model="none")
    _add_properties(domain, len(mdevs), properties)
    return ET.tostring(domain, encoding="unicode")


def _uuid_of(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.lab.example"))


def _add(
    parent: ET.Element, tag: str, text: str | None = None, **values: str
) -> ET.Element:
    element = ET.SubElement(parent, tag, values)
    element.text = text
    return element


def _add_system(domain: ET.Element, dirty_mib: int) -> None:
    system = _add(domain, "os")
    _add(system, "type", "hvm", arch="x86_64", machine="q35")
    _add(system, "kernel", PROGRAM)
    _add(system, "cmdline", f"dirty={dirty_mib}")
    _add(_add(domain, "features"), "acpi")


def _add_serial(devices: ET.Element, path: str) -> None:
    serial = _add(devices, "serial", type="file")
    _add(serial, "source", path=path, append="on")


def _add_disk(devices: ET.Element, path: str) -> None:
    disk = _add(devices, "disk", type="file", device="disk")
    _add(disk, "driver", name="qemu", type="raw", cache="none")
    _add(disk, "source", file=path)
    _add(disk, "target", dev="vda", bus="virtio")


def _add_mdev(devices: ET.Element, mdev: str) -> None:
    hostdev = _add(
        devices, "hostdev", mode="subsystem", type="mdev", model="vfio-pci"
    )
    _add(_add(hostdev, "source"), "address", uuid=mdev)


def _add_properties(
    domain: ET.Element, count: int, properties: dict[str, str]
) -> None:
    """Hand QEMU properties for which libvirt has no words."""
    if not (count and properties):
        return
    override = _add(domain, f"{{{QEMU}}}override")
    for number in range(count):
        device = _add(override, f"{{{QEMU}}}device", alias=f"hostdev{number}")
        frontend = _add(device, f"{{{QEMU}}}frontend")
        for name, value in properties.items():
            _add(
                frontend,
                f"{{{QEMU}}}property",
                name=name,
                type="string",
                value=value,
            )
