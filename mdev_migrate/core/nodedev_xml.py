# SPDX-License-Identifier: Apache-2.0
"""Read mdevs and parents from node device XML, write a new mdev's XML.

Format: https://libvirt.org/formatnode.html#mdev-capability. Capabilities
and elements that are not known here are skipped.
"""

from __future__ import annotations

from lxml import etree

from mdev_migrate import exception, model
from mdev_migrate.core import documents

_DOCUMENT = "node device XML"
_MDEV = "capability[@type='mdev']"
#: At any depth: the parent of the kernel's mtty sample nests it twice.
_TYPES = ".//capability[@type='mdev_types']/type"


def _text(element: etree._Element, path: str) -> str:
    """Return the text of a child, which must be there.

    :raises XmlMalformed: if it is not, or is empty.
    """
    text = element.findtext(path)
    if not text:
        raise exception.XmlMalformed(_DOCUMENT, f"<{path}> is missing")
    return text


def _attribute(element: etree._Element, path: str, name: str) -> str:
    found = element if path == "." else element.find(path)
    text = None if found is None else found.get(name)
    if not text:
        tag = path if found is None else found.tag
        raise exception.XmlMalformed(
            _DOCUMENT, f"<{tag}> has no attribute {name}"
        )
    return text


def read_mdev(
    device_xml: str,
    *,
    active: bool = True,
    persistent: bool = False,
    autostart: bool = False,
) -> model.Mdev:
    """Return the mdev that a node device document describes.

    :param active: and the other two: what the document does not say.
    :raises XmlMalformed: if it is not the document of an mdev.
    """
    device = documents.parse(device_xml, _DOCUMENT)
    mdev = device.find(_MDEV)
    if mdev is None:
        raise exception.XmlMalformed(_DOCUMENT, "has no mdev capability")
    try:
        uuid = model.normalise_uuid(_text(mdev, "uuid"))
    except ValueError as error:
        raise exception.XmlMalformed(_DOCUMENT, f"{error}") from None
    return model.Mdev(
        uuid=uuid,
        mdev_type=_attribute(mdev, "type", "id"),
        parent=_text(device, "parent"),
        attributes=tuple(
            (attr.get("name", ""), attr.get("value", ""))
            for attr in mdev.iterfind("attr")
        ),
        active=active,
        persistent=persistent,
        autostart=autostart,
    )


def read_parent(device_xml: str) -> model.Parent:
    """Return the parent that a node device document describes.

    A type without id, device API or number of available instances is left
    out, and named.

    :raises XmlMalformed: if it is not the document of a device.
    """
    device = documents.parse(device_xml, _DOCUMENT)
    name = _text(device, "name")
    types, unreadable = [], []
    for kind in device.iterfind(_TYPES):
        try:
            types.append(_read_type(kind))
        except exception.XmlMalformed as error:
            which = kind.get("id") or "without id"
            reason = f"{which} of {name}: {error.reason}"
            unreadable.append(model.Unreadable("mdev type", name, reason))
    return model.Parent(
        name=name,
        types=tuple(types),
        card=_read_card(device),
        unreadable=tuple(unreadable),
    )


def _read_card(device: etree._Element) -> str:
    """Return what all functions of a PCI card have in common.

    A virtual function names its physical one: it may stand at another
    device number. Otherwise domain, bus and device are the card's.
    """
    pci = device.find("capability[@type='pci']")
    if pci is None:
        return ""
    physical = pci.find("capability[@type='phys_function']/address")
    names = ("domain", "bus", "slot")
    numbers = [
        pci.findtext(name, "") if physical is None else physical.get(name, "")
        for name in names
    ]
    try:
        domain, bus, slot = (int(number, 0) for number in numbers)
    except ValueError:
        return ""
    return f"{domain:04x}:{bus:02x}:{slot:02x}"


def _read_type(kind: etree._Element) -> model.MdevType:
    available = _text(kind, "availableInstances")
    if not available.isdecimal():
        raise exception.XmlMalformed(
            _DOCUMENT, f"<availableInstances> is {available!r:.80}"
        )
    return model.MdevType(
        mdev_type=_attribute(kind, ".", "id"),
        device_api=_text(kind, "deviceAPI"),
        available_instances=int(available),
        name=kind.findtext("name") or "",
    )


def write_mdev(mdev: model.Mdev) -> str:
    """Return the document that creates or defines an mdev.

    For ``virNodeDeviceCreateXML`` and ``virNodeDeviceDefineXML``.
    """
    device = etree.Element("device")
    etree.SubElement(device, "parent").text = mdev.parent
    capability = etree.SubElement(device, "capability", type="mdev")
    etree.SubElement(capability, "type", id=mdev.mdev_type)
    etree.SubElement(capability, "uuid").text = mdev.uuid
    for name, value in mdev.attributes:
        etree.SubElement(capability, "attr", name=name, value=value)
    return documents.serialise(device)
