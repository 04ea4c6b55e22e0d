# SPDX-License-Identifier: Apache-2.0
"""Every error of this package.

::

    MdevMigrateError
    |-- PreCheckError            refused; nothing was changed on any host
    |   |-- VersionTooOld
    |   |   |-- LibvirtTooOld, QemuTooOld, KernelTooOld
    |   |-- GuestNotFound, GuestNotRunning, GuestBusy, SameHost
    |   |-- GuestMdevNotListed, GuestMdevUnreadable
    |   |-- GuestMdevTwice, GuestMdevByOptions, MdevUnderTwoParents
    |   |-- GuestHasViommu, MigrationBlocked, PeerUnreachable
    |   |-- DestinationLacks
    |   |   |-- MdevTypeMissing, MdevTypeDiffers, DeviceApiMissing
    |   |   |-- TooFewMdevs, TargetUnusable
    |   |-- MdevTypeNotEnabled, TargetMdevMissing, TargetMdevsRaced
    |   |-- GuestMdevsChanged
    |   |-- GuestOnDestination, GuestStarted, ClaimHeld, ClaimsDenied
    |   |-- PeerTooOld, MigrateDataInvalid
    |   |-- XmlMalformed, OptionInvalid, DowntimeTooLong
    |   |-- TunnelUnsupported
    |   |-- PeerUnsupporting, MdevsNotOurs, AllocationsUnknown
    |   |-- ComputeRpcPinned
    |   |-- ProviderUnknown, ProviderTypesDiffer, GuestShortOfMdevs
    |-- NotKnown                 a check that could not be made
    |   |-- ClaimUnsettled, DowntimeUnknown
    |   |-- KernelUnknown, VendorKernelUnknown
    |   |-- BlockersUnknown, HostUuidUnknown, PartlyUnreadable
    |-- MigrationError           failed midway; rolled back
    |   |-- MdevCreationFailed
    |   |   |-- MdevctlMissing
    |   |-- TargetMdevGone
    |   |-- MigrationFailed
    |   |   |-- MigrationDenied, TargetMdevTaken, DefinitionNotMoved
    |   |   |-- GuestRestarted
    |   |-- MigrationAborted, GuestNotOnTargets, GuestLost, GuestStopped
    |   |-- GuestStartedMeanwhile, DefinitionChanged
    |   |-- OutcomeUnknown       not rolled back, on purpose
    |   |   |-- DefinitionUnknown
    |-- HostError
    |   |-- HostUnreachable, SourceNotNamed
    |   |-- MdevBusy, DocumentUnreadable
    |   |-- LibvirtFailed
    |   |   |-- AccessDenied
    |-- ClaimError               about claims on mdevs
    |   |-- ClaimTaken, ClaimLost, ClaimMoveIllegal

An error's arguments are the facts, its text is made from them, ``code`` is
stable for scripts and ``hint`` says what to do about it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import ClassVar

from mdev_migrate import hints, model


def _join(words: Iterable[str]) -> str:
    return ", ".join(sorted(words)) or "none"


def _there_may_be_more(not_read: Iterable[str]) -> str:
    """Return how a text goes on that tells what a host has not."""
    words = "; ".join(not_read)
    return f"; there may be more: {words}" if words else ""


class MdevMigrateError(Exception):
    """The base of every error that this package raises.

    :cvar code: stable word for scripts.
    :ivar hint: what an operator can do about it: the class's, or one for
        the reason, where libvirt's or QEMU's own words tell more.
    """

    code: ClassVar[str] = "error"
    hint: str = ""

    def __post_init__(self) -> None:
        """Give ``Exception`` the facts, so that errors pickle and copy."""
        self.args = tuple(
            getattr(self, fact.name)
            for fact in fields(self)  # type: ignore[arg-type]
        )


class PreCheckError(MdevMigrateError):
    """A refusal: the migration must not be tried; nothing was changed."""


class NotKnown(MdevMigrateError):
    """A check could not be made, which is neither a pass nor a refusal."""


class MigrationError(MdevMigrateError):
    """The migration failed midway."""


class HostError(MdevMigrateError):
    """A host could not be asked, or refused what it was asked to do."""


class ClaimError(MdevMigrateError):
    """Something is wrong with a claim on mdevs."""


@dataclass(eq=False)
class ClaimTaken(ClaimError):
    """Somebody else has claimed an mdev first: choose another."""

    code = "claim-taken"
    hint = "'mdev-migrate claims' shows who has claimed it"

    host: str
    mdev_uuid: str

    def __str__(self) -> str:
        return (
            f"mdev {self.mdev_uuid}: somebody else claimed it on {self.host}"
        )


@dataclass(eq=False)
class ClaimMoveIllegal(ClaimError):
    """A claim is told to do what its life has no place for."""

    code = "claim-move-illegal"
    hint = "this is a bug: report it with what 'mdev-migrate claims' shows"

    state: str
    move: str

    def __str__(self) -> str:
        return f"a claim at {self.state} cannot {self.move}"


@dataclass(eq=False)
class ClaimLost(ClaimError):
    """A claim vanished while its migration was under way."""

    code = "claim-lost"
    hint = (
        "its migration was given up meanwhile, or somebody removed its domain "
        "on the destination, or thought its owner gone, whose connection may "
        "have been cut; try again"
    )

    instance_uuid: str
    host: str

    def __str__(self) -> str:
        return (
            f"instance {self.instance_uuid}: its claim on mdevs of "
            f"{self.host} is gone"
        )


@dataclass(eq=False)
class VersionTooOld(PreCheckError):
    """A host runs something older than mdev live migration needs."""

    component: ClassVar[str] = "software"

    side: str
    host: str
    found: model.Version | str
    needed: model.Version

    def __str__(self) -> str:
        return (
            f"{self.side} host {self.host}: {self.component} {self.found} "
            f"found, {self.needed} or later needed"
        )


class LibvirtTooOld(VersionTooOld):
    """The host's libvirt cannot migrate a guest with a VFIO device."""

    code = "libvirt-too-old"
    component = "libvirt"
    hint = "upgrade libvirt on that host and restart its daemons"


