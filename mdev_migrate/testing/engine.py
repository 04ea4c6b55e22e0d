# SPDX-License-Identifier: Apache-2.0
"""What does libvirt's own test driver hold for a simulated host?

Each engine is one in-process libvirt, opened on a file of its own
(``test:///FILE``). It parses and formats the documents and holds the guests.
Three things it cannot hold are put aside on the way in and, but for the last,
put back on the way out:

* the domain type: the driver accepts none but ``test``;
* top-level elements of hypervisor namespaces, such as ``qemu:override``;
* an ``itco`` watchdog, which libvirt older than 9.1 does not know and newer
  libvirt adds to every q35 guest by itself.
"""

import copy
import tempfile
from dataclasses import dataclass
from typing import Any

import libvirt
from lxml import etree

from mdev_migrate.testing import markup

_HYPERVISOR_NAMESPACE = "{http://libvirt.org/schemas/domain/"
_PLACEHOLDER = "new device"


def open_test_driver(content: str = "") -> Any:
    """Open an in-process libvirt that starts with the given elements.

    :raises libvirt.libvirtError: if libvirt cannot parse them.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(f"<node>{content}</node>")
        file.flush()
        return libvirt.open(f"test://{file.name}")


def parse_node_device(document: str) -> markup.Element:
    """Let libvirt parse a node device that does not exist yet.

    :returns: the document as libvirt formats it.
    :raises libvirt.libvirtError: if libvirt cannot parse it.
    """
    try:
        root = markup.parse(document)
    except etree.XMLSyntaxError:
        open_test_driver(document)
        raise
    for name in root.findall("name"):
        root.remove(name)
    markup.add_child(root, "name", _PLACEHOLDER)
    driver = open_test_driver(etree.tostring(root, encoding="unicode"))
    device = driver.nodeDeviceLookupByName(_PLACEHOLDER)
    return markup.parse(device.XMLDesc(0))


@dataclass(frozen=True, slots=True)
class _Aside:
    """What the test driver cannot hold of a document."""

    domain_type: str
    elements: tuple[markup.Element, ...]

    def put_back(self, document: str) -> str:
        held = markup.parse(document)
        root = etree.Element(str(held.tag), None, self._prefixes())
        for name, value in held.attrib.items():
            root.set(str(name), str(value))
        root.set("type", self.domain_type)
        root.extend(held)
        root.extend(copy.deepcopy(element) for element in self.elements)
        return markup.write(root)

    def _prefixes(self) -> dict[str, str]:
        return {
            str(prefix): uri
            for element in self.elements
            for prefix, uri in element.nsmap.items()
            if prefix
        }


def _put_aside(document: str) -> tuple[str, _Aside]:
    try:
        root = markup.parse(document)
    except etree.XMLSyntaxError:
        return document, _Aside("qemu", ())  # libvirt says what is wrong.
    aside = _Aside(root.get("type", ""), tuple(_foreign_elements(root)))
    for element in aside.elements:
        root.remove(element)
    for devices in root.findall("devices"):
        for watchdog in devices.findall("watchdog[@model='itco']"):
            devices.remove(watchdog)
    if aside.domain_type in ("qemu", "kvm"):
        root.set("type", "test")
    return etree.tostring(root, encoding="unicode"), aside


def _foreign_elements(root: markup.Element) -> list[markup.Element]:
    return [
        child
        for child in root
        if str(child.tag).startswith(_HYPERVISOR_NAMESPACE)
    ]


class Engine:
    """The guests of one simulated host, held by libvirt's test driver.

    Guests are named by their UUID, lower case. Not safe for threads: the
    caller holds the lock of the host's group.
    """

    def __init__(self) -> None:
        self._driver = open_test_driver()
        self._guests: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        self._live: dict[str, _Aside] = {}
        self._config: dict[str, _Aside] = {}

    def define(self, document: str) -> str:
        """Define a guest, or replace its definition; return its UUID."""
        translated, aside = _put_aside(document)
        guest = self._driver.defineXML(translated)
        return self._remember(guest, self._config, aside)

    def create(self, document: str) -> str:
        """Start a guest from a document and return its UUID."""
        translated, aside = _put_aside(document)
        guest = self._driver.createXML(translated)
        return self._remember(guest, self._live, aside)

    def start(self, uuid: str) -> None:
        """Start a defined guest."""
        self._guests[uuid].create()
        self._live[uuid] = self._config[uuid]

    def stop(self, uuid: str) -> None:
        """Stop a running guest; a transient one is gone."""
        persistent = self.is_persistent(uuid)
        self._guests[uuid].destroy()
        del self._live[uuid]
        if not persistent:
            del self._guests[uuid]

    def undefine(self, uuid: str) -> None:
        """Remove a guest's definition; a running one becomes transient."""
        active = self.is_active(uuid)
        self._guests[uuid].undefine()
        del self._config[uuid]
        if not active:
            del self._guests[uuid]

    def suspend(self, uuid: str) -> None:
        """Pause a guest."""
        self._guests[uuid].suspend()

    def resume(self, uuid: str) -> None:
        """Let a paused guest go on."""
        self._guests[uuid].resume()

    def document(self, uuid: str, flags: int = 0) -> str:
        """Return a guest's document as ``virDomainGetXMLDesc`` does."""
        document = str(self._guests[uuid].XMLDesc(flags))
        inactive = flags & libvirt.VIR_DOMAIN_XML_INACTIVE
        first, second = self._live, self._config
        if inactive or uuid not in self._live:
            first, second = second, first
        aside = first[uuid] if uuid in first else second[uuid]
        return aside.put_back(document)

    def guest(self, uuid: str) -> Any:
        """Return the test driver's own object for a guest."""
        return self._guests[uuid]

    def holds(self, uuid: str) -> bool:
        """Tell whether a guest is known."""
        return uuid in self._guests

    def is_active(self, uuid: str) -> bool:
        """Tell whether a guest runs, or is paused."""
        return uuid in self._guests and bool(self._guests[uuid].isActive())

    def is_persistent(self, uuid: str) -> bool:
        """Tell whether a guest has a definition."""
        return bool(self._guests[uuid].isPersistent())

    def uuids(self, flags: int = 0) -> list[str]:
        """List the guests that ``virConnectListAllDomains`` would."""
        guests = self._driver.listAllDomains(flags)
        return sorted(str(guest.UUIDString()) for guest in guests)

    def refuse_uuid(self, text: str) -> None:
        """Let libvirt say what is wrong with a UUID."""
        self._driver.lookupByUUIDString(text)

    def name(self, uuid: str) -> str:
        """Return a guest's name, be it gone."""
        return self._names[uuid]

    def mdevs(self, uuid: str, flags: int = 0) -> list[str]:
        """Return the UUIDs of a guest's mdevs, in guest order."""
        document = self._guests[uuid].XMLDesc(flags)
        return markup.assigned_mdevs(markup.parse(document))

    def mdevs_by_options(self, uuid: str, *, live: bool) -> list[str]:
        """Return the UUIDs of the mdevs that QEMU is given by options."""
        asides = self._live if live else self._config
        return markup.mdevs_by_options(asides[uuid].elements)

    def _remember(
        self, guest: Any, asides: dict[str, _Aside], aside: _Aside
    ) -> str:
        uuid = str(guest.UUIDString())
        self._guests[uuid] = guest
        self._names[uuid] = str(guest.name())
        asides[uuid] = aside
        return uuid
