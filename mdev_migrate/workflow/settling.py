# SPDX-License-Identifier: Apache-2.0
"""Find out where a guest is after an error, by asking both hosts."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable

from mdev_migrate import exception, model
from mdev_migrate.core import whereabouts
from mdev_migrate.core.whereabouts import Whereabouts
from mdev_migrate.host import Host
from mdev_migrate.limits import Limits


def after(seconds: float | None) -> float:
    """Return the monotonic time in so many seconds; never, for None."""
    return float("inf") if seconds is None else time.monotonic() + seconds


def find(host: Host, instance_uuid: str) -> model.Guest | None:
    """Return a guest as a host knows it, None if it does not.

    A connection that broke is opened anew first.

    :raises HostError: if that fails too.
    """
    try:
        return _find_now(host, instance_uuid)
    except exception.HostUnreachable:
        host.reconnect()
        return _find_now(host, instance_uuid)


def _find_now(host: Host, instance_uuid: str) -> model.Guest | None:
    try:
        guest = host.find_guest(instance_uuid)
    except exception.GuestNotFound:
        return None
    # A guest may bear another's UUID as its name.
    return guest if guest.instance_uuid == instance_uuid else None


def tell(
    source: Host,
    destination: Host,
    instance_uuid: str,
    *,
    answered: bool = False,
) -> Whereabouts:
    """Return where a guest is now.

    One of the hosts may not answer, if the other's answer is enough.

    :param answered: the source has said that the migration failed: if the
        guest has a job there, it is another's, to another host.
    :raises HostError: if it is not.
    """
    try:
        here = find(source, instance_uuid)
    except exception.UNASKABLE:
        there = find(destination, instance_uuid)
        if whereabouts.has_come(there):
            return Whereabouts.ARRIVED
        raise
    job = (
        not answered
        and here is not None
        and here.active
        and source.progress(instance_uuid) is not None
    )
    try:
        there = find(destination, instance_uuid)
    except exception.UNASKABLE:
        if whereabouts.has_come(here) and not job:
            return Whereabouts.STAYED
        raise
    return whereabouts.tell(here, there, job=job)


def explain_loss(
    source: Host, destination: Host, guest: model.Guest, reason: str
) -> exception.MigrationError:
    """Return the error for a guest that is active on neither host.

    :param guest: as it was before.
    :param reason: what libvirt said of its migration.
    """
    why = f"why its migration ended: {reason}"
    try:
        here, there = (
            find(host, guest.instance_uuid) for host in (source, destination)
        )
    except exception.MdevMigrateError as error:
        again = f"so it was found, and when asked again: {error}"
        return exception.GuestLost(guest.name, f"{again}; {why}")
    if here is not None and whereabouts.ended_here(here):
        return exception.GuestStopped(guest.name, source.uri, here.stopped)
    if here is None and whereabouts.ended_on_the_way(reason):
        return exception.GuestStopped(
            guest.name, source.uri, "was stopped", defined=False
        )
    said = [
        whereabouts.describe(found, host.uri)
        for found, host in ((here, source), (there, destination))
    ]
    return exception.GuestLost(
        guest.name,
        "; ".join((*said, why)),
        moved=here is not None and here.stopped == model.MIGRATED_AWAY,
    )


def was_restarted(source: Host, guest: model.Guest) -> bool:
    """Tell whether a guest on the source is another process than before.

    :param guest: as it was before.
    """
    now = None
    with contextlib.suppress(exception.MdevMigrateError):
        now = find(source, guest.instance_uuid)
    return now is not None and now.active and now.number != guest.number


def refuse_lost(
    source: Host,
    destination: Host,
    guest: model.Guest,
    error: exception.LibvirtFailed,
) -> None:
    """See whether a guest that was not sent yet is still active.

    :param error: why that is asked.
    :raises GuestStopped: if it was shut off, and GuestLost if why it is not
        active is not known.
    """
    found = None
    with contextlib.suppress(exception.MdevMigrateError):
        found = tell(source, destination, guest.instance_uuid)
    if found is Whereabouts.NOWHERE:
        raise explain_loss(source, destination, guest, error.reason) from error


def find_out(  # noqa: PLR0913 - how, by name
    source: Host,
    destination: Host,
    instance_uuid: str,
    limits: Limits,
    *,
    name: str,
    abort: bool = True,
    doubt_s: Callable[[], float],
) -> Whereabouts:
    """Ask both hosts until the guest is found to move no more.

    :param name: the guest's, for texts.
    :param abort: abort a job that may still be running.
    :param doubt_s: returns for how long a guest must be seen not to move:
        its source may have been told to send it, and not have begun. Zero
        once the source has answered that it failed.
    :raises OutcomeUnknown: if it is not within ``limits.settle_s``.
    """
    deadline = after(limits.settle_s)
    seen: Whereabouts | None = None
    since = 0.0
    while True:
        doubt = doubt_s()
        answered = doubt == 0
        try:
            found = tell(source, destination, instance_uuid, answered=answered)
            reason = f"asked last, they said that it {found.value}"
        except exception.MdevMigrateError as error:
            found, reason = None, str(error)
        if found is not seen:
            seen, since = found, time.monotonic()
        doubtful = _doubtful_for(found, doubt)
        if found is not None and time.monotonic() >= since + doubtful:
            return found
        if found is not None and abort and not answered:
            with contextlib.suppress(exception.MdevMigrateError):
                source.abort(instance_uuid)
        if math.isinf(doubtful) and time.monotonic() > deadline:
            raise exception.OutcomeUnknown(
                name, reason, source.uri, destination.uri
            )
        time.sleep(limits.poll_s)


def _doubtful_for(found: Whereabouts | None, doubt_s: float) -> float:
    """Return for how long a guest must be found so before it counts."""
    match found:
        case Whereabouts.ARRIVED:
            return 0.0
        case Whereabouts.STAYED | Whereabouts.NOWHERE:
            return doubt_s
        case _:
            return math.inf
