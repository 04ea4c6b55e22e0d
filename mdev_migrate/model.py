# SPDX-License-Identifier: Apache-2.0
"""The values that the rules work on: versions, mdevs, guests, claims."""

from __future__ import annotations

import enum
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

#: The only spelling of a UUID that passes a border of this package.
_UUID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
)

#: How the name of a domain begins that claims an mdev; its UUID follows.
CLAIM_PREFIX = "mdev-claim-"

#: Names and values of an mdev's attributes, in the order they are written.
Attributes = tuple[tuple[str, str], ...]


def normalise_uuid(text: str) -> str:
    """Return a UUID in the spelling used everywhere: lower case, hyphens.

    :raises ValueError: if the text is not a hyphenated UUID.

    >>> normalise_uuid("AAAAAAAA-0000-4000-8000-000000000002")
    'aaaaaaaa-0000-4000-8000-000000000002'
    """
    lowered = text.lower()
    if not _UUID.fullmatch(lowered):
        raise ValueError(f"not a UUID: {text!r:.80}")
    return lowered


def read_uuid(text: str) -> str:
    """Return the UUID that a person wrote, as :func:`normalise_uuid` does.

    Hyphens may stand anywhere or be missing, as for libvirt
    (``virUUIDParse``), and there may be braces around it.

    :raises ValueError: if the text is no UUID.

    >>> read_uuid("{AAAAAAAA000040008000-000000000002}")
    'aaaaaaaa-0000-4000-8000-000000000002'
    """
    word = text.strip()
    if word.startswith("{") and word.endswith("}"):
        word = word[1:-1]
    digits = word.replace("-", "")
    ends = (0, 8, 12, 16, 20, len(digits))
    parts = (digits[a:b] for a, b in itertools.pairwise(ends))
    return normalise_uuid("-".join(parts))