class QemuTooOld(VersionTooOld):
    """The host's QEMU cannot migrate a VFIO device."""

    code = "qemu-too-old"
    component = "QEMU"
    hint = "upgrade QEMU on that host; a running guest keeps the old one"


class KernelTooOld(VersionTooOld):
    """The host's kernel lacks the VFIO migration protocol."""

    code = "kernel-too-old"
    component = "Linux"
    hint = "boot that host with a newer kernel"


@dataclass(eq=False)
class KernelUnknown(NotKnown):
    """The kernel of a host that is not this machine is not reported."""

    code = "kernel-unknown"
    hint = "run 'uname -r' on each host of which it is not known"

    side: str
    host: str
    needed: model.Version

    def __str__(self) -> str:
        return (
            f"{self.side} host {self.host}: libvirt does not tell a remote "
            f"host's kernel; Linux {self.needed} or later needed"
        )


@dataclass(eq=False)
class VendorKernelUnknown(NotKnown):
    """The number of an enterprise kernel does not tell what is in it."""

    code = "vendor-kernel-unknown"
    hint = (
        "ask its vendor whether VFIO migration was brought into it; if not, "
        "QEMU says so when the guest is to leave"
    )

    side: str
    host: str
    release: str
    needed: model.Version

    def __str__(self) -> str:
        return (
            f"{self.side} host {self.host}: Linux {self.release} is a "
            f"vendor's, and whether it has what {self.needed} brought is not "
            "known"
        )


@dataclass(eq=False)
class BlockersUnknown(NotKnown):
    """The source could not be asked for the guest's migration blockers."""

    code = "blockers-unknown"
    hint = "libvirt asks QEMU again when the migration begins"

    host: str
    reason: str

    def __str__(self) -> str:
        return (
            f"source host {self.host}: whether something blocks the "
            f"migration could not be asked: {self.reason}"
        )


@dataclass(eq=False)
class DowntimeUnknown(NotKnown):
    """How long a guest may stand still cannot be told beforehand."""

    code = "downtime-unknown"
    hint = (
        "name the bandwidth with --bandwidth; what the devices have is in "
        "their vendor's documents"
    )

    guest: str
    reason: str

    def __str__(self) -> str:
        return f"guest {self.guest}: {self.reason}"


@dataclass(eq=False)
class ClaimUnsettled(NotKnown):
    """An older claim of the guest may have an owner that lives, or not."""

    code = "claim-unsettled"
    hint = (
        "the migration watches for its owner first, and settles the claim if "
        "there is none; so does 'mdev-migrate recover'"
    )

    instance_uuid: str
    owner: str

    def __str__(self) -> str:
        return (
            f"instance {self.instance_uuid}: {self.owner} has claimed target "
            "mdevs for it"
        )


@dataclass(eq=False)
class HostUuidUnknown(NotKnown):
    """Whether two connections lead to one host cannot be told."""

    code = "host-uuid-unknown"
    hint = "compare the two URIs, and 'virsh capabilities' of both hosts"

    source: str
    destination: str

    def __str__(self) -> str:
        return (
            f"source {self.source} and destination {self.destination}: "
            "libvirt does not tell a host UUID of both"
        )


@dataclass(eq=False)
class PartlyUnreadable(NotKnown):
    """The destination lists something that cannot be read.

    Nothing is created on such a parent. While it is not known which mdevs a
    guest holds, none that exists is reused.
    """

    code = "partly-unreadable"
    hint = (
        "look at it with 'virsh nodedev-dumpxml' or 'virsh dumpxml' on that "
        "host; restart the node device daemon if it shows the same"
    )

    host: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"destination host {self.host}: done without some of what it "
            f"lists: {'; '.join(self.reasons)}"
        )


@dataclass(eq=False)
class GuestNotFound(PreCheckError):
    """The host has no such guest."""

    code = "guest-not-found"
    hint = (
        "give its name or UUID, or its number while it is active: 'virsh list "
        "--all' on that host shows them"
    )

    guest: str
    host: str

    def __str__(self) -> str:
        return f"host {self.host}: no guest {self.guest!r:.80}"


@dataclass(eq=False)
class GuestNotRunning(PreCheckError):
    """The guest is not running, so there is nothing to live-migrate."""

    code = "guest-not-running"
    hint = (
        "start the guest if it runs on no other host, or move its definition "
        "offline; if it is on its way already, wait for that"
    )

    guest: str
    host: str
    why: str = ""

    def __post_init__(self) -> None:
        """Let nobody start a guest here that may run elsewhere."""
        super().__post_init__()
        self.hint = hints.find(hints.STANDSTILLS, self.why) or self.hint

    def __str__(self) -> str:
        how = f": it {self.why}" if self.why else ""
        return (
            f"guest {self.guest} on {self.host} is not running{how}; a live "
            "migration needs a guest that runs, or is paused"
        )


@dataclass(eq=False)
class GuestStarted(PreCheckError):
    """The guest's definition was to be moved, and the guest is active."""

    code = "guest-started"
    hint = "try again: a guest that runs is live-migrated"

    guest: str
    host: str

    def __str__(self) -> str:
        return f"guest {self.guest} was started on source host {self.host}"


