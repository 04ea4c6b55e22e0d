# SPDX-License-Identifier: Apache-2.0
"""Parse and serialise XML documents, without entities and network."""

from __future__ import annotations

from lxml import etree

from mdev_migrate import exception


def parse(text: str, document: str) -> etree._Element:
    """Return the root element of an XML document.

    A document type declaration is refused altogether: libvirt never writes
    one, and only it can define entities or name other documents.

    :param document: what the text is, for the error.
    :raises XmlMalformed: if it cannot be parsed or declares a type.
    """
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        encoding="utf-8",
    )
    try:
        root = etree.fromstring(text.encode(), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise exception.XmlMalformed(document, reason) from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise exception.XmlMalformed(document, "has a DOCTYPE")
    return root


def serialise(root: etree._Element) -> str:
    """Return an element as text, for libvirt to parse."""
    return etree.tostring(root, encoding="unicode")