class Version(NamedTuple):
    """A libvirt, QEMU or kernel version, compared field by field."""

    major: int
    minor: int
    micro: int

    @classmethod
    def unpack(cls, number: int) -> Version:
        """Read the integer that libvirt reports for a version.

        :param number: ``major * 1_000_000 + minor * 1_000 + micro``, see
            ``virConnectGetLibVersion``.
        :raises ValueError: if ``number`` is negative.

        >>> Version.unpack(8_006_000)
        Version(major=8, minor=6, micro=0)
        """
        if number < 0:
            raise ValueError(f"not a libvirt version: {number}")
        thousands, micro = divmod(number, 1_000)
        return cls(*divmod(thousands, 1_000), micro)

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read the leading numbers of a version's text.

        :param text: as ``uname -r`` prints it; missing fields count as 0.
        :raises ValueError: if the text does not begin with a number.

        >>> str(Version.parse("5.18.0-rc3+"))
        '5.18.0'
        >>> str(Version.parse("6.12-amd64"))
        '6.12.0'
        """
        match = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", text)
        if match is None:
            raise ValueError(f"not a version: {text!r:.80}")
        major, minor, micro = (int(digits or 0) for digits in match.groups())
        return cls(major, minor, micro)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.micro}"


@dataclass(frozen=True, slots=True)
class MdevType:
    """An mdev type as one parent offers it.

    :ivar mdev_type: type id, as in ``nvidia-11``.
    :ivar device_api: as in ``vfio-pci``; a hostdev's ``model`` names it.
    :ivar available_instances: how many more the parent would create if it
        created only this type: the types of a parent share its room.
    :ivar name: what the vendor calls it; may be empty.
    """

    mdev_type: str
    device_api: str
    available_instances: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Parent:
    """A device that mdevs are cut from.

    :ivar name: libvirt's name of it, as in ``pci_0000_06_00_0``.
    :ivar card: what its functions have in common, as ``0000:06:00``; empty
        if it is alone.
    :ivar unreadable: types that it lists besides.
    """

    name: str
    types: tuple[MdevType, ...]
    card: str = ""
    unreadable: tuple[Unreadable, ...] = ()

    def offer(self, mdev_type: str) -> MdevType | None:
        """Return how this parent offers a type, or None if it does not."""
        for offered in self.types:
            if offered.mdev_type == mdev_type:
                return offered
        return None


@dataclass(frozen=True, slots=True)
class Mdev:
    """A mediated device that exists on a host, or is planned for it.

    :ivar uuid: lower-case hyphenated UUID.
    :ivar mdev_type: type id, as in ``nvidia-11``.
    :ivar parent: libvirt name of the parent, as in ``pci_0000_06_00_0``.
    :ivar attributes: mdevctl's attributes, written in this order.
    :ivar active: exists now; if false it is only defined.
    :ivar persistent: defined, so that it survives a reboot of the host.
    :ivar autostart: started when the host boots; needs ``persistent``.
    """

    uuid: str
    mdev_type: str
    parent: str
    attributes: Attributes = ()
    active: bool = True
    persistent: bool = False
    autostart: bool = False


@dataclass(frozen=True, slots=True)
class GuestMdev:
    """An mdev as a guest's XML names it.

    :ivar uuid: lower-case hyphenated UUID.
    :ivar device_api: the hostdev's ``model``, as in ``vfio-pci``.
    """

    uuid: str
    device_api: str


@dataclass(frozen=True, slots=True)
class WantedMdev:
    """What a source mdev asks of its target mdev.

    :ivar source_uuid: UUID of the source mdev.
    :ivar type_name: what the vendor calls the type on the source; empty if
        the source did not say.
    :ivar device_api: what the guest's XML asks for; None if the source did
        not say, as over Nova's RPC.
    :ivar attributes: what the target must be set up with; None if the
        source did not say.
    :ivar target: the UUID of the mdev that it must be, or the name of the
        parent that it must be on; None if that does not matter.
    :ivar live: the guest has it now.
    :ivar inactive: the guest has it when it starts next.
    """

    source_uuid: str
    mdev_type: str
    device_api: str | None = None
    attributes: Attributes | None = None
    persistent: bool = False
    autostart: bool = False
    target: str | None = None
    live: bool = True
    inactive: bool = True
    type_name: str = ""


#: How a guest came to be shut off that was migrated to another host.
MIGRATED_AWAY = "was migrated away"


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest that a host knows.

    :ivar name: the domain's name.
    :ivar instance_uuid: the domain's UUID.
    :ivar active: has a QEMU process, be it running or paused.
    :ivar running: active and neither paused nor waiting for an incoming
        migration to end.
    :ivar persistent: has a definition that survives its shutdown.
    :ivar suspended: paused by somebody, or for an error of its own: what a
        guest whose memory is still coming in cannot be.
    :ivar held_up: why an active one is neither running nor suspended, in
        words as "is being shut down"; empty if it is.
    :ivar stopped: how it came to be shut off, in words as "was shut down";
        empty if it is not, or nobody was asked.
    :ivar mdevs: UUIDs in its live and its inactive XML, in whatever way it
        names them.
    :ivar hides: where it may be given others, which nobody sees, in words as
        "in a file"; empty if it cannot.
    :ivar number: of an active one, as ``virsh list`` shows it: another after
        each start; None if nobody was asked.
    """

    name: str
    instance_uuid: str
    active: bool
    running: bool
    persistent: bool
    mdevs: frozenset[str]
    suspended: bool = False
    stopped: str = field(default="", compare=False)
    held_up: str = field(default="", compare=False)
    hides: str = ""
    number: int | None = field(default=None, compare=False)


#: What a host lists.
Kind = Literal["parent", "mdev type", "mdev", "guest"]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that a host lists, and whose document cannot be read.

    :ivar name: libvirt's name of it; of a type its parent's.
    :ivar reason: naming it too.
    """

    kind: Kind
    name: str
    reason: str

    def may_be(self, mdev_uuid: str) -> bool:
        """Tell whether this is the mdev of a UUID, by its name alone.

        libvirt names an mdev ``mdev_`` and its UUID, and since 7.7.0 its
        parent's address.
        """
        name = mdev_uuid.replace("-", "_")
        return self.kind == "mdev" and name in self.name


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Who a host is and what runs on it.

    :ivar name: its hostname, for texts.
    :ivar host_uuid: libvirt's UUID of the host; empty if it tells none.
    :ivar kernel: its release, as ``uname -r`` prints it; None if unknown:
        libvirt does not report the kernel of a remote host.
    """

    name: str
    host_uuid: str
    libvirt: Version
    qemu: Version
    kernel: str | None = None


