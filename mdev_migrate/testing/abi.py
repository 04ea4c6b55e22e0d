# SPDX-License-Identifier: Apache-2.0
"""May a running guest go on with another document on the destination?

The part of libvirt's check that a changed set of mdevs can fall foul of:
name, UUID, memory, processors, and the number, order, mode and guest address
of host devices. As in libvirt, the mdev's UUID, ``model`` and ``display`` are
not compared.
"""

import libvirt

from mdev_migrate.testing import errors, markup

_FACTS = (
    ("memory", "Target domain max memory {1} does not match source {0}"),
    ("vcpu", "Target domain vCPU max {1} does not match source {0}"),
)
_HOSTDEVS = "devices/hostdev"
_PCI = "{domain}:{bus}:{slot}.{function}"
_ABSENT_ADDRESS = {"type": "none"}


def check(source: str, target: str) -> None:
    """Refuse a target document that the guest would notice.

    :param source: the live document, as libvirt's test driver formats it.
    :param target: the destination's, formatted likewise.
    :raises libvirt.libvirtError: naming the first difference.
    """
    here, there = markup.parse(source), markup.parse(target)
    _check_identity(here, there)
    for path, text in _FACTS:
        _compare(markup.text_of(here, path), markup.text_of(there, path), text)
    _check_hostdevs(here.findall(_HOSTDEVS), there.findall(_HOSTDEVS))


def _check_identity(here: markup.Element, there: markup.Element) -> None:
    if markup.text_of(here, "name") != markup.text_of(there, "name"):
        raise errors.libvirt_error(
            libvirt.VIR_ERR_INVALID_ARG,
            "target domain name doesn't match source name",
        )
    _compare(
        markup.text_of(here, "uuid"),
        markup.text_of(there, "uuid"),
        "Target domain uuid {1} does not match source {0}",
    )


def _check_hostdevs(
    here: list[markup.Element], there: list[markup.Element]
) -> None:
    _compare(
        str(len(here)),
        str(len(there)),
        "Target domain host device count {1} does not match source {0}",
    )
    for ours, theirs in zip(here, there, strict=True):
        _compare(
            ours.get("mode", ""),
            theirs.get("mode", ""),
            "Target host device mode {1} does not match source {0}",
        )
        _compare(
            ours.get("type", ""),
            theirs.get("type", ""),
            "Target host device subsystem type {1} is not compatible with "
            "source subsystem type {0}",
        )
        _check_address(_address(ours), _address(theirs))


def _check_address(ours: dict[str, str], theirs: dict[str, str]) -> None:
    _compare(
        ours["type"],
        theirs["type"],
        "Target device address type {1} does not match source {0}",
    )
    if ours["type"] == "pci":
        _compare(
            _PCI.format_map(ours).replace("0x", ""),
            _PCI.format_map(theirs).replace("0x", ""),
            "Target device PCI address {1} does not match source {0}",
        )


def _address(hostdev: markup.Element) -> dict[str, str]:
    address = hostdev.find("address")
    if address is None:
        return _ABSENT_ADDRESS
    return {str(key): str(value) for key, value in address.attrib.items()}


def _compare(ours: str, theirs: str, text: str) -> None:
    if ours != theirs:
        raise errors.libvirt_error(
            libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
            text.format(ours, theirs),
            libvirt.VIR_FROM_NONE,
        )
