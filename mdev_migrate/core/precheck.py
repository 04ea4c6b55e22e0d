# SPDX-License-Identifier: Apache-2.0
"""May this source, this destination and this guest take part?

Every rule returns what it found, in words, or raises its own error:
:class:`~mdev_migrate.exception.PreCheckError` refuses, and
:class:`~mdev_migrate.exception.NotKnown` says that it could not be told.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from mdev_migrate import exception, model
from mdev_migrate.core import allocation, guest_xml, kernels

Side = Literal["source", "destination"]

#: libvirt 8.6.0 is the first to ask QEMU for migration blockers instead of
#: refusing every guest with an mdev (qemuMigrationSrcIsAllowed).
MIN_LIBVIRT = model.Version(8, 6, 0)
#: QEMU 8.1.0 is the first whose VFIO migration is not experimental.
MIN_QEMU = model.Version(8, 1, 0)


@dataclass(frozen=True, slots=True)
class Check:
    """One pre-check and how it ended.

    :ivar detail: what was found, for people.
    :ivar error: why it did not pass; None if it did.
    """

    name: str
    side: Side
    result: Literal["passed", "refused", "unknown"]
    detail: str
    error: exception.MdevMigrateError | None = None


def attempt(name: str, side: Side, rule: Callable[[], str]) -> Check:
    """Try a rule and return how it ended.

    :param rule: returns what it found, raises what is wrong.
    """
    try:
        return Check(name, side, "passed", rule())
    except exception.PreCheckError as error:
        return Check(name, side, "refused", str(error), error)
    except exception.NotKnown as error:
        return Check(name, side, "unknown", str(error), error)


def refuse(checks: Iterable[Check]) -> None:
    """Raise the first refusal among the checks, if there is one.

    :raises PreCheckError: that refusal.
    """
    for check in checks:
        if check.result == "refused" and check.error is not None:
            raise check.error


def check_libvirt(side: Side, host: model.HostFacts) -> str:
    """Need a libvirt that migrates VFIO devices.

    :raises LibvirtTooOld: if it does not.
    """
    if host.libvirt < MIN_LIBVIRT:
        raise exception.LibvirtTooOld(
            side, host.name, host.libvirt, MIN_LIBVIRT
        )
    return f"libvirt {host.libvirt} on {host.name}, {MIN_LIBVIRT} needed"


def check_qemu(side: Side, host: model.HostFacts) -> str:
    """Need a QEMU that migrates VFIO devices.

    :raises QemuTooOld: if it does not.
    """
    if host.qemu < MIN_QEMU:
        raise exception.QemuTooOld(side, host.name, host.qemu, MIN_QEMU)
    return f"QEMU {host.qemu} on {host.name}, {MIN_QEMU} needed"


def check_kernel(side: Side, host: model.HostFacts) -> str:
    """Need a kernel with the VFIO migration protocol.

    :raises KernelTooOld: if it has it not.
    :raises KernelUnknown: if the host is not this machine.
    :raises VendorKernelUnknown: if its number does not tell.
    """
    needed = kernels.MIN_MAINLINE
    if host.kernel is None:
        raise exception.KernelUnknown(side, host.name, needed)
    match kernels.judge(host.kernel):
        case "lacks":
            raise exception.KernelTooOld(side, host.name, host.kernel, needed)
        case "unknown":
            raise exception.VendorKernelUnknown(
                side, host.name, host.kernel, needed
            )
    return f"Linux {host.kernel} on {host.name}, {needed} needed"


def say_unknown(hosts: Iterable[str]) -> str:
    """Say of all hosts at once that their kernels are not known."""
    return (
        f"libvirt does not tell the kernel of {' and '.join(hosts)}, as of no "
        f"remote host: 'uname -r' there must say Linux {kernels.MIN_MAINLINE} "
        "or later, or a vendor's that is as new"
    )


def check_versions(side: Side, host: model.HostFacts) -> list[Check]:
    """Check all that a host must run before it takes part."""
    rules = {
        "libvirt-version": check_libvirt,
        "qemu-version": check_qemu,
        "kernel-version": check_kernel,
    }
    return [
        attempt(name, side, functools.partial(rule, side, host))
        for name, rule in rules.items()
    ]


def check_hosts_differ(
    source: model.HostFacts, destination: model.HostFacts
) -> str:
    """Need two hosts.

    :raises SameHost: if both have one host UUID; libvirt refuses that too.
    :raises HostUuidUnknown: if one of them has none.
    """
    if not source.host_uuid or not destination.host_uuid:
        raise exception.HostUuidUnknown(source.name, destination.name)
    if source.host_uuid == destination.host_uuid:
        raise exception.SameHost(
            source.name, destination.name, source.host_uuid
        )
    return f"{source.name} and {destination.name} are different hosts"


def check_running(guest: model.Guest, host: str) -> str:
    """Need a guest that runs, or that somebody has paused.

    :raises GuestNotRunning: if it is shut off, on its way, or held up.
    """
    if guest.running:
        return f"guest {guest.name} is running on {host}"
    if guest.suspended:
        return f"guest {guest.name} is paused on {host}, and stays so"
    raise exception.GuestNotRunning(
        guest.name, host, guest.stopped or guest.held_up
    )


def check_off(guest: model.Guest, host: str) -> str:
    """Need a guest that is off, and has a definition to be moved.

    :raises GuestStarted: if it is active.
    """
    if guest.active:
        raise exception.GuestStarted(guest.name, host)
    return f"guest {guest.name} is off on {host}"


def check_no_job(
    guest: model.Guest, host: str, job: model.JobProgress | None
) -> str:
    """Need a guest that no job of libvirt's has.

    :raises GuestBusy: if one has.
    """
    if job is not None:
        operation = job.operation or "of an unknown kind"
        raise exception.GuestBusy(guest.name, host, operation)
    return f"no job is under way for guest {guest.name}"


def check_base(
    guest: model.Guest, option: str, document: str, own: str | None
) -> str:
    """Need a document of this guest, with its mdevs, to be rewritten.

    :param option: which one the user gave.
    :param document: in place of the guest's own.
    :param own: the guest's own; None if it has none.
    :raises OptionInvalid: if it is another guest's, or the guest has none.
    :raises GuestMdevsChanged: if it has other mdevs.
    :raises XmlMalformed: if it cannot be read.
    """
    if own is None:
        raise exception.OptionInvalid(
            option, "a transient guest", "one with a definition"
        )
    found = guest_xml.read_identity(document)
    needed = (guest.name, guest.instance_uuid)
    if found != needed:
        raise exception.OptionInvalid(
            option, " ".join(found).strip() or "no guest", " ".join(needed)
        )
    named, has = (guest_xml.named_mdevs(text) for text in (document, own))
    if named != has:
        raise exception.GuestMdevsChanged(
            unpaired=has - named, gone=named - has
        )
    return f"the document of {option} is one of guest {guest.name}"


def check_unknown_there(
    guest: model.Guest, destination: model.Inventory
) -> str:
    """Need a destination that has no guest of that name or UUID yet.

    A guest of the same UUID *and* name that is shut off is the guest's own
    definition, left by an earlier migration: libvirt replaces it.

    :raises GuestOnDestination: if it has.
    """
    for other in destination.guests:
        same = (
            other.name == guest.name,
            other.instance_uuid == guest.instance_uuid,
        )
        if any(same) and (other.active or not all(same)):
            raise exception.GuestOnDestination(guest.name, destination.host)
    return f"guest {guest.name} can be defined on {destination.host}"


def hidden(guest: model.Guest) -> Iterator[str]:
    """Say what of a guest cannot be looked at, if there is something."""
    if guest.hides:
        yield (
            f"guest {guest.name}: QEMU may be given mdevs {guest.hides}: they "
            "are not seen, and not replaced"
        )


def check_replaceable(guest: str, by_options: Iterable[str]) -> None:
    """Need a guest whose mdevs are all hostdevs.

    :param guest: its name.
    :param by_options: UUIDs of the mdevs that options for QEMU name.
    :raises GuestMdevByOptions: if there are any.
    """
    uuids = frozenset(by_options)
    if uuids:
        raise exception.GuestMdevByOptions(guest, uuids)


def check_readable(destination: model.Inventory) -> str:
    """Say what of a destination had to be left out.

    :raises PartlyUnreadable: if there is something.
    """
    reasons = tuple(destination.not_read())
    if reasons:
        raise exception.PartlyUnreadable(destination.host, reasons)
    return f"all that {destination.host} lists can be read"


def left_behind(host: str, mdevs: Iterable[model.Mdev]) -> Iterator[str]:
    """Say what stays of a guest's own old definition, if something does."""
    names = [f"{m.uuid} ({m.mdev_type} on {m.parent})" for m in mdevs]
    if names:
        yield (
            f"of the guest's own old definition on {host}, which is replaced, "
            f"nobody has {', '.join(names)} any more: 'virsh nodedev-destroy' "
            "or 'mdevctl stop --uuid' removes what you do not need"
        )


