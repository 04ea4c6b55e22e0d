# SPDX-License-Identifier: Apache-2.0
"""What Nova's fake libvirt lacks for the domains that claim mdevs.

It makes every document of a domain anew from what it has read of it, lists
no domain where libvirt lists all, and has no metadata.
"""

from __future__ import annotations

from typing import Any

from lxml import etree
from nova.tests.fixtures import libvirt as fakelibvirt

from mdev_migrate import libvirt_claims
from mdev_migrate.core import claim_xml


class ClaimDomain(fakelibvirt.Domain):  # type: ignore[misc]
    """A domain that claims an mdev: its document is kept as it is."""

    def __init__(self, connection: Any, xml: str) -> None:
        super().__init__(connection=connection, xml=xml)
        self._document = xml

    def XMLDesc(self, flags: int) -> str:  # noqa: N802 libvirt's name
        return self._document

    def setMetadata(  # noqa: N802
        self, kind: int, text: str, key: str, uri: str, flags: int = 0
    ) -> None:
        """Replace the element of a namespace, and put the new one into it."""
        domain = etree.fromstring(self._document)
        (metadata,) = domain.iterfind("metadata")
        for old in metadata.findall(f"{{{uri}}}*"):
            metadata.remove(old)
        new = etree.fromstring(text)
        for element in new.iter():
            element.tag = f"{{{uri}}}{element.tag}"
        metadata.append(new)
        self._document = etree.tostring(domain, encoding="unicode")


def extend() -> None:
    """Let fake hosts keep claims, and the claims know the fake's errors."""
    connection = fakelibvirt.Connection
    define, list_all = connection.defineXML, connection.listAllDomains

    def define_xml(self: Any, xml: str) -> Any:
        name = str(etree.fromstring(xml).findtext("name"))
        if not claim_xml.is_named_so(name):
            return define(self, xml)
        made = ClaimDomain(self, xml)
        other = self._vms.get(name)
        if other is not None and other.UUIDString() != made.UUIDString():
            raise error(f"domain '{name}' already exists")
        self._vms[name] = made
        return made

    def list_all_domains(self: Any, flags: int | None = None) -> Any:
        return list_all(self, flags) if flags else list(self._vms.values())

    def lookup_by_name(self: Any, name: str) -> Any:
        if name not in self._vms:
            raise error(f"no domain '{name}'", fakelibvirt.VIR_ERR_NO_DOMAIN)
        return self._vms[name]

    connection.defineXML = define_xml
    connection.listAllDomains = list_all_domains
    connection.lookupByName = lookup_by_name
    libvirt_claims.libvirt = fakelibvirt


def error(
    message: str, code: int = fakelibvirt.VIR_ERR_INTERNAL_ERROR
) -> Exception:
    """Return an error as the fake libvirt raises it."""
    made: Exception = fakelibvirt.make_libvirtError(
        fakelibvirt.libvirtError,
        message,
        error_code=code,
        error_message=message,
    )
    return made