@dataclass(eq=False)
class GuestBusy(PreCheckError):
    """A job of libvirt's, such as a migration, has the guest already."""

    code = "guest-busy"
    hint = (
        "wait until it has ended; a migration whose command was killed is "
        "ended by 'mdev-migrate recover --abort'"
    )

    guest: str
    host: str
    operation: str

    def __str__(self) -> str:
        return (
            f"guest {self.guest}: a job is under way on source host "
            f"{self.host}: {self.operation}"
        )


@dataclass(eq=False)
class GuestOnDestination(PreCheckError):
    """The destination already knows a guest of that name or UUID."""

    code = "guest-on-destination"
    hint = "undefine or rename the guest on the destination first"

    guest: str
    host: str

    def __str__(self) -> str:
        return (
            f"destination host {self.host}: already has a guest with the "
            f"name or UUID of {self.guest}"
        )


@dataclass(eq=False)
class SameHost(PreCheckError):
    """Source and destination are one host."""

    code = "same-host"
    hint = (
        "check both URIs; cloned hosts need a host_uuid of their own in "
        "libvirtd.conf"
    )

    source: str
    destination: str
    host_uuid: str

    def __str__(self) -> str:
        return (
            f"source {self.source} and destination {self.destination} are "
            f"the same host: both have host UUID {self.host_uuid}"
        )


@dataclass(eq=False)
class GuestMdevNotListed(PreCheckError):
    """The guest's XML names mdevs that its host does not list."""

    code = "guest-mdev-not-listed"
    hint = (
        "compare 'mdev-migrate list' with the guest's XML; restart the "
        "node device daemon if the mdev does exist"
    )

    guest: str
    host: str
    uuids: frozenset[str]

    def __str__(self) -> str:
        return (
            f"guest {self.guest}: its XML names mdevs that host {self.host} "
            f"does not list as active: {_join(self.uuids)}"
        )


@dataclass(eq=False)
class GuestMdevUnreadable(PreCheckError):
    """The document of an mdev of the guest cannot be read."""

    code = "guest-mdev-unreadable"
    hint = (
        "look at it with 'virsh nodedev-dumpxml' on that host; restart the "
        "node device daemon if it shows the same"
    )

    guest: str
    host: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"guest {self.guest} on {self.host}: the type of its mdevs "
            f"cannot be read: {'; '.join(self.reasons)}"
        )


@dataclass(eq=False)
class GuestMdevTwice(PreCheckError):
    """A guest's XML names the same mdev twice."""

    code = "guest-mdev-twice"
    hint = "remove one of the two hostdevs from the guest"

    uuid: str

    def __str__(self) -> str:
        return f"the guest's XML names mdev {self.uuid} more than once"


@dataclass(eq=False)
class GuestMdevByOptions(PreCheckError):
    """A guest has mdevs that libvirt does not know of.

    Options for QEMU name them. libvirt does not compare these, nor keep
    others off such an mdev, and nobody can tell what else they depend on.
    """

    code = "guest-mdev-by-options"
    hint = (
        "shut the guest off, give it the mdev as <hostdev type='mdev'> in "
        "place of the option, and start it again"
    )

    guest: str
    uuids: frozenset[str]

    def __str__(self) -> str:
        return (
            f"guest {self.guest}: has mdevs by options for QEMU "
            "(<qemu:commandline> or <qemu:override>) and not as hostdevs, "
            f"where they can be replaced: {_join(self.uuids)}"
        )


@dataclass(eq=False)
class MdevUnderTwoParents(PreCheckError):
    """A host lists one mdev UUID under several parents."""

    code = "mdev-under-two-parents"
    hint = "undefine the one that is not meant, with 'mdevctl undefine'"

    host: str
    uuid: str
    parents: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"host {self.host}: mdev {self.uuid} is listed under more than "
            f"one parent: {_join(self.parents)}"
        )


@dataclass(eq=False)
class GuestHasViommu(PreCheckError):
    """A guest's virtual IOMMU keeps its VFIO device from being migrated."""

    code = "guest-has-viommu"
    hint = (
        "remove the <iommu> device from the guest, or run it on a newer QEMU: "
        "which guests with one it migrates depends on its version"
    )

    guest: str
    viommu: str

    def __str__(self) -> str:
        return (
            f"guest {self.guest}: has a virtual IOMMU ({self.viommu}), and "
            "QEMU blocks the migration for it, or could not be asked"
        )


@dataclass(eq=False)
class PeerUnreachable(PreCheckError):
    """The source's libvirt does not reach the destination's."""

    code = "peer-unreachable"
    hint = (
        "the source's libvirt daemon opens the destination's, with its own "
        "keys and certificates: where it reaches it by another URI than "
        "--to, name that with --peer-uri"
    )

    host: str
    peer_uri: str
    reason: str

    def __post_init__(self) -> None:
        """Hint at what to do about the reason, if it is known."""
        super().__post_init__()
        self.hint = (
            hints.find(hints.JOURNEYS, self.reason, self.host, self.peer_uri)
            or self.hint
        )

    def __str__(self) -> str:
        return (
            f"source host {self.host} does not reach {self.peer_uri}: "
            f"{self.reason}"
        )


@dataclass(eq=False)
class MigrationBlocked(PreCheckError):
    """QEMU or libvirt on the source says that this guest cannot migrate."""

    code = "migration-blocked"
    hint = (
        "the reason is libvirt's or QEMU's; see 'Requirements and limits' in "
        "the documentation for known ones"
    )

    guest: str
    host: str
    reason: str

    def __post_init__(self) -> None:
        """Hint at what to do about the reason, if it is known."""
        super().__post_init__()
        self.hint = (
            hints.find_all(hints.BLOCKERS, self.reason, self.guest, self.host)
            or self.hint
        )

    def __str__(self) -> str:
        return (
            f"guest {self.guest} on {self.host} cannot be migrated: "
            f"{self.reason}"
        )


