# SPDX-License-Identifier: Apache-2.0
"""What can be done about what libvirt and QEMU say.

They have no codes for these reasons, only sentences, so words are looked for.
A reason that is not known here keeps the general hint of its error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
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
        r"viommu|virtio[-_]iommu|amd[-_ ]iommu|intel[-_ ]iommu",
        "remove the <iommu> device from the guest, or run it on a newer QEMU",
    ),
    Hint(
        r"smmu",
        "start the guest without the SMMU that its <iommu> has accelerated by "
        "the host's",
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
        r"post-?copy",
        "VFIO devices are not migrated by post-copy: leave that out",
    ),
    Hint(
        r"\brdma\b",
        "let the memory be sent by TCP: give --migrate-uri none of rdma://",
    ),
    Hint(
        r"iommufd",
        "take iommufd out of the <driver> of the guest's <hostdev>, or use a "
        "newer kernel and QEMU on both hosts: both must track its writes",
    ),
    Hint(
        r"shmem",
        "detach the guest's shared memory device (<shmem>)",
    ),
    Hint(
        r"virtiofs|virtio-fs|user-fs|virtfs|\b9p|filesystem|mount_tag",
        "unmount the shared folder in the guest, and detach its <filesystem>",
    ),
    Hint(
        r"orchestrator|vhost-scsi",
        "detach the guest's vhost-scsi controller: its state is not sent",
    ),
    Hint(
        r"vfio|dirty tracking|type=['\"]mdev",
        "the vendor driver must support VFIO migration, on both hosts",
    ),
    Hint(
        r"i/o error",
        "the guest stands still for an error of its disk: 'virsh domblkerror' "
        "names it; mend that, and let it go on",
    ),
    Hint(
        r"\bsev\b|\bsev-|\btdx\b|\bsnp\b|\brme\b|\bpef\b|\brealm\b|"
        r"protected (vm|guest|virt)|confidential|launch ?security|"
        r"encrypted (guest|vm|mem)|memory encryption|secure execution|"
        r"\bs390x? pv\b",
        "a guest whose memory is encrypted cannot be migrated",
    ),
    Hint(
        r"\bxen\b",
        "the guest uses QEMU's Xen emulation: take <xen> out of its "
        "<features>, and start it anew",
    ),
    Hint(
        r"whpx|nvmm|\bhvf\b|mshv|\btcg\b|record/replay|icount",
        "the guest must be run by KVM: other accelerators do not migrate it",
    ),
    Hint(
        r"vgic|\bvits\b|\bgic",
        "the source's kernel cannot save the guest's interrupt controller: "
        "use a newer kernel",
    ),
    Hint(
        r"\bdimm\b|\bnvdimm|virtio-mem|virtio-pmem",
        "give the guest's <memory> device its slot and base by <address>, or "
        "detach it",
    ),
    Hint(
        r"invtsc|\btsc\b|cpu|nested|\bhv-|hyper-?v|\bpmu\b|\bvmx\b|\bsgx\b",
        "a processor feature of the guest cannot be migrated: take it out of "
        "<cpu> or <features>, and start the guest anew",
    ),
    Hint(
        r"virgl|venus|rutabaga|\bblob\b|opengl|\bgl\b|\b3d\b|qxl|udmabuf|"
        r"apple-gfx",
        "turn 3D acceleration of the guest's <video> or <graphics> off, and "
        "start it anew",
    ),
    Hint(
        r"bitmap",
        "delete the dirty bitmap of the guest's disk, or the checkpoint that "
        "it belongs to: 'virsh checkpoint-list' names those",
    ),
    Hint(
        r"snapshot",
        "delete the guest's snapshots: 'virsh snapshot-list' names them, "
        "--metadata deletes only what libvirt knows of them. That is written "
        "with the mdevs of the source: taken along ('virsh snapshot-create "
        "--redefine') it must name those of the destination",
    ),
    Hint(
        r"checkpoint",
        "delete the guest's checkpoints: 'virsh checkpoint-list' names them, "
        "--metadata deletes only what libvirt knows of them",
    ),
    Hint(
        r"block ?job|backup",
        "wait for the block job or backup of the guest's disk, or end it: "
        "'virsh blockjob', 'virsh domjobinfo'",
    ),
    Hint(
        r"transient disk",
        "what is written to a disk that is <transient> is not sent: take that "
        "out, and start the guest anew",
    ),
    Hint(
        r"node '|qcow format|vmdk|\bvdi\b|\bvpc\b|vvfat",
        "this format of the guest's disk cannot be migrated: convert it to "
        "raw or qcow2",
    ),
    Hint(
        r"\bv?tpm|swtpm",
        "the guest's TPM cannot be migrated: swtpm must be new enough on both "
        "hosts, and both must share its directory, /var/lib/libvirt/swtpm, or "
        "neither; a host's own TPM is never migrated",
    ),
    Hint(
        r"shared storage(?! over)|unsafe|cache|corruption|\bdisk|"
        r"reservations",
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
        r"vhost|vdpa|vduse|slirp|dbus-vmstate|passt|shared memory",
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
        r"non-?migratable|not (yet )?migratable|blocked by device",
        "detach the device that is named from the guest",
    ),
)

_NO_NAME = (
    r"name or service not known|name resolution|resolution failed|unable to "
    r"resolve|could not resolve|cannot resolve|no address associated|unknown "
    r"host|nodename nor servname|getaddrinfo|address family for hostname"
)
_CERTIFICATE = (
    r"certificate|\bx509|gnutls|\btls (handshake|session|peer|connection)"
)
_NO_LOGIN = (
    r"host key verification|permission denied(,| \()|too many authentication"
)
_NO_CARRIER = r"\b(nc|netcat|virt-ssh-helper)\b.*not found"
_NO_CREDENTIALS = (
    r"authentication (failed|unavailable|cancelled)|\bsasl\b|polkit|kerberos|"
    r"gssapi"
)
_LETS_IN = (
    "has a credential that libvirt's daemon there takes: a Kerberos ticket, a "
    "password in auth.conf, or a rule of polkit's"
)
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
        r"failed to connect socket",
        "libvirt's daemon does not listen there: look for it on that host, "
        "with 'systemctl status virtqemud.socket libvirtd.socket'",
    ),
    Hint(
        _NO_CARRIER,
        "ssh needs 'virt-ssh-helper', of libvirt's client, or netcat on the "
        "host of the URI",
    ),
    Hint(
        _NO_LOGIN,
        "ssh lets this user not in: 'ssh' to the host of the URI must work "
        "for him without a question",
    ),
    Hint(_NO_CREDENTIALS, f"see that this user {_LETS_IN}"),
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
        "both hosts' certificates must be valid, and the source must call the "
        "destination what its certificate does: compare that name with "
        "--peer-uri, and for memory with --migrate-uri",
    ),
    Hint(
        _NO_CARRIER,
        "ssh needs 'virt-ssh-helper', of libvirt's client, or netcat on the "
        "destination",
    ),
    Hint(
        _NO_LOGIN,
        "ssh lets the source not in: 'ssh' from there to the host of "
        "--peer-uri must work for root, who runs libvirt's daemon, without a "
        "question",
    ),
    Hint(
        _NO_CREDENTIALS,
        f"see that root of the source, who runs libvirt's daemon, {_LETS_IN}",
    ),
    Hint(
        r"domain is (not|no longer) running|guest unexpectedly quit|"
        r"unexpectedly closed the monitor",
        "what ended is its copy on the destination: its log there, in "
        "/var/log/libvirt/qemu, says why",
    ),
    Hint(
        _NO_ANSWER,
        "the source does not reach the destination: where it reaches it by "
        "another URI than --to, name that with --peer-uri; the guest's memory "
        "goes to --migrate-uri, by default a port from 49152 on",
    ),
)


#: Why a guest does not run, in the words of :class:`model.Guest`.
STANDSTILLS: Sequence[Hint] = (
    Hint(
        r"was migrated away",
        "do not start it here: it may run on the host that it was migrated "
        "to, and started twice it ruins its disks. Look for it there, and "
        "migrate it from there",
    ),
    Hint(
        r"migration by post-copy failed",
        "go on with that migration ('virsh migrate --postcopy-resume'), with "
        "the options that it had: neither host has all of the guest",
    ),
    Hint(
        r"pmsuspended",
        "wake it up with 'virsh dompmwakeup', and migrate it then",
    ),
    Hint(
        r"kept as it was then",
        "look at it, or save it for that with 'virsh dump'; then end it with "
        "'virsh destroy', and start it or move its definition offline",
    ),
    Hint(r"is being|is on its way", "wait for the end of that"),
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


#: What names something, which says nothing of the reason: a path, a URI, a
#: host with a port, and what is quoted, unless it is a device or a feature.
#: No quote begins or ends within a word, as apostrophes do, and none begins
#: where an attribute has its value.
_NAMES = re.compile(
    r"(?<![\w./:])/[^\s'\"<>]+|\b[\w+]+://\S+"
    r"|(?<![\w:./-])[a-z][\w.-]*:\d{2,5}\b(?![:.])"
    r"|(?<![\w=])(?<!device )(?P<quote>['\"])"
    r"(?:(?!(?P=quote)).|\b(?P=quote)\b)*"
    r"(?P=quote)(?!\w)(?! (cpu|feature|flag|property))"
    r"|\b(guest|domain|instance|host|hostname)( name)? (?!is |has |with )"
    r"(?!'|on )[\w.-]+(?=:| is | has |$)"
)


def _without_names(reason: str, names: Iterable[str]) -> str:
    """Return a reason without what guests, hosts and files are called."""
    text = reason.lower()
    for name in names:
        host = name.lower().partition("://")[2].partition("/")[0]
        for word in (name.lower(), host.rpartition("@")[2]):
            # A word without more may be what the reason is about.
            if re.search("[^a-z]", word):
                whole = rf"(?<![\w.-]){re.escape(word)}(?![\w-])"
                text = re.sub(whole, "", text)
    return _NAMES.sub("''", text)


def find(known: Sequence[Hint], reason: str, *names: str) -> str | None:
    """Return what to do about a reason, None if it is not known.

    :param names: of guests and hosts, which may contain any words.

    >>> find(BLOCKERS, "cannot migrate domain with 3 snapshots")[:29]
    "delete the guest's snapshots "
    """
    text = _without_names(reason, names)
    for hint in known:
        if re.search(hint.words, text):
            return hint.text
    return None


def of_failure(reason: str, *names: str) -> str | None:
    """Return what to do about a migration that libvirt has not made.

    Mostly a host is not reached. What blocks a migration is told as that,
    also if it has come up since it was asked for, or nobody could ask.
    """
    found = find(JOURNEYS, reason, *names)
    if found is None and _BLOCKED.search(reason):
        found = find_all(BLOCKERS, reason, *names)
    return found


_BLOCKED = re.compile(
    "cannot migrate (a |this )?domain|domain has |migration (of|with) ",
    re.IGNORECASE,
)


def find_all(known: Sequence[Hint], reasons: str, *names: str) -> str | None:
    """Return what to do about several reasons, joined as in a list."""
    found = (find(known, each, *names) for each in _JOINTS.split(reasons))
    return "; ".join(dict.fromkeys(filter(None, found))) or None


#: Between reasons: also between words of a list that ends them.
_JOINTS = re.compile(r"; |(?:, and |, | and )(?=[\w-]+(?:$|[,;]| and ))")
