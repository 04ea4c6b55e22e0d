# SPDX-License-Identifier: Apache-2.0
"""Which mdevs were made for a guest: noted in its own metadata.

A migration that creates target mdevs writes the note into the documents that
the guest is received with: it arrives with the guest, is there for as long
as that is, and nobody else's guests need be looked at. What was made for it
is removed as it leaves that host, and never for a guest that is only shut
off.
"""

from __future__ import annotations

from collections.abc import Collection

from lxml import etree

from mdev_migrate.core import documents, guest_xml

NAMESPACE = "urn:mdev-migrate:made"
_PREFIX = "mdev-migrate-made"
_DOCUMENT = "domain XML"
_TAG = f"{{{NAMESPACE}}}made"
_MDEV = f"{{{NAMESPACE}}}mdev"
_PATH = f"metadata/{_TAG}"


def read(domain_xml: str) -> frozenset[str]:
    """Return the UUIDs of the guest's mdevs that were made for it.

    A note says nothing of mdevs that the guest does not have.

    :raises XmlMalformed: if the document cannot be read.
    """
    domain = documents.parse(domain_xml, _DOCUMENT)
    noted = {
        mdev.get("uuid", "") for mdev in domain.iterfind(f"{_PATH}/{_MDEV}")
    }
    return guest_xml.named_mdevs(domain_xml) & noted


def note(domain_xml: str, uuids: Collection[str]) -> str:
    """Return the document with a note of these mdevs, and of no others.

    :raises XmlMalformed: if the document cannot be read.
    """
    domain = documents.parse(domain_xml, _DOCUMENT)
    metadata = domain.find("metadata")
    if metadata is None:
        if not uuids:
            return domain_xml
        metadata = etree.Element("metadata")
        metadata.tail = "\n"
        domain.insert(0, metadata)
    for old in metadata.findall(_TAG):
        metadata.remove(old)
    if uuids:
        names = {_PREFIX: NAMESPACE}
        made = etree.SubElement(metadata, _TAG, nsmap=names)
        for uuid in sorted(uuids):
            etree.SubElement(made, _MDEV, uuid=uuid)
    return documents.serialise(domain)