class DestinationLacks(PreCheckError):
    """The destination has not what the guest needs, as far as it can be read.

    :ivar not_read: in words, what else is there and could not be read: it
        may be what the guest needs.
    """

    not_read: tuple[str, ...]

    def __post_init__(self) -> None:
        """Hint first at what may be hidden."""
        super().__post_init__()
        if self.not_read:
            self.hint = (
                "what cannot be read is not used, and while a guest cannot "
                "be, no mdev that exists is: look at it with 'virsh "
                "nodedev-dumpxml' or 'virsh dumpxml' on that host, and "
                "restart the daemon if it shows the same. Otherwise "
                f"{self.hint}"
            )


@dataclass(eq=False)
class MdevTypeMissing(DestinationLacks):
    """No parent of the destination offers an mdev type of the guest."""

    code = "mdev-type-missing"
    hint = "choose a destination with that type; see 'mdev-migrate types'"

    host: str
    mdev_type: str
    offered: frozenset[str]
    not_read: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"destination host {self.host}: mdev type {self.mdev_type} "
            f"needed, its parents offer: {_join(self.offered)}"
            + _there_may_be_more(self.not_read)
        )


@dataclass(eq=False)
class MdevTypeNotEnabled(PreCheckError):
    """The destination's nova-compute does not use an mdev type."""

    code = "mdev-type-not-enabled"
    hint = (
        "add the type to [devices]enabled_mdev_types in nova.conf there, or "
        "keep such guests off that host by a trait or a resource class"
    )

    host: str
    mdev_type: str
    enabled: frozenset[str]

    def __str__(self) -> str:
        return (
            f"destination host {self.host}: mdev type {self.mdev_type} "
            f"needed, enabled in its nova.conf: {_join(self.enabled)}"
        )


@dataclass(eq=False)
class MdevTypeDiffers(DestinationLacks):
    """A type's id means another profile on the destination.

    Types are numbered by their driver: another version of it, or another
    card, may give a number to something else.
    """

    code = "mdev-type-differs"
    hint = (
        "compare 'mdev-migrate types' of both hosts; if you know that it is "
        "the same profile, name the target with --target"
    )

    host: str
    mdev_type: str
    found: frozenset[str]
    needed: str
    not_read: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"destination host {self.host}: mdev type {self.mdev_type} is "
            f"{_join(self.found)} there, {self.needed} needed"
            + _there_may_be_more(self.not_read)
        )


@dataclass(eq=False)
class DeviceApiMissing(DestinationLacks):
    """The destination offers the type, but with another device API."""

    code = "device-api-missing"
    hint = "choose a destination whose driver offers the type as needed"

    host: str
    mdev_type: str
    found: frozenset[str]
    needed: str
    not_read: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"destination host {self.host}: mdev type {self.mdev_type} has "
            f"device API {_join(self.found)}, {self.needed} needed"
            + _there_may_be_more(self.not_read)
        )


@dataclass(eq=False)
class TooFewMdevs(DestinationLacks):
    """The destination cannot provide all target mdevs at once."""

    code = "too-few-mdevs"
    hint = (
        "free or remove mdevs on the destination, or choose another one; "
        "'mdev-migrate list' shows who holds what"
    )

    host: str
    needed: tuple[str, ...]
    found: str
    not_read: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Hint at what takes room for nobody."""
        if self.idle:
            self.hint = (
                "'virsh nodedev-destroy' on that host, or 'mdevctl stop "
                "--uuid', removes an mdev that nobody has, if you do not need "
                f"it; or {self.hint}"
            )
        super().__post_init__()

    def __str__(self) -> str:
        idle = "; nobody has, and they take room: " + ", ".join(self.idle)
        return (
            f"destination host {self.host}: no room for "
            f"{len(self.needed)} mdevs ({', '.join(self.needed)}) besides "
            f"what guests and claims hold; found: {self.found}"
            + idle * bool(self.idle)
            + _there_may_be_more(self.not_read)
        )


@dataclass(eq=False)
class TargetUnusable(DestinationLacks):
    """A target that was chosen by name cannot be had."""

    code = "target-unusable"
    hint = (
        "'types' and 'list' show the destination's parents and mdevs; one "
        "must have the type and be available"
    )

    host: str
    source_uuid: str
    mdev_type: str
    target: str
    not_read: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"source mdev {self.source_uuid}: on {self.host}, {self.target} "
            f"is neither an available mdev of type {self.mdev_type} nor a "
            "parent with room for one" + _there_may_be_more(self.not_read)
        )


@dataclass(eq=False)
class TargetMdevMissing(PreCheckError):
    """The destination has no mdev left for one of the source mdevs."""

    code = "target-mdev-missing"
    hint = "free or create an mdev of that type on the destination"

    source_uuid: str
    mdev_type: str

    def __str__(self) -> str:
        return (
            f"source mdev {self.source_uuid}: the destination has no "
            f"unused target mdev of type {self.mdev_type}"
        )


@dataclass(eq=False)
class TargetMdevsRaced(PreCheckError):
    """Somebody else kept taking the mdevs that were chosen."""

    code = "target-mdevs-raced"
    hint = "try again when fewer guests are started on the destination"

    host: str
    tries: int

    def __str__(self) -> str:
        return (
            f"destination host {self.host}: the mdevs chosen were taken by "
            f"others {self.tries} times in a row"
        )


@dataclass(eq=False)
class GuestMdevsChanged(PreCheckError):
    """A guest's XML has not exactly the mdevs that were planned for."""

    code = "guest-mdevs-changed"
    hint = (
        "the guest's live and inactive XML must name the same mdevs, and "
        "none may be attached or detached during the migration"
    )

    unpaired: frozenset[str]
    gone: frozenset[str]

    def __str__(self) -> str:
        return (
            "the guest's XML has not the mdevs that were planned for: "
            f"without a target {_join(self.unpaired)}, no longer there "
            f"{_join(self.gone)}"
        )


