# SPDX-License-Identifier: Apache-2.0
"""What a host must be able to do for the workflow."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mdev_migrate import model
from mdev_migrate.core import cards, claim_xml, transport


@dataclass(frozen=True, slots=True)
class Journey:
    """How a guest goes from its source to its destination.

    :ivar peer_uri: URI under which the source's libvirt daemon reaches the
        destination's.
    :ivar destination_xml: live definition with the target mdevs.
    :ivar persistent_xml: inactive definition with the target mdevs; None
        for a transient guest.
    :ivar migrate_uri: where the guest's memory is sent; None lets libvirt
        choose.
    :ivar bandwidth: MiB/s; None for no limit.
    :ivar flags: virDomainMigrateFlags, see :mod:`core.transport`.
    :ivar parameters: more of virDomainMigrateToURI3, by name.
    """

    peer_uri: str
    destination_xml: str
    persistent_xml: str | None
    migrate_uri: str | None
    bandwidth: int | None
    flags: int
    parameters: Mapping[str, transport.Value] = field(default_factory=dict)


class Claims(Protocol):
    """What can be done with the claims on a host's mdevs.

    Errors of the host as for :class:`MdevHost`.
    """

    def read(self) -> model.Claims:
        """Return all claims, and what only looks like one."""
        ...

    def define(self, claim: model.Claim, form: claim_xml.Form) -> None:
        """Claim all target mdevs of a claim, or none.

        Those of a claim that grows may be defined one after the other: with
        one token they are one claim.

        :raises ClaimTaken: if somebody else has claimed one of them.
        :raises ClaimsDenied: if this connection may not define domains.
        """
        ...

    def write(self, claim: model.Claim) -> None:
        """Write what a claim says now: its step and its beat.

        :raises ClaimLost: if it is not there any more.
        """
        ...

    def close(self, claim: model.Claim) -> None:
        """Say that nobody works on a claim any more: it is over, for good.

        :raises ClaimLost: if it is not there any more.
        """
        ...

    def confirm(self, claim: model.Claim) -> None:
        """See that nobody has said so, nor ended it.

        Whoever ends a claim that is not his says so before he reads its step
        once more; its owner writes a step before he sees to it that nobody
        did. So one of the two always learns of the other.

        :raises ClaimLost: if somebody has.
        """
        ...

    def undefine(self, claim: model.Claim) -> None:
        """Release a claim; no error if it is not there (any more)."""
        ...


class MdevHost(Protocol):
    """A host whose claims and mdevs can be undone.

    Every method raises :class:`~mdev_migrate.exception.HostUnreachable` if
    the connection is gone, and
    :class:`~mdev_migrate.exception.LibvirtFailed` for what libvirt refuses,
    :class:`~mdev_migrate.exception.AccessDenied` if its access control does.
    """

    @property
    def claims(self) -> Claims:
        """The claims on this host's mdevs."""
        ...

    def inventory(self) -> model.Inventory:
        """Return its parents, mdevs and guests."""
        ...

    def inventory_of(self, mdev_uuids: Collection[str]) -> model.Inventory:
        """Return some mdevs, as far as there are any, and their parents.

        A host whose parents are not its own to know leaves those out.
        """
        ...

    def remove_mdev(self, mdev: model.Mdev) -> bool:
        """Destroy an mdev, and undefine it too if it is persistent.

        :returns: False if it was gone already.
        :raises MdevBusy: if something uses it: it is never forced.
        """
        ...

    def recycle_mdev(self, mdev: model.Mdev) -> None:
        """Destroy an mdev and create it again as it was.

        A host whose mdevs are created when they are needed need not.

        :raises MdevBusy: if something uses it: it is never forced.
        :raises MdevCreationFailed: if it could not be created again.
        :raises TargetMdevGone: if it was, and is not listed (yet).
        """
        ...

    def reconnect(self) -> None:
        """Open the connection anew."""
        ...


