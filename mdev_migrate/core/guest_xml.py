# SPDX-License-Identifier: Apache-2.0
"""Read and replace the mdevs of a domain's XML.

A hostdev of type ``mdev`` names its mdev in ``source/address@uuid``. QEMU can
also be given one by options that libvirt hands through: ``sysfsdev`` in
``<qemu:commandline>`` or ``<qemu:override>``. libvirt keeps no book of those,
and they are never rewritten. All else in a document is foreign: it is never
looked at, and comes out as it went in.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
from collections.abc import Iterator, Mapping

from lxml import etree

from mdev_migrate import exception, model
from mdev_migrate.core import documents

_HOSTDEVS = "devices/hostdev[@type='mdev']"
_ADDRESS = "source/address"
_VIOMMU = "devices/iommu"
_DOCUMENT = "domain XML"
#: Options for one hypervisor: ``qemu:commandline``, ``qemu:override``.
_HYPERVISOR = "{http://libvirt.org/schemas/domain/"
#: A path in sysfs that may lead to a device, or what ``sysfsdev`` is told.
_DEVICE_PATH = re.compile(
    r"(?:/sys/(?:bus|class|devices)/|\bsysfsdev['\"]?\s*[=:]\s*['\"]?)"
    r"[^,\s'\"}]*"
)
#: How QEMU's own dialect of JSON, with other quotes, may write a character.
_ESCAPED = re.compile(r"\\(?:u([0-9a-f]{4})|/)", re.I)
_OPEN_FILE = re.compile(r"\bfd['\"]?\s*[=:]")
#: A part of a path that is a UUID and no more.
_UUID_PART = re.compile(
    r"/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b(?![-.])", re.I
)


def _hostdevs(
    domain: etree._Element,
) -> Iterator[tuple[str, str, etree._Element]]:
    """Yield UUID, device API and address element of each mdev, in order."""
    seen = set()
    for hostdev in domain.iterfind(_HOSTDEVS):
        address = hostdev.find(_ADDRESS)
        text = "" if address is None else address.get("uuid", "")
        try:
            uuid = model.normalise_uuid(text)
        except ValueError as error:
            raise exception.XmlMalformed(_DOCUMENT, f"{error}") from None
        if uuid in seen:
            raise exception.GuestMdevTwice(uuid)
        seen.add(uuid)
        assert address is not None  # noqa: S101 - a UUID was read from it
        yield uuid, hostdev.get("model", ""), address


def _parse(domain_xml: str) -> etree._Element:
    domain = documents.parse(domain_xml, _DOCUMENT)
    if domain.tag != "domain":
        raise exception.XmlMalformed(_DOCUMENT, f"is a <{domain.tag}>")
    return domain


def read_mdevs(domain_xml: str) -> tuple[model.GuestMdev, ...]:
    """Return the mdevs that a domain's XML names, in its order.

    :raises GuestMdevTwice: if it names one of them more than once.
    :raises XmlMalformed: if the document cannot be read.
    """
    return tuple(
        model.GuestMdev(uuid, device_api)
        for uuid, device_api, _ in _hostdevs(_parse(domain_xml))
    )


def named_mdevs(domain_xml: str) -> frozenset[str]:
    """Return the UUIDs of all mdevs that a domain's XML names, in any way.

    For guests that are not ours to judge: what cannot be read is skipped.

    :raises XmlMalformed: if the document as a whole cannot be read.
    """
    return _named(_parse(domain_xml))


def read_holdings(domain_xml: str) -> tuple[frozenset[str], str]:
    """Return what :func:`named_mdevs` does, and where there may be more.

    :returns: the second in words, as "in a file": where the guest may be
        given mdevs that nobody sees; empty if it cannot.
    :raises XmlMalformed: if the document as a whole cannot be read.
    """
    domain = _parse(domain_xml)
    return _named(domain), _hides(domain)


def _named(domain: etree._Element) -> frozenset[str]:
    named = set(_by_options(domain))
    for address in domain.iterfind(f"{_HOSTDEVS}/{_ADDRESS}"):
        with contextlib.suppress(ValueError):
            named.add(model.normalise_uuid(address.get("uuid", "")))
    return frozenset(named)


def mdevs_by_options(domain_xml: str) -> frozenset[str]:
    """Return the UUIDs of the mdevs that QEMU is given by options.

    :raises XmlMalformed: if the document cannot be read.
    """
    return frozenset(_by_options(_parse(domain_xml)))


def _by_options(domain: etree._Element) -> Iterator[str]:
    """Yield the UUID of each mdev that an option names by its path.

    The option may be ``-device`` or ``-set``, in words or in JSON, or a
    property of its own.
    """
    for option in _options(domain):
        for path in _DEVICE_PATH.findall(option):
            yield from map(str.lower, _UUID_PART.findall(path))


def _options(domain: etree._Element) -> Iterator[str]:
    """Yield what libvirt hands through to QEMU, names and values."""
    for child in domain.iterchildren(etree.Element):
        if str(child.tag).startswith(_HYPERVISOR):
            for element in child.iter(etree.Element):
                value = element.get("value", "")
                if str(element.tag).endswith("}property"):
                    yield f"{element.get('name')}={value}"
                elif not str(element.tag).endswith("}env"):
                    yield _ESCAPED.sub(
                        lambda found: chr(int(found[1] or "2f", 16)),
                        ",".join(_words(value)),
                    )


def _words(option: str) -> Iterator[str]:
    """Yield an option as it is, or what it says in JSON as ``name=value``."""
    try:
        pending = [("", json.loads(option))]
    except (ValueError, RecursionError):
        yield option
        return
    while pending:
        name, value = pending.pop()
        if isinstance(value, dict):
            pending += value.items()
        elif isinstance(value, list):
            pending += [(name, each) for each in value]
        else:
            yield f"{name}={value}"


def _hides(domain: etree._Element) -> str:
    for option in _options(domain):
        if option in ("-readconfig", "--readconfig"):
            return "in a file of options (-readconfig)"
        if "vfio-" in option and _OPEN_FILE.search(option):
            return "as an open file (fd=)"
    return ""


def read_identity(domain_xml: str) -> tuple[str, str]:
    """Return the name and the UUID that a document gives its guest.

    :returns: empty texts for what it does not say.
    :raises XmlMalformed: if the document cannot be read.
    """
    domain = _parse(domain_xml)
    name, uuid = (domain.findtext(tag) or "" for tag in ("name", "uuid"))
    return name.strip(), uuid.strip().lower()


def read_memory_kib(domain_xml: str) -> int | None:
    """Return how much memory a guest has at most, in KiB, as libvirt writes.

    :raises XmlMalformed: if the document cannot be read.
    """
    memory = _parse(domain_xml).find("memory")
    text = "" if memory is None else (memory.text or "").strip()
    if memory is None or memory.get("unit", "KiB") != "KiB":
        return None
    return int(text) if text.isascii() and text.isdigit() else None


def has_huge_pages(domain_xml: str) -> bool:
    """Tell whether a guest's memory comes from a pool of its host's.

    :raises XmlMalformed: if the document cannot be read.
    """
    return _parse(domain_xml).find("memoryBacking/hugepages") is not None


def read_viommu(domain_xml: str) -> str | None:
    """Return the model of the domain's virtual IOMMU, None if it has none.

    :raises XmlMalformed: if the document cannot be read.
    """
    viommu = _parse(domain_xml).find(_VIOMMU)
    return None if viommu is None else viommu.get("model", "unknown model")


def replace_mdevs(domain_xml: str, target_mdevs: Mapping[str, str]) -> str:
    """Return the domain XML with target mdevs in place of source mdevs.

    Nothing else in the document is touched.

    :param target_mdevs: target mdev UUID by source mdev UUID.
    :raises GuestMdevsChanged: unless the guest has exactly the source mdevs.
    :raises GuestMdevTwice: if the document names an mdev more than once.
    :raises XmlMalformed: if the document cannot be read.
    """
    domain = _parse(domain_xml)
    addresses = {uuid: address for uuid, _, address in _hostdevs(domain)}
    if addresses.keys() != target_mdevs.keys():
        raise exception.GuestMdevsChanged(
            unpaired=frozenset(addresses.keys() - target_mdevs.keys()),
            gone=frozenset(target_mdevs.keys() - addresses.keys()),
        )
    for source_uuid, address in addresses.items():
        address.set("uuid", target_mdevs[source_uuid])
    return documents.serialise(domain)


def difference(before: str, after: str) -> str:
    """Return the unified difference of two domain documents.

    Both are serialised the same way first, so that only the rewriting
    shows. Give it no document with secrets (``VIR_DOMAIN_XML_SECURE``).

    :raises XmlMalformed: if a document cannot be read.
    """
    old, new = (
        documents.serialise(_parse(text)).splitlines()
        for text in (before, after)
    )
    return "\n".join(
        difflib.unified_diff(old, new, "source", "destination", lineterm="")
    )