@dataclass(eq=False)
class ClaimHeld(PreCheckError):
    """Another live migration of the same guest holds a claim."""

    code = "claim-held"
    hint = (
        "wait for that migration; what is left of one by the command is "
        "undone by 'mdev-migrate recover', and nova-compute undoes what is "
        "left of one by itself, once nothing has the mdevs open: 'fuser "
        "/dev/vfio/*'"
    )

    instance_uuid: str
    owner: str

    def __str__(self) -> str:
        return (
            f"instance {self.instance_uuid}: its target mdevs are claimed "
            f"by {self.owner}"
        )


@dataclass(eq=False)
class ClaimsDenied(PreCheckError):
    """The connection may not define the domains that claims are."""

    code = "claims-denied"
    hint = (
        "connect as somebody who may define, change and undefine domains on "
        "that host: a read-only connection cannot, nor one that libvirt's "
        "access control denies it"
    )

    host: str
    reason: str

    def __str__(self) -> str:
        return f"{self.host} lets nobody claim mdevs here: {self.reason}"


@dataclass(eq=False)
class PeerTooOld(PreCheckError):
    """The other host's service does not know mdev live migration.

    :ivar peer: the host with its role, or the role alone if the host is not
        known.
    """

    code = "peer-too-old"
    hint = "upgrade the service on that host"

    peer: str
    found: str
    needed: str

    def __str__(self) -> str:
        return (
            f"{self.peer}: its migrate data is {self.found}, "
            f"{self.needed} needed for a guest with mdevs"
        )


@dataclass(eq=False)
class PeerUnsupporting(PreCheckError):
    """The destination does not say that it takes guests with mdevs."""

    code = "peer-unsupporting"
    hint = "upgrade libvirt and QEMU on the destination"

    libvirt: str
    qemu: str

    def __str__(self) -> str:
        return (
            "the destination did not say that it takes guests with mdevs; "
            f"libvirt {self.libvirt} and QEMU {self.qemu} or later needed"
        )


@dataclass(eq=False)
class MdevsNotOurs(PreCheckError):
    """Another service owns the instance's devices."""

    code = "mdevs-not-ours"
    hint = "migrate the instance cold, or detach its accelerators"

    instance_uuid: str
    owner: str

    def __str__(self) -> str:
        return (
            f"instance {self.instance_uuid}: its mdevs belong to "
            f"{self.owner}, which cannot live-migrate them"
        )


@dataclass(eq=False)
class AllocationsUnknown(PreCheckError):
    """Placement did not say what the instance was allocated here."""

    code = "allocations-unknown"
    hint = "is Placement reachable from this host?"

    instance_uuid: str

    def __str__(self) -> str:
        return (
            f"instance {self.instance_uuid}: its allocations on this host "
            "are not known, one for every mdev needed"
        )


@dataclass(eq=False)
class ComputeRpcPinned(PreCheckError):
    """No migration was named, so a claim could not be tied to one."""

    code = "compute-rpc-pinned"
    hint = (
        "[upgrade_levels]compute is below 5.3: when all computes are "
        "upgraded set it to auto, and restart nova-conductor"
    )

    instance_uuid: str

    def __str__(self) -> str:
        return (
            f"instance {self.instance_uuid}: the call names no migration, "
            "as the compute RPC is pinned, one needed to claim mdevs for"
        )


@dataclass(eq=False)
class ProviderUnknown(PreCheckError):
    """No parent or no mdev type belongs to an allocated provider."""

    code = "provider-unknown"
    hint = "compare the host's resource providers with its [devices] options"

    host: str
    provider: str

    def __str__(self) -> str:
        return (
            f"destination host {self.host}: resource provider "
            f"{self.provider} has no parent with an enabled mdev type"
        )


@dataclass(eq=False)
class ProviderTypesDiffer(PreCheckError):
    """What Placement allocated is not set up for the guest's mdev types."""

    code = "provider-types-differ"
    hint = "keep the types apart by traits or custom resource classes"

    host: str
    needed: tuple[str, ...]
    found: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"destination host {self.host}: mdevs of types "
            f"{', '.join(self.needed)} needed; the allocated providers are "
            f"set up for {', '.join(self.found) or 'none'}"
        )


@dataclass(eq=False)
class GuestShortOfMdevs(PreCheckError):
    """A guest has fewer mdevs than its flavor was allocated.

    Nova up to 32 boots a guest with the mdevs of one provider only.
    """

    code = "guest-short-of-mdevs"
    hint = (
        "hard reboot or rebuild the instance, so that it gets all of them, "
        "and migrate it then"
    )

    instance_uuid: str
    found: tuple[str, ...]
    needed: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"instance {self.instance_uuid}: its guest has {len(self.found)} "
            f"mdevs ({', '.join(self.found)}), and its flavor was allocated "
            f"{len(self.needed)} ({', '.join(self.needed)})"
        )


@dataclass(eq=False)
class MigrateDataInvalid(PreCheckError):
    """What the other host sent cannot be used."""

    code = "migrate-data-invalid"
    hint = "check that both hosts run a released version of the service"

    field: str
    reason: str

    def __str__(self) -> str:
        return f"migrate data, {self.field}: {self.reason}"