class Host(MdevHost, Protocol):
    """A host as the stand-alone workflow sees it."""

    def create_mdev(self, mdev: model.Mdev) -> None:
        """Create an mdev, and define it too if it is to be persistent.

        :raises MdevCreationFailed: with nothing of it left behind.
        :raises TargetMdevGone: if it was made, and is not listed (yet).
        """
        ...

    @property
    def uri(self) -> str:
        """Where this host is reached."""
        ...

    def facts(self) -> model.HostFacts:
        """Return who the host is and what runs on it."""
        ...

    def inventory(
        self,
        *kinds: model.Kind,
        warm: bool = False,
        since: model.Inventory | None = None,
    ) -> model.Inventory:
        """Return what there is of some kinds: of all if none is named.

        The claims are found with the guests.

        :param warm: as of the last event will do, and all kinds, if the
            host is watched: for plans, which a claim makes sure of.
        :param since: an inventory of all kinds. Only what has come, gone or
            changed its state since then is read anew.
        """
        ...

    def free_memory_kib(self) -> int | None:
        """Return how much memory could be given to guests, in KiB.

        :returns: None if the host does not tell.
        """
        ...

    def cards(self) -> tuple[cards.Card, ...]:
        """Return the cards that mdevs may come from, be they parents or not.

        What is gone or cannot be read is left out.
        """
        ...

    def define_mdev(self, mdev_uuid: str, *, autostart: bool) -> None:
        """Let an mdev that is active survive a reboot, if it does not yet.

        :param autostart: started when the host boots, too.
        :raises TargetMdevGone: if there is none.
        """
        ...

    def find_guest(self, name: str) -> model.Guest:
        """Return a guest by UUID, by name, or by its number.

        An active guest has a number, which 'virsh list' shows. One that is
        named so comes first.

        :raises GuestNotFound: if there is none.
        """
        ...

    def live_xml(self, instance_uuid: str, *, secure: bool = False) -> str:
        """Return a guest's live definition.

        :param secure: in the form to migrate with, with passwords; such a
            text must not be shown.
        """
        ...

    def inactive_xml(self, instance_uuid: str, *, secure: bool = False) -> str:
        """Return the definition that a persistent guest starts with next."""
        ...

    def starts_with_host(self, instance_uuid: str) -> bool:
        """Tell whether a guest is started when its host boots."""
        ...

    def start_with_host(self, instance_uuid: str) -> None:
        """Let a guest be started when its host boots."""
        ...

    def ask_blockers(
        self, instance_uuid: str, flags: int, peer_uri: str | None = None
    ) -> str | None:
        """Return why libvirt would refuse to migrate a guest, else None.

        Changes nothing.

        :param flags: as for the migration itself.
        :param peer_uri: a host that this one is asked to reach, too.
        :raises PeerUnreachable: if nothing blocks the guest, and it does not.
        """
        ...

    def max_downtime(self, instance_uuid: str) -> int | None:
        """Return a guest's downtime limit, in milliseconds.

        :returns: None if the host is too old to tell.
        """
        ...

    def set_max_downtime(self, instance_uuid: str, downtime_ms: int) -> None:
        """Limit how long a guest may stand still while it switches over."""
        ...

    def max_bandwidth(self, instance_uuid: str) -> int:
        """Return the bandwidth limit of a guest's migrations, in MiB/s.

        A number that no link reaches stands for none.
        """
        ...

    def set_max_bandwidth(
        self, instance_uuid: str, bandwidth: int | None
    ) -> None:
        """Limit the bandwidth of a guest's migrations, under way or to come.

        :param bandwidth: in MiB/s; None for no limit.
        """
        ...

    def migrate(self, instance_uuid: str, journey: Journey) -> None:
        """Migrate a guest away from here; return when it is there."""
        ...

    def progress(self, instance_uuid: str) -> model.JobProgress | None:
        """Return how far a guest's job is, None if it has no job now."""
        ...

    def completed(self, instance_uuid: str) -> model.JobProgress | None:
        """Return the statistics of a guest's last job, None if unknown."""
        ...

    def abort(self, instance_uuid: str) -> None:
        """Abort a guest's job; no error if there is none."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...
