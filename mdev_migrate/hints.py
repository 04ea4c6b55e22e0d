# SPDX-License-Identifier: Apache-2.0
"""What can be done about what libvirt and QEMU say.

They have no codes for these reasons, only sentences, so words are looked for.
A reason that is not known here keeps the general hint of its error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple


class Hint(NamedTuple):
    """What to do about a reason.

    :ivar words: a regular expression, for the reason in lower case.
    """

    words: str
    text: str


#: Why a guest is not migrated: libvirt's ``qemuMigrationSrcIsAllowed`` and
#: the reasons of QEMU's ``migrate_add_blocker``. The first that fits counts.
BLOCKERS: Sequence[Hint] = (
    Hint(
        r"viommu",
        "remove the <iommu> device from the guest, or run it on a newer QEMU",
    ),
    Hint(
        r"p2p migration",
        "the guest's VFIO devices can only be migrated together if all their "
        "drivers support it: give it one, or newer vendor drivers",
    ),
    Hint(
        r"migration is disabled for vfio",
        "somebody set enable-migration=off by <qemu:override>: take it out",
    ),
    Hint(
        r"vfio|dirty tracking|type='mdev'",
        "the vendor driver must support VFIO migration, on both hosts",
    ),
    Hint(
        r"i/o error",
        "the guest stands still for an error of its disk: 'virsh domblkerror' "
        "names it; mend that, and let it go on",
    ),
    Hint(
        r"invtsc|cpu|nested|\bhv-|\bpmu\b",
        "a processor feature of the guest cannot be migrated: take it out of "
        "<cpu> or <features>, and start the guest anew",
    ),
    Hint(
        r"virtiofs|virtio-fs|user-fs|virtfs|\b9p|filesystem|mount_tag",
        "unmount the shared folder in the guest, and detach its <filesystem>",
    ),
    Hint(
        r"virgl|venus|rutabaga|\bblob\b|opengl|\bgl\b|\b3d\b|qxl|udmabuf",
        "turn 3D acceleration of the guest's <video> or <graphics> off, and "
        "start it anew",
    ),
    Hint(
        r"snapshot|checkpoint",
        "delete the guest's snapshots and checkpoints: 'virsh snapshot-list' "
        "names them, --metadata deletes only what libvirt knows of them",
    ),
    Hint(
        r"block ?job|backup",
        "wait for the block job or backup of the guest's disk, or end it: "
        "'virsh blockjob', 'virsh domjobinfo'",
    ),
    Hint(
        r"node '|qcow format|vmdk|\bvdi\b|\bvpc\b|vvfat|bitmap",
        "this format of the guest's disk cannot be migrated: convert it to "
        "raw or qcow2",
    ),
    Hint(
        r"shared storage|unsafe|cache|corruption|\bdisk|nvme|reservations",
        "the guest's disks must be on storage that both hosts share, with "
        "cache none or directsync; --unsafe migrates it all the same",
    ),
    Hint(
        r"state change lock|another (migration )?job|job .*(active|progress)|"
        r"dump in",
        "something else is being done with the guest: wait for it, 'virsh "
        "domjobinfo' on the source shows it",
    ),
    Hint(
        r"shmem",
        "detach the guest's shared memory device (<shmem>)",
    ),
    Hint(
        r"\btpm|swtpm",
        "the guest's TPM cannot be migrated: swtpm must be new enough on both "
        "hosts",
    ),
    Hint(
        r"\bsev\b|\btdx\b|\bsnp\b|protected|confidential|launch ?security",
        "a guest whose memory is encrypted cannot be migrated",
    ),
    Hint(
        r"vhost|vdpa|slirp|dbus-vmstate|passt",
        "one of the guest's network or vhost devices cannot be migrated: "
        "detach it, or give it another backend",
    ),
    Hint(
        r"host devices?|hostdev|usb-host|passthrough|assigned",
        "detach the guest's other host devices: only devices whose drivers "
        "support it are migrated",
    ),
    Hint(
        r"auto ?destroy",
        "the guest ends with the connection that started it: it cannot leave",
    ),
    Hint(
        r"non-migratable device|not yet migratable|not migratable",
        "detach the device that is named from the guest",
    ),
)

_NO_NAME = (
    r"name or service not known|name resolution|resolution failed|unable to "
    r"resolve|could not resolve|cannot resolve|no address associated|unknown "
    r"host|nodename nor servname|getaddrinfo"
)
_CERTIFICATE = r"certificate|\bca\b|\bx509|gnutls|tls handshake|\btls session"
_NO_ANSWER = (
    r"connection refused|no route to host|network is unreachable|timed out|"
    r"failed to connect|unable to connect|cannot connect|connection reset"
)

#: Why a connection of this program's to a host is not opened.
CONNECTIONS: Sequence[Hint] = (
    Hint(
        _NO_NAME,
        "this machine cannot resolve the host's name: write it as 'getent "
        "hosts NAME' finds it, or use its address in the URI",
    ),
    Hint(
        _CERTIFICATE,
        "the URI must name the host as its certificate does, and both sides "
        "need certificates of one authority: see libvirt's 'TLS setup'; "
        "'virt-pki-query-dn' and 'virt-pki-validate' look at them",
    ),
    Hint(
        r"host key verification|permission denied \(|too many authentication",
        "ssh lets this user not in: 'ssh' to the host of the URI must work "
        "for him without a question",
    ),
)

#: Why the source could not send a guest.
JOURNEYS: Sequence[Hint] = (
    Hint(
        r"resolved to localhost|fqdn|invalid hostname",
        "the destination gives the source a name of itself that leads nowhere "
        "from there: give an address that the source reaches, with "
        "--migrate-uri, or mend the destination's /etc/hosts",
    ),
    Hint(
        _NO_NAME,
        "the source cannot resolve a name of the destination: give an address "
        "that it reaches, with --peer-uri for libvirt and --migrate-uri for "
        "the guest's memory",
    ),
    Hint(
        _CERTIFICATE,
        "the source must call the destination what its certificate does: "
        "compare that name with --peer-uri, and for memory with --migrate-uri",
    ),
    Hint(
        _NO_ANSWER,
        "the source does not reach the destination: where it reaches it by "
        "another URI than --to, name that with --peer-uri; the guest's memory "
        "goes to --migrate-uri, by default a port from 49152 on",
    ),
)


#: How libvirt, a child of it or a shell says that mdevctl cannot be run.
_NO_MDEVCTL = re.compile(
    r"(cannot|could not|unable to|failed to) (find|execute|run)\b[^:]*mdevctl"
    r"|mdevctl\W?( in path)?: [^:]*(not found|no such file)"
    r"|mdevctl[^:]* not (found|installed)",
    re.IGNORECASE,
)


def tells_of_no_mdevctl(reason: str) -> bool:
    """Tell whether mdevctl could not be run: no mdev can be created then.

    >>> tells_of_no_mdevctl("Cannot find 'mdevctl' in path: No such file")
    True
    """
    return _NO_MDEVCTL.search(reason) is not None


def find(known: Sequence[Hint], reason: str) -> str | None:
    """Return what to do about a reason, None if it is not known.

    >>> find(BLOCKERS, "cannot migrate domain with 3 snapshots")[:29]
    "delete the guest's snapshots "
    """
    text = reason.lower()
    for hint in known:
        if re.search(hint.words, text):
            return hint.text
    return None


def find_all(known: Sequence[Hint], reasons: str) -> str | None:
    """Return what to do about several reasons, joined by semicolons."""
    found = (find(known, reason) for reason in reasons.split("; "))
    return "; ".join(dict.fromkeys(filter(None, found))) or None