@dataclass(eq=False)
class DowntimeTooLong(PreCheckError):
    """A guest may stand still longer than is allowed, for its devices."""

    code = "downtime-too-long"

    hint = (
        "raise --max-downtime, or give the migration more bandwidth; what "
        "of the devices' memory is not in use may take no time"
    )

    guest: str
    needed_ms: int
    max_downtime_ms: int

    def __str__(self) -> str:
        return (
            f"guest {self.guest}: the state of its devices may take "
            f"{self.needed_ms} ms, the maximal downtime is "
            f"{self.max_downtime_ms} ms"
        )


@dataclass(eq=False)
class XmlMalformed(PreCheckError):
    """A document cannot be read."""

    code = "xml-malformed"
    hint = "look at the document with 'virsh dumpxml' or 'nodedev-dumpxml'"

    document: str
    reason: str

    def __str__(self) -> str:
        return f"{self.document}: {self.reason}"


@dataclass(eq=False)
class OptionInvalid(PreCheckError):
    """An option of the migration is out of its bounds."""

    code = "option-invalid"
    hint = "choose a value within the bounds"

    option: str
    found: str
    needed: str

    def __str__(self) -> str:
        return f"{self.option}: {self.found} found, {self.needed} needed"


@dataclass(eq=False)
class TunnelUnsupported(PreCheckError):
    """A tunnel was asked for, which a guest with mdevs cannot go through."""

    code = "tunnel-unsupported"
    hint = (
        "let QEMU encrypt by itself: TLS, for Nova "
        "[libvirt]live_migration_with_native_tls in place of "
        "live_migration_tunnelled"
    )

    host: str

    def __str__(self) -> str:
        return (
            f"source host {self.host}: migrations are tunnelled, which one "
            "with mdevs cannot be; without the tunnel and without TLS its "
            "memory would be sent in clear"
        )


@dataclass(eq=False)
class MdevCreationFailed(MigrationError):
    """The destination could not create a target mdev."""

    code = "mdev-creation-failed"
    hint = (
        "look for the reason in that host's kernel log: a card may serve "
        "fewer mdevs, or fewer kinds of them, than its functions offer"
    )

    host: str
    uuid: str
    mdev_type: str
    parent: str
    reason: str

    def __str__(self) -> str:
        return (
            f"destination host {self.host}: mdev {self.uuid} of type "
            f"{self.mdev_type} could not be created on {self.parent}: "
            f"{self.reason}"
        )


class MdevctlMissing(MdevCreationFailed):
    """libvirt on the destination could not run mdevctl: no parent will do."""

    code = "mdevctl-missing"
    hint = (
        "install mdevctl on that host, where its libvirt daemon finds it and "
        "may run it: libvirt creates mdevs with it"
    )


def creation_failed(
    host: str, uuid: str, mdev_type: str, parent: str, reason: str
) -> MdevCreationFailed:
    """Return the error for an mdev that could not be created."""
    kind = MdevCreationFailed
    if hints.tells_of_no_mdevctl(reason):
        kind = MdevctlMissing
    return kind(host, uuid, mdev_type, parent, reason)


@dataclass(eq=False)
class TargetMdevGone(MigrationError):
    """A target mdev is not there (any more)."""

    code = "target-mdev-gone"
    hint = (
        "find out who removes mdevs on the destination, or why libvirt does "
        "not list them; then try again"
    )

    host: str
    uuids: frozenset[str]

    def __str__(self) -> str:
        return (
            f"destination host {self.host}: target mdevs are not active: "
            f"{_join(self.uuids)}"
        )


@dataclass(eq=False)
class MigrationFailed(MigrationError):
    """Libvirt ended the migration with an error; the guest stayed.

    :cvar stays: how the guest is; a hint at the reason begins with it.
    """

    code = "migration-failed"
    stays: ClassVar[str] = "the guest still runs on the source"
    hint = (
        "the guest still runs on the source; the reason is libvirt's, see "
        "also the QEMU logs of both hosts"
    )

    guest: str
    source: str
    destination: str
    reason: str

    def __post_init__(self) -> None:
        """Hint at what to do about the reason, if it is known."""
        super().__post_init__()
        found = hints.of_failure(
            self.reason, self.guest, self.source, self.destination
        )
        if found is not None:
            self.hint = f"{self.stays}; {found}"

    def __str__(self) -> str:
        return (
            f"guest {self.guest}: migration from {self.source} to "
            f"{self.destination} failed: {self.reason}"
        )


@dataclass(eq=False)
class TargetMdevTaken(MigrationFailed):
    """Somebody has a target mdev open, or removed it; nothing was sent."""

    code = "target-mdev-taken"
    hint = (
        "there was no other to choose: find who has it with 'mdev-migrate "
        "list' and 'fuser /dev/vfio/*' on the destination"
    )

    uuids: frozenset[str]

    def __str__(self) -> str:
        return f"{super().__str__()} (target mdevs: {_join(self.uuids)})"


class DefinitionNotMoved(MigrationFailed):
    """The definition of a guest that is off could not be moved."""

    code = "definition-not-moved"
    stays = "the guest is off, and its definition is on the source as before"
    hint = (
        f"{stays}; the reason is libvirt's, see also the daemons' logs on "
        "both hosts"
    )


class MigrationDenied(MigrationFailed):
    """Access control stopped the migration; the guest stayed.

    The source let it begin, so it is most likely the destination that does
    not let the source's libvirt daemon do its part.
    """

    code = "migration-denied"
    hint = (
        "the guest still runs on the source; let the source's libvirt daemon "
        "do its part on the destination, see 'Least privilege' in the "
        "documentation"
    )


