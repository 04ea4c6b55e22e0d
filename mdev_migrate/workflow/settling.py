# SPDX-License-Identifier: Apache-2.0
"""Find out where a guest is after an error, by asking both hosts."""

from __future__ import annotations

import time
from collections.abc import Callable

from mdev_migrate import exception, model
from mdev_migrate.core import whereabouts
from mdev_migrate.core.whereabouts import Whereabouts
from mdev_migrate.host import Host
from mdev_migrate.service import Limits


def after(seconds: float | None) -> float:
    """Return the monotonic time in so many seconds; never, for None."""
    return float("inf") if seconds is None else time.monotonic() + seconds


def find(host: Host, instance_uuid: str) -> model.Guest | None:
    """Return a guest as a host knows it, None if it does not.

    A connection that broke is opened anew first.

    :raises HostUnreachable: if that fails too.
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


def tell(source: Host, destination: Host, instance_uuid: str) -> Whereabouts:
    """Return where a guest is now.

    One of the hosts may be out of reach, if the other's answer is enough.

    :raises HostError: if it is not.
    """
    try:
        here = find(source, instance_uuid)
    except exception.HostUnreachable:
        there = find(destination, instance_uuid)
        if whereabouts.has_come(there):
            return Whereabouts.ARRIVED
        raise
    job = (
        here is not None
        and here.active
        and source.progress(instance_uuid) is not None
    )
    try:
        there = find(destination, instance_uuid)
    except exception.HostUnreachable:
        if here is not None and here.running and not job:
            return Whereabouts.STAYED
        raise
    return whereabouts.tell(here, there, job=job)


def find_out(  # noqa: PLR0913 - how, by name
    source: Host,
    destination: Host,
    instance_uuid: str,
    limits: Limits,
    *,
    abort: bool = True,
    ended: Callable[[], bool] = lambda: True,
) -> Whereabouts:
    """Ask both hosts until the guest is found to move no more.

    :param abort: abort a job that is still running.
    :param ended: tells whether the call that migrates it has come back: one
        that has not may still begin, wherever the guest is now.
    :raises OutcomeUnknown: if it is not within ``limits.settle_s``.
    """
    deadline = after(limits.settle_s)
    while True:
        try:
            found = tell(source, destination, instance_uuid)
            if found is Whereabouts.ARRIVED:
                return found
            if found is not Whereabouts.MOVING and ended():
                return found
            reason = f"it {found.value}"
            if abort:
                source.abort(instance_uuid)
        except exception.MdevMigrateError as error:
            reason = str(error)
        if time.monotonic() > deadline:
            raise exception.OutcomeUnknown(instance_uuid, reason)
        time.sleep(limits.poll_s)
