# SPDX-License-Identifier: Apache-2.0
"""Which cards does a host have, and why are there no mdevs to cut from one?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lxml import etree

from mdev_migrate import model
from mdev_migrate.core import documents

_DOCUMENT = "node device XML"
_PCI = "capability[@type='pci']"
_FUNCTIONS = "capability[@type='virt_functions']"
#: PCI base classes: display controllers and processing accelerators.
_CLASSES = ("0x03", "0x12")
#: Drivers that a vendor's mdevs cannot come from: the kernel's own for
#: displays, and the one that gives a whole card to a guest.
_NO_VENDORS = ("nouveau", "nova_core", "vfio-pci", "bochs-drm", "ast")


@dataclass(frozen=True, slots=True)
class Card:
    """A card, or one of its virtual functions, that mdevs may come from.

    :ivar name: libvirt's, as in ``pci_0000_06_00_0``.
    :ivar about: vendor and product, for people.
    :ivar driver: the one that it is bound to; empty for none.
    :ivar functions: how many virtual functions it has now.
    :ivar most_functions: how many it could have; 0 if it is none that has.
    :ivar is_function: it is a virtual function itself.
    """

    name: str
    about: str
    driver: str
    functions: int = 0
    most_functions: int = 0
    is_function: bool = False


def read(device_xml: str) -> Card | None:
    """Return the card that a node device document describes.

    :returns: None if it is a device of another kind.
    :raises XmlMalformed: if it cannot be read.
    """
    device = documents.parse(device_xml, _DOCUMENT)
    pci = device.find(_PCI)
    if pci is None or not (pci.findtext("class") or "").startswith(_CLASSES):
        return None
    functions = pci.find(_FUNCTIONS)
    most, now = 0, 0
    if functions is not None:
        maximum = functions.get("maxCount", "0")
        most = int(maximum) if maximum.isdecimal() else 0
        now = len(functions.findall("address"))
    return Card(
        name=device.findtext("name") or "",
        about=_about(pci),
        driver=device.findtext("driver/name") or "",
        functions=now,
        most_functions=most,
        is_function=pci.find("capability[@type='phys_function']") is not None,
    )


def _about(pci: etree._Element) -> str:
    words = (pci.findtext("vendor") or "", pci.findtext("product") or "")
    return " ".join(filter(None, words)) or "a card"


@dataclass(frozen=True, slots=True)
class Lack:
    """Why no mdevs can be cut from a card, and what to do."""

    found: str
    advice: str


def lacks(
    cards: Sequence[Card], parents: Iterable[model.Parent]
) -> tuple[Lack, ...]:
    """Return what keeps cards from being parents."""
    named = {parent.name for parent in parents}
    served = any(card.is_function and card.name in named for card in cards)
    return tuple(
        lack
        for card in cards
        if card.name not in named and not card.is_function
        for lack in [_lack(card, served=served)]
        if lack is not None
    )


def _lack(card: Card, *, served: bool) -> Lack | None:
    what = f"{card.name} ({card.about})"
    if not card.driver:
        return Lack(
            f"{what} has no driver",
            "load the vendor's host driver, with its manager",
        )
    if card.driver in _NO_VENDORS:
        return Lack(
            f"{what} is driven by {card.driver}",
            "mdevs need the vendor's host driver in its place",
        )
    if card.most_functions and not card.functions:
        return Lack(
            f"{what} has none of its {card.most_functions} virtual functions",
            "enable them, after every boot: for NVIDIA's cards with "
            "'/usr/lib/nvidia/sriov-manage -e ALL'",
        )
    if card.functions and served:
        return None
    return Lack(
        f"{what} is driven by {card.driver}, and offers no mdev types",
        "is the host driver's manager running? A driver that gives out VFIO "
        "devices of its own in place of mdevs is not for this program",
    )
