# SPDX-License-Identifier: Apache-2.0
"""Tell from what both hosts say where a guest runs after a migration."""

from __future__ import annotations

import enum
import re

from mdev_migrate import model


class Whereabouts(enum.Enum):
    """Where a guest is."""

    STAYED = "is on the source"
    ARRIVED = "is on the destination"
    NOWHERE = "is active on neither host"
    MOVING = "is still being migrated"


def has_come(guest: model.Guest | None) -> bool:
    """Tell whether a guest that a destination knows is all there.

    While its memory is coming in it is paused, for that reason. Paused for
    another, or running, it has come.
    """
    return guest is not None and (guest.running or guest.suspended)


#: How libvirt says of a job under way that its guest has ended meanwhile
#: (qemuDomainObjWait). Of one that was gone before it says "not valid".
_ENDED = re.compile("operation failed: domain is (not|no longer) running")
_FORGOTTEN = "it had no definition, and libvirt forgets such a guest"


def ended_on_the_way(reason: str) -> bool:
    """Tell whether a guest ended while its migration had hold of it.

    Nobody else can have moved it then.

    :param reason: libvirt's, for the end of that migration.
    """
    return _ENDED.search(reason) is not None


def ended_here(guest: model.Guest | None) -> bool:
    """Tell whether a guest ended on a host, and did not leave it.

    One that was migrated away is shut off there too, and may run elsewhere.
    """
    return guest is not None and guest.stopped not in ("", model.MIGRATED_AWAY)


def describe(guest: model.Guest | None, host: str) -> str:
    """Return in words what a host knows of a guest that is not active."""
    if guest is None:
        return f"{host} does not know it"
    how = f": it {guest.stopped}" if guest.stopped else ""
    return f"on {host} it is shut off{how}"


def describe_arrived(
    guest: model.Guest | None, *, transient: bool
) -> tuple[str, str]:
    """Return in words what has become of a guest where it had arrived.

    :param transient: it has no definition.
    :returns: that, and its fate as ``GuestNotOnTargets`` names it.
    """
    if guest is not None:
        how = f": it {guest.stopped}" if guest.stopped else ""
        return f"it is shut off there now{how}", "off"
    gone = "it is not there any more"
    if transient:
        return f"{gone}: {_FORGOTTEN}", "forgotten"
    return f"{gone}, nor is its definition", "gone"


def tell(
    source: model.Guest | None,
    destination: model.Guest | None,
    *,
    job: bool,
) -> Whereabouts:
    """Return where a guest is.

    During a migration the guest is active on both hosts: the source runs
    it, the destination holds it paused. At the switch-over neither runs it
    for a moment, which is a migration under way too; the source gives it up
    only after the destination runs it, or has taken over that it was paused.

    :param source: the guest as the source knows it, None if it does not.
    :param destination: likewise.
    :param job: the source has a migration job for it.
    """
    here = source is not None and source.active
    there = destination is not None and destination.active
    if not here and not there:
        return Whereabouts.NOWHERE
    if not here and has_come(destination):
        return Whereabouts.ARRIVED
    if here and not there and not job:
        return Whereabouts.STAYED
    return Whereabouts.MOVING
