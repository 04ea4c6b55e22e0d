# SPDX-License-Identifier: Apache-2.0
"""How are the XML documents of a simulated host read and written?"""

import contextlib
import json
from collections.abc import Iterable, Sequence

from lxml import etree

_PARSER = etree.XMLParser(
    resolve_entities=False, no_network=True, remove_blank_text=True
)
_MDEV_ADDRESSES = "devices/hostdev[@type='mdev']/source/address"
_FIRST_BUS = 2
_QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"
_ARG = f"{_QEMU}arg"

#: An XML element; lxml gives it no public class.
Element = etree._Element


def parse(document: str) -> Element:
    """Read a document without entities and without the network.

    :raises lxml.etree.XMLSyntaxError: if it is not well formed.
    """
    return etree.fromstring(document, _PARSER)


def write(root: Element) -> str:
    """Write a document, indented as libvirt does."""
    etree.indent(root)
    return str(etree.tostring(root, encoding="unicode")) + "\n"


def assigned_mdevs(domain: Element) -> list[str]:
    """Return the UUIDs of a domain's mdevs, in guest order."""
    return [
        address.get("uuid", "").lower()
        for address in domain.iterfind(_MDEV_ADDRESSES)
    ]


def mdevs_by_options(elements: Iterable[Element]) -> list[str]:
    """Return the UUIDs of the mdevs that options for QEMU open.

    :param elements: ``qemu:commandline``, ``qemu:override`` and the like.
    """
    paths: list[str] = []
    for element in elements:
        arguments = [arg.get("value", "") for arg in element.iterfind(_ARG)]
        paths += map(_sysfsdev, arguments)
        paths += [
            found.get("value", "")
            for found in element.iter(f"{_QEMU}property")
            if found.get("name") == "sysfsdev"
        ]
    named = (path.rstrip("/").rpartition("/")[2] for path in paths if path)
    return [name.lower() for name in named]


def _sysfsdev(argument: str) -> str:
    """Return which device's path an argument of QEMU's names, if any."""
    if argument.startswith("{"):
        with contextlib.suppress(ValueError):
            return str(json.loads(argument).get("sysfsdev", ""))
    for option in argument.split(","):
        name, _, value = option.partition("=")
        if name.rpartition(".")[2] == "sysfsdev":
            return value
    return ""


def text_of(root: Element, path: str) -> str:
    """Return the text of an element: empty if there is none."""
    return (root.findtext(path) or "").strip()


def guest_document(
    name: str, uuid: str, mdevs: Iterable[str], *, memory_mib: int = 64
) -> str:
    """Write a small domain document with one hostdev for each mdev."""
    root = etree.Element("domain", {"type": "qemu"})
    _add(root, "name", name)
    _add(root, "uuid", uuid)
    _add(root, "memory", str(memory_mib * 1024), unit="KiB")
    _add(root, "vcpu", "1", placement="static")
    _add(_add(root, "os"), "type", "hvm", arch="x86_64", machine="pc-q35-10.0")
    _add(_add(root, "features"), "acpi")
    _add(root, "on_crash", "destroy")
    devices = _add(root, "devices")
    _add(devices, "emulator", "/usr/bin/qemu-system-x86_64")
    for bus, mdev_uuid in enumerate(mdevs, _FIRST_BUS):
        _add_hostdev(devices, mdev_uuid, bus)
    _add(devices, "memballoon", model="none")
    return write(root)


def capabilities_document(host_uuid: str) -> str:
    """Write the part of a host's capabilities that callers look at."""
    root = etree.Element("capabilities")
    host = _add(root, "host")
    _add(host, "uuid", host_uuid)
    _add(_add(host, "cpu"), "arch", "x86_64")
    features = _add(host, "migration_features")
    _add(features, "live")
    _add(_add(features, "uri_transports"), "uri_transport", "tcp")
    guest = _add(root, "guest")
    _add(guest, "os_type", "hvm")
    arch = _add(guest, "arch", name="x86_64")
    _add(arch, "wordsize", "64")
    _add(arch, "emulator", "/usr/bin/qemu-system-x86_64")
    _add(arch, "domain", type="qemu")
    _add(arch, "domain", type="kvm")
    return write(root)


def mdev_request(
    parent: str,
    mdev_type: str,
    uuid: str,
    attributes: Sequence[tuple[str, str]] = (),
) -> str:
    """Write what ``nodeDeviceCreateXML`` wants to create an mdev."""
    root = etree.Element("device")
    _add(root, "parent", parent)
    capability = _add(root, "capability", type="mdev")
    _add(capability, "type", id=mdev_type)
    _add(capability, "uuid", uuid)
    for name, value in attributes:
        _add(capability, "attr", name=name, value=value)
    return write(root)


def add_child(
    parent: Element, tag: str, text: str | None = None, **attributes: str
) -> Element:
    """Append an element with a text and attributes, and return it."""
    child = etree.SubElement(parent, tag, attributes)
    child.text = text
    return child


_add = add_child


def _add_hostdev(devices: Element, mdev_uuid: str, bus: int) -> None:
    hostdev = _add(
        devices,
        "hostdev",
        mode="subsystem",
        type="mdev",
        managed="no",
        model="vfio-pci",
        display="off",
    )
    _add(_add(hostdev, "source"), "address", uuid=mdev_uuid)
    _add(
        hostdev,
        "address",
        type="pci",
        domain="0x0000",
        bus=f"0x{bus:02x}",
        slot="0x00",
        function="0x0",
    )