class Step(enum.Enum):
    """A step of a migration, in order; its value is the word for it."""

    CONNECT = "connect"
    CHECK = "check"
    PLAN = "plan"
    CLAIM = "claim"
    CREATE = "create"
    PREPARE = "prepare"
    MIGRATE = "migrate"
    VERIFY = "verify"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Target:
    """One target mdev of a claim, and the domain on the destination for it.

    :ivar created: made for the guest; otherwise it was there before.
    :ivar domain_uuid: the domain's UUID, minted by the claimant.
    """

    mdev: Mdev
    created: bool
    domain_uuid: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The target mdevs promised to one instance, as a destination knows it.

    What is here was written by others: for people, and to be compared.

    :ivar token: UUID of the one attempt to migrate that it belongs to.
    :ivar owner: names who made it, for people.
    :ivar guest: the guest's name.
    :ivar source: name of the host that the guest leaves.
    :ivar source_uuid: libvirt's UUID of that host; may be empty.
    :ivar migration: UUID of the Nova migration that it belongs to; empty
        without Nova. Such a claim has no beat: it lives as that migration.
    :ivar step: how far its migration is known to have come.
    :ivar beat: when the owner last said that it lives, in seconds since the
        epoch by its own clock. That it changes is what tells.
    :ivar over: nobody works on it any more, and whoever comes may end it.
        Its owner says so who leaves it, and whoever ends it for an owner
        that is not heard: should that one live, it stops.
    """

    instance_uuid: str
    token: str
    targets: tuple[Target, ...]
    owner: str = ""
    guest: str = ""
    source: str = ""
    source_uuid: str = ""
    migration: str = ""
    step: Step = Step.CLAIM
    beat: float = 0.0
    over: bool = False

    @property
    def mdevs(self) -> tuple[Mdev, ...]:
        """Return its target mdevs."""
        return tuple(target.mdev for target in self.targets)

    @property
    def subject(self) -> str:
        """Return what to call its guest."""
        return self.guest or self.instance_uuid


@dataclass(frozen=True, slots=True)
class StrangeClaim:
    """A domain named like a claim that is none: reported, never trusted.

    :ivar mdevs: UUIDs that it keeps others from: the one of its name, and
        those of its hostdevs.
    :ivar domain_uuid: by which the owner of a claim knows his own that was
        damaged.
    """

    name: str
    reason: str
    mdevs: frozenset[str] = frozenset()
    domain_uuid: str = ""


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims found on a host.

    :ivar strange: what only looks like one.
    """

    all: tuple[Claim, ...] = ()
    strange: tuple[StrangeClaim, ...] = ()

    def names(self) -> frozenset[str]:
        """Return the names of the domains that are claims."""
        return frozenset(
            f"{CLAIM_PREFIX}{mdev.uuid}"
            for claim in self.all
            for mdev in claim.mdevs
        )

    def of(self, instance_uuid: str) -> tuple[Claim, ...]:
        """Return the claims of an instance."""
        return tuple(c for c in self.all if c.instance_uuid == instance_uuid)

    def held_for_good(self, besides_instance: str) -> tuple[Mdev, ...]:
        """Return every mdev that others have for sure.

        Not the claims of an instance, which its migration settles first, nor
        those that may still give way.
        """
        sure = tuple(
            claim
            for claim in self.all
            if claim.step is not Step.CLAIM
            and claim.instance_uuid != besides_instance
        )
        return Claims(sure, self.strange).held()

    def held(self, besides: Claim | None = None) -> tuple[Mdev, ...]:
        """Return every mdev that is claimed, or kept by what is strange.

        :param besides: a claim that does not count, be it damaged by now.
        """
        token = besides.token if besides else None
        own = {t.domain_uuid for t in besides.targets} if besides else ()
        claimed = (c.mdevs for c in self.all if c.token != token)
        kept = (s.mdevs for s in self.strange if s.domain_uuid not in own)
        return (
            *(mdev for mdevs in claimed for mdev in mdevs),
            *(Mdev(uuid, "", "") for uuids in kept for uuid in sorted(uuids)),
        )