def check_viommu(
    guest: model.Guest, viommu: str | None, blockers: str | None
) -> str:
    """Need a guest whose virtual IOMMU, if it has one, blocks nothing.

    Old QEMU blocks VFIO migration of every guest with one, 8.1 of a guest
    with a device behind it, and later ones less: who was asked is believed.

    :param viommu: its model, None if the guest has none.
    :param blockers: what QEMU says blocks the migration, empty if nothing
        does; None if nobody could ask it.
    :raises GuestHasViommu: if it blocks, or that is not known.
    """
    if viommu is None:
        return f"guest {guest.name} has no virtual IOMMU"
    if blockers is None or "viommu" in blockers.lower():
        raise exception.GuestHasViommu(guest.name, viommu)
    return (
        f"guest {guest.name} has a virtual IOMMU ({viommu}), and QEMU does "
        "not block the migration for it"
    )


def pending_change(
    live: Iterable[model.GuestMdev],
    inactive: Iterable[model.GuestMdev],
    kept: Iterable[str],
) -> str:
    """Say how the mdevs of a guest differ when it starts next.

    :param kept: UUIDs that the inactive document names and the host does not
        list.
    :returns: nothing if they do not.
    """
    now = frozenset(mdev.uuid for mdev in live)
    later = frozenset(mdev.uuid for mdev in inactive)
    said = [
        f"{verb} {', '.join(sorted(uuids))}"
        for verb, uuids in (
            ("without", now - later),
            ("with", later - now - set(kept)),
            ("with, as its XML says and no host lists,", frozenset(kept)),
        )
        if uuids
    ]
    if not said:
        return ""
    return f"when the guest starts next, it does so {'; '.join(said)}"