@dataclass(eq=False)
class MigrationAborted(MigrationError):
    """The migration was stopped on request or by its time limit."""

    code = "migration-aborted"
    hint = (
        "the guest still runs on the source; a longer --timeout, a higher "
        "--max-downtime or more --bandwidth lets it end"
    )

    guest: str
    reason: str

    def __post_init__(self) -> None:
        """Give no advice to who wanted it so."""
        super().__post_init__()
        if self.reason == "on request":
            self.hint = "the guest still runs on the source; try again"

    def __str__(self) -> str:
        return f"guest {self.guest}: migration aborted: {self.reason}"


#: What to do about a guest that has left the source, by what became of it.
_ARRIVED = {
    "changed": (
        "leave it running on the destination, and do not start it on the "
        "source. Somebody changed its devices there meanwhile: compare 'virsh "
        "dumpxml' with what it should have. What it has there is left as it is"
    ),
    "off": (
        "start it on the destination when it is wanted, never on the source: "
        "it had left that, and wrote to its disks on the destination last. "
        "Its log there, in /var/log/libvirt/qemu, says how it ended; its "
        "mdevs are kept for it"
    ),
    "forgotten": (
        "whoever started it can start it anew, on one host only. It ended on "
        "the destination: its log there, in /var/log/libvirt/qemu, says how. "
        "What was made for it is removed"
    ),
    "gone": (
        "look for it on your other hosts before you start it anywhere: "
        "started twice it ruins its disks. Somebody moved it on, or stopped "
        "and undefined it; its log on the destination, in "
        "/var/log/libvirt/qemu, says how it ended there"
    ),
}


@dataclass(eq=False)
class GuestNotOnTargets(MigrationError):
    """After the migration the guest does not have its target mdevs.

    :ivar fate: what became of it there: "changed", "off", "forgotten" as
        libvirt forgets one without a definition, or "gone"; empty if that is
        not known.
    """

    code = "guest-not-on-targets"
    hint = (
        "do not start it on the source: it has left that, and wrote to its "
        "disks on the destination last. Look at it there, with 'virsh "
        "domstate --reason', 'virsh dumpxml' and in its log in "
        "/var/log/libvirt/qemu; what it has there is left as it is"
    )

    guest: str
    host: str
    reason: str
    fate: str = ""

    def __post_init__(self) -> None:
        """Say what is to be done about what became of it."""
        super().__post_init__()
        self.hint = _ARRIVED.get(self.fate, self.hint)

    def __str__(self) -> str:
        return (
            f"guest {self.guest} has arrived on {self.host}, but {self.reason}"
        )


@dataclass(eq=False)
class GuestStartedMeanwhile(MigrationError):
    """Somebody started a guest while its definition was moved."""

    code = "guest-started-meanwhile"
    hint = (
        "let it run where it is, and do not start it on the destination "
        "meanwhile: started twice it ruins its disks. 'mdev-migrate migrate' "
        "brings it there running, or shut it off: it is defined there alone"
    )

    guest: str
    source: str
    destination: str

    def __str__(self) -> str:
        return (
            f"guest {self.guest}: somebody started it on {self.source} while "
            f"its definition was moved to {self.destination}; it runs on "
            f"{self.source}, and is defined and off on {self.destination}"
        )


@dataclass(eq=False)
class DefinitionChanged(MigrationError):
    """A definition that was moved names other mdevs than it was given."""

    code = "definition-changed"
    hint = (
        "before the guest is started there, see with 'virsh dumpxml' whether "
        "the mdevs that it names are meant. It is off, and defined on the "
        "destination alone: nothing of it is lost"
    )

    guest: str
    host: str
    found: frozenset[str]
    needed: frozenset[str]

    def __str__(self) -> str:
        return (
            f"guest {self.guest}: its definition has arrived on {self.host}, "
            f"where somebody changed its mdevs: {_join(self.found)} found, "
            f"{_join(self.needed)} needed"
        )


@dataclass(eq=False)
class GuestLost(MigrationError):
    """The guest is active on neither host, and why is not known.

    :ivar moved: the source says that it was migrated away.
    """

    code = "guest-lost"
    hint = (
        "look for it with 'virsh list --all' on your other hosts before you "
        "start it anywhere: somebody may have moved it, and started twice it "
        "ruins its disks. If it runs nowhere, its logs on both hosts, in "
        "/var/log/libvirt/qemu, say how it ended; then start it where it is "
        "defined. What was prepared for it is undone"
    )

    guest: str
    reason: str
    moved: bool = False

    def __post_init__(self) -> None:
        """Send nobody to a definition that a guest has left behind."""
        super().__post_init__()
        if self.moved:
            self.hint = (
                "do not start it on either host: somebody else migrated it "
                "to a third host, and there it runs, unless it has ended "
                "since. 'virsh list --all' on your other hosts tells where. "
                "What was prepared for it is undone"
            )

    def __str__(self) -> str:
        return f"guest {self.guest} runs on neither host: {self.reason}"


@dataclass(eq=False)
class GuestStopped(MigrationError):
    """The guest was shut off on the source while it was being migrated.

    :ivar how: in words, as "was shut down".
    :ivar defined: the source still has its definition.
    """

    code = "guest-stopped"
    hint = (
        "its definition and its disks are where they were, and what was "
        "prepared for it is undone: start it on the source when it is wanted"
    )

    guest: str
    host: str
    how: str
    defined: bool = True

    def __post_init__(self) -> None:
        """Send nobody to a definition that is not there."""
        super().__post_init__()
        if not self.defined:
            self.hint = (
                "its disks are where they were, and what was prepared for it "
                "is undone: whoever started it can do so again"
            )

    def __str__(self) -> str:
        left = "is shut off there"
        if not self.defined:
            left = "is not defined there, so libvirt does not know it any more"
        return (
            f"guest {self.guest}: {self.how} on {self.host} while it was "
            f"being migrated, and {left}"
        )