@dataclass(frozen=True, slots=True)
class Inventory:
    """What one look at a host found.

    :ivar host: the host's name, for texts.
    :ivar parents: by name.
    :ivar mdevs: active and defined ones, by parent and UUID. A UUID may
        stand under two parents; see :func:`core.allocation.the_mdev`.
    :ivar guests: without the domains that are claims.
    :ivar unreadable: what is there besides, and could not be read; without
        what parents and guests themselves hide: see :meth:`left_out`.
    """

    host: str
    parents: tuple[Parent, ...]
    mdevs: tuple[Mdev, ...]
    guests: tuple[Guest, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    claims: Claims = Claims()

    def without_definition(self, *instance_uuids: str) -> Inventory:
        """Return the same without a guest's own definition, left shut off.

        By an earlier stay: what it holds, it holds for that guest. So does a
        domain of its claim that was damaged, and is taken for a guest's.
        """
        return replace(
            self,
            guests=tuple(
                guest
                for guest in self.guests
                if guest.active or guest.instance_uuid not in instance_uuids
            ),
        )

    def type_name(self, mdev: Mdev) -> str:
        """Return what the vendor calls an mdev's type; empty if unknown."""
        for parent in self.parents:
            offered = parent.offer(mdev.mdev_type)
            if parent.name == mdev.parent and offered is not None:
                return offered.name
        return ""

    def in_order(self) -> Inventory:
        """Return the same, in the order in which it is shown and used."""
        return replace(
            self,
            parents=tuple(sorted(self.parents, key=lambda p: p.name)),
            mdevs=tuple(sorted(self.mdevs, key=lambda m: (m.parent, m.uuid))),
            guests=tuple(sorted(self.guests, key=lambda g: g.name)),
        )

    def left_out(self) -> Iterator[Unreadable]:
        """Yield all that is there and could not be read."""
        yield from self.unreadable
        for guest in self.guests:
            if guest.hides:
                reason = f"{guest.name}: QEMU may be given mdevs {guest.hides}"
                yield Unreadable("guest", guest.name, reason)
        for parent in self.parents:
            yield from parent.unreadable

    def not_read(self, *kinds: Kind) -> list[str]:
        """Return in words what there is of some kinds and is not known.

        :param kinds: by default all.
        """
        return [
            f"{each.kind} not read: {each.reason}"
            for each in self.left_out()
            if not kinds or each.kind in kinds
        ]

    def assigned(self) -> Mapping[str, Guest]:
        """Return the guest that holds each mdev, by mdev UUID.

        A defined guest holds its mdevs even while it is shut off.
        """
        return {
            uuid: guest
            for guest in sorted(
                self.guests, key=lambda guest: (guest.active, guest.name)
            )
            for uuid in guest.mdevs
        }


#: The job of a guest that leaves its host.
MIGRATION_OUT = "outgoing migration"


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a migration job is, as far as libvirt knows.

    Bytes, milliseconds. None means that libvirt did not say: the device
    state in particular has no total.

    :ivar device_transferred: bytes of VFIO device state sent so far
        (``vfio_data_transferred``, libvirt 10.6.0).
    :ivar data_remaining: RAM and disk only; device state is not in it.
    :ivar downtime_ms: expected, or of a completed job measured, downtime.
    :ivar rate: bytes of memory and disks sent a second.
    :ivar dirty_rate: bytes of memory that the guest writes a second.
    :ivar iteration: which time memory is gone through, from 1.
    :ivar operation: what the job is, as in :data:`MIGRATION_OUT`; None if
        libvirt does not say.
    :ivar limit_ms: the downtime limit meanwhile; whoever watches the job
        knows it.
    """

    data_total: int | None = None
    data_processed: int | None = None
    data_remaining: int | None = None
    device_transferred: int | None = None
    downtime_ms: int | None = None
    elapsed_ms: int | None = None
    rate: int | None = None
    dirty_rate: int | None = None
    iteration: int | None = None
    operation: str | None = None
    limit_ms: int | None = None

    def bytes_moved(self) -> int | None:
        """Return all bytes sent, of RAM, disks and devices."""
        known = [
            number
            for number in (self.data_processed, self.device_transferred)
            if number is not None
        ]
        return sum(known) if known else None
