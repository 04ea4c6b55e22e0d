# SPDX-License-Identifier: Apache-2.0
"""The claims on a host's mdevs, as shut-off domains that libvirt keeps.

libvirt decides races: names are unique, so of two who claim one mdev the
second is refused. Its access control decides who may. See
:mod:`core.claim_xml` for what such a domain is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import libvirt

from mdev_migrate import exception, libvirt_reading, model
from mdev_migrate.core import claim_xml
from mdev_migrate.libvirt_errors import failure

#: Lends a connection, and makes libvirt's errors of the block ours.
Calling = Callable[[str], contextlib.AbstractContextManager[Any]]


def lend(connection: Callable[[], Any], name: Callable[[], str]) -> Calling:
    """Return how a connection is lent that others keep open.

    :param connection: returns it; one that was opened anew if need be.
    """

    @contextlib.contextmanager
    def calling(operation: str) -> Iterator[Any]:
        try:
            yield connection()
        except libvirt.libvirtError as error:
            raise failure(name(), operation, error) from error

    return calling


#: How often a definition is tried that nothing to be seen is in the way of.
_TRIES = 4


class LibvirtClaims:
    """The claims on one host's mdevs; fulfils ``host.Claims``.

    :param calling: given the name of libvirt's function, lends the open
        connection and translates libvirt's errors to ours.
    :param name: returns the host's name, for texts.
    """

    def __init__(self, calling: Calling, name: Callable[[], str]) -> None:
        self._calling = calling
        self._name = name

    def read(self) -> model.Claims:
        """Return the claims on the host's mdevs; see ``host.Claims``."""
        with self._calling("virConnectListAllDomains") as connection:
            return libvirt_reading.read_claims(connection)

    def define(self, claim: model.Claim, form: claim_xml.Form) -> None:
        """Claim all target mdevs, or none; see ``host.Claims``."""
        made: list[model.Target] = []
        try:
            for target in claim.targets:
                made.append(target)
                self._define(claim, target, form)
        except BaseException:
            with contextlib.suppress(exception.MdevMigrateError):
                self.undefine(replace(claim, targets=tuple(made)))
            raise

    def _define(
        self, claim: model.Claim, target: model.Target, form: claim_xml.Form
    ) -> None:
        """Define the domain of one target.

        libvirt has no error code of its own for a name that is taken, so it
        is looked for. Whoever had it may have given it up meanwhile: what
        was refused for nothing that can be seen is tried again.
        """
        text = claim_xml.write(claim, target, form)
        for tries_left in reversed(range(_TRIES)):
            try:
                with self._calling("virDomainDefineXML") as connection:
                    connection.defineXML(text)
            except exception.AccessDenied as error:
                raise exception.ClaimsDenied(
                    self._name(), error.reason
                ) from error
            except exception.LibvirtFailed as error:
                if self._is_taken(target):
                    raise exception.ClaimTaken(
                        self._name(), target.mdev.uuid
                    ) from error
                if not tries_left:
                    raise
            else:
                return

    def _is_taken(self, target: model.Target) -> bool:
        """Tell whether another domain has the name of a claim."""
        with self._calling("virDomainLookupByName") as connection:
            try:
                name = claim_xml.name_of(target.mdev.uuid)
                other = connection.lookupByName(name)
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    return False
                raise
            return bool(other.UUIDString() != target.domain_uuid)

    def write(self, claim: model.Claim) -> None:
        """Write what a claim says now; see ``host.Claims``."""
        for target, domain in self._domains(claim):
            text = claim_xml.write_metadata(claim, target)
            with self._using("virDomainSetMetadata", claim):
                domain.setMetadata(
                    libvirt.VIR_DOMAIN_METADATA_ELEMENT,
                    text,
                    claim_xml.KEY,
                    claim_xml.NAMESPACE,
                    libvirt.VIR_DOMAIN_AFFECT_CONFIG,
                )

    def close(self, claim: model.Claim) -> None:
        """Say that nobody works on a claim; see ``host.Claims``."""
        for _, domain in self._domains(claim):
            with self._using("virDomainSetMetadata", claim):
                domain.setMetadata(
                    libvirt.VIR_DOMAIN_METADATA_ELEMENT,
                    claim_xml.write_over(),
                    claim_xml.OVER_KEY,
                    claim_xml.OVER_NAMESPACE,
                    libvirt.VIR_DOMAIN_AFFECT_CONFIG,
                )

    def confirm(self, claim: model.Claim) -> None:
        """See that a claim is its owner's still; see ``host.Claims``."""
        for _, domain in self._domains(claim):
            with self._using("virDomainGetXMLDesc", claim):
                text = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            if claim_xml.is_over(text):
                raise exception.ClaimLost(claim.instance_uuid, self._name())

    def undefine(self, claim: model.Claim) -> None:
        """Release a claim; see ``host.Claims``."""
        domains = self._list()
        for target in claim.targets:
            if target.domain_uuid in domains:
                with (
                    contextlib.suppress(exception.ClaimLost),
                    self._using("virDomainUndefine", claim),
                ):
                    domains[target.domain_uuid].undefine()

    def _domains(
        self, claim: model.Claim
    ) -> Iterator[tuple[model.Target, Any]]:
        """Yield each target and its domain.

        :raises ClaimLost: if one is not there.
        """
        domains = self._list()
        for target in claim.targets:
            if target.domain_uuid not in domains:
                raise exception.ClaimLost(claim.instance_uuid, self._name())
            yield target, domains[target.domain_uuid]

    def _list(self) -> dict[str, Any]:
        """Return all domains by UUID: one call, however many are wanted."""
        with self._calling("virConnectListAllDomains") as connection:
            return {
                model.normalise_uuid(domain.UUIDString()): domain
                for domain in connection.listAllDomains(0)
            }

    @contextlib.contextmanager
    def _using(self, operation: str, claim: model.Claim) -> Iterator[None]:
        """Call a domain of a claim.

        :raises ClaimLost: if it is not there any more.
        """
        with self._calling(operation):
            try:
                yield
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
                raise exception.ClaimLost(
                    claim.instance_uuid, self._name()
                ) from error