@dataclass(eq=False)
class GuestRestarted(MigrationFailed):
    """The guest ended during its migration, and was started anew."""

    code = "guest-restarted"
    stays = "the guest runs on the source"
    hint = (
        "it runs on the source, and what was prepared for it is undone: "
        "migrate it again, at a time when nobody restarts it"
    )

    def __post_init__(self) -> None:
        """Hint at no other reason: this one is known."""
        super(MigrationFailed, self).__post_init__()

    def __str__(self) -> str:
        return (
            f"guest {self.guest}: was stopped and started anew on "
            f"{self.source} while it was being migrated to "
            f"{self.destination}; it stays on {self.source}: {self.reason}"
        )


@dataclass(eq=False)
class OutcomeUnknown(MigrationError):
    """It is not known where the guest runs, so nothing was undone."""

    code = "outcome-unknown"
    hint = (
        "start, resume or destroy it nowhere until you know where it runs: "
        "run twice it ruins its disks. Nothing was undone: if it runs it goes "
        "on, and its target mdevs are kept for it. Ask the host that answers: "
        "'virsh -c HOST domstate --reason GUEST'; 'running': it is there; "
        "'paused (migrating)': it may run on the other. When both answer, "
        "'mdev-migrate -c DESTINATION recover --source SOURCE' finds it and "
        "clears up. Of a host that stays away, be sure that it is off before "
        "you start the guest on the other; '--source-gone' then clears up"
    )

    guest: str
    reason: str
    source: str
    destination: str

    def __post_init__(self) -> None:
        """Name in the hint what is to be asked."""
        super().__post_init__()
        names = {
            "GUEST": self.guest,
            "SOURCE": self.source,
            "DESTINATION": self.destination,
        }
        self.hint = re.sub(
            "|".join(names), lambda it: shlex.quote(names[it[0]]), self.hint
        )

    def __str__(self) -> str:
        return (
            f"guest {self.guest} may run on {self.source} or on "
            f"{self.destination}, which is not known yet: {self.reason}"
        )


class DefinitionUnknown(OutcomeUnknown):
    """It is not known which host has the definition of a guest that is off."""

    code = "definition-unknown"
    hint = (
        "the guest was off; start it on no host until you know which has it. "
        "'virsh -c SOURCE list --all' and 'virsh -c DESTINATION list --all' "
        "tell; what its definition names there is kept for it. If both have "
        "it, undefine it on one"
    )

    def __str__(self) -> str:
        return (
            f"guest {self.guest}: it is not known yet which host has its "
            f"definition, {self.source} or {self.destination}: {self.reason}"
        )


@dataclass(eq=False)
class HostUnreachable(HostError):
    """A connection to a host cannot be opened, or broke."""

    code = "host-unreachable"
    hint = "check the URI with 'virsh -c URI version'"

    uri: str
    reason: str

    def __post_init__(self) -> None:
        """Hint at what to do about the reason, if it is known."""
        super().__post_init__()
        self.hint = (
            hints.find(hints.CONNECTIONS, self.reason, self.uri) or self.hint
        )

    def __str__(self) -> str:
        return f"cannot reach {self.uri}: {self.reason}"


@dataclass(eq=False)
class SourceNotNamed(HostError):
    """A claim's guest may be on a host that nobody named to us."""

    code = "source-not-named"
    hint = (
        "name the host that the guest left with --source; its URI is never "
        "taken from a claim. If it is off for good: --source-gone"
    )

    guest: str
    source: str

    def __str__(self) -> str:
        return (
            f"guest {self.guest} may still be on {self.source or 'its source'}"
            ", which was not named"
        )


@dataclass(eq=False)
class LibvirtFailed(HostError):
    """A libvirt call failed.

    :ivar operation: the libvirt function.
    :ivar number: libvirt's error code (``virErrorNumber``).
    """

    code = "libvirt-failed"
    hint = "the reason is libvirt's own; see the daemon's log on that host"

    host: str
    operation: str
    number: int
    reason: str

    def __str__(self) -> str:
        return f"host {self.host}: {self.operation} failed: {self.reason}"


class AccessDenied(LibvirtFailed):
    """Access control of a host does not allow the calling user a call."""

    code = "access-denied"
    hint = (
        "allow it to this user on that host, see 'Least privilege' in the "
        "documentation; libvirt's access control knows users of a UNIX "
        "socket or of qemu+ssh only"
    )


@dataclass(eq=False)
class MdevBusy(HostError):
    """An mdev cannot be removed, because something has it open."""

    code = "mdev-busy"
    hint = "find its user with 'mdev-migrate list' and 'fuser /dev/vfio/*'"

    host: str
    uuid: str
    reason: str

    def __str__(self) -> str:
        return f"host {self.host}: mdev {self.uuid} is busy: {self.reason}"


@dataclass(eq=False)
class DocumentUnreadable(HostError):
    """The document of an mdev that is to be removed cannot be read."""

    code = "document-unreadable"
    hint = (
        "look at it with 'virsh nodedev-dumpxml' on that host; restart the "
        "node device daemon if it shows the same"
    )

    host: str
    reason: str

    def __str__(self) -> str:
        return f"host {self.host}: {self.reason}"


#: What a host raises that cannot be asked where a guest is: it is out of
#: reach, or lets us not in. The other host's answer may be enough.
UNASKABLE = (HostUnreachable, AccessDenied)