def pending_mdevs(
    live: Iterable[model.GuestMdev],
    inactive: Iterable[model.GuestMdev],
    source: model.Inventory,
) -> tuple[tuple[model.WantedMdev, ...], frozenset[str]]:
    """Return what is wanted of mdevs that a guest has from its next start on.

    :returns: besides, the UUIDs of those that the host does not list: they
        stay in the document as they are.
    :raises MdevUnderTwoParents: if the host lists one of them twice.
    """
    now = {mdev.uuid for mdev in live}
    wanted = []
    kept = set()
    for mdev in inactive:
        if mdev.uuid in now:
            continue
        listed = allocation.the_listed(source, mdev.uuid)
        if listed is None:
            kept.add(mdev.uuid)
        else:
            want = _want(mdev, listed, source)
            wanted.append(replace(want, live=False))
    return tuple(wanted), frozenset(kept)


def _want(
    mdev: model.GuestMdev, listed: model.Mdev, source: model.Inventory
) -> model.WantedMdev:
    return model.WantedMdev(
        source_uuid=mdev.uuid,
        mdev_type=listed.mdev_type,
        device_api=mdev.device_api,
        attributes=listed.attributes,
        persistent=listed.persistent,
        autostart=listed.autostart,
        type_name=source.type_name(listed),
    )


def with_targets(
    wanted: Iterable[model.WantedMdev], targets: Mapping[str, str]
) -> tuple[model.WantedMdev, ...]:
    """Add which targets the user has chosen.

    :param targets: mdev or parent by source mdev UUID.
    :raises OptionInvalid: if one is for an mdev that the guest has not.
    """
    wanted = tuple(wanted)
    own = {want.source_uuid for want in wanted}
    for source_uuid in targets:
        if source_uuid not in own:
            raise exception.OptionInvalid(
                "target of source mdev",
                source_uuid,
                ", ".join(sorted(own)) or "none, as the guest has no mdevs,",
            )
    return tuple(
        replace(want, target=targets.get(want.source_uuid)) for want in wanted
    )


def source_mdevs(
    guest: model.Guest,
    guest_mdevs: Iterable[model.GuestMdev],
    source: model.Inventory,
) -> tuple[model.WantedMdev, ...]:
    """Return what the guest's mdevs ask of their targets, in guest order.

    :raises GuestMdevNotListed: if the host does not list one of them as
        active: its type would have to be guessed.
    :raises GuestMdevUnreadable: if the host does, and cannot describe it.
    :raises MdevUnderTwoParents: if the host lists one of them twice.
    """
    found = [
        (mdev, allocation.the_mdev(source, mdev.uuid)) for mdev in guest_mdevs
    ]
    missing = frozenset(mdev.uuid for mdev, listed in found if listed is None)
    unreadable = tuple(
        each.reason
        for each in source.unreadable
        if any(map(each.may_be, missing))
    )
    if unreadable:
        raise exception.GuestMdevUnreadable(
            guest.name, source.host, unreadable
        )
    if missing:
        raise exception.GuestMdevNotListed(guest.name, source.host, missing)
    return tuple(
        _want(mdev, listed, source)
        for mdev, listed in found
        if listed is not None
    )


def check_earlier(claim: model.Claim) -> str:
    """Tell what an earlier claim of the guest means for its migration.

    :raises ClaimHeld: if only Nova can end it.
    :raises ClaimUnsettled: if it is to be seen whether its owner lives.
    """
    if claim.migration:
        raise exception.ClaimHeld(claim.instance_uuid, claim.owner)
    if not claim.over:
        raise exception.ClaimUnsettled(claim.instance_uuid, claim.owner)
    return f"{claim.owner} left one: the migration settles it first"
