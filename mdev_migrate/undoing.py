# SPDX-License-Identifier: Apache-2.0
"""End a claim: do with its target mdevs what the table says, release it.

For both ends' owners, for recovery and for the next migration of a guest
alike. It may be done twice, and by two at once: what was created has a UUID
that nobody else has, and a reused mdev is looked at again before it is
touched, for by then it may be another's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from mdev_migrate import exception, model
from mdev_migrate.core import allocation, claim_life
from mdev_migrate.core.claim_life import Deed, End
from mdev_migrate.host import MdevHost
from mdev_migrate.limits import Limits

Problems = tuple[exception.MdevMigrateError, ...]


def await_mdevs(host: MdevHost, uuids: frozenset[str], limits: Limits) -> None:
    """Wait until mdevs are listed as active; udev may lag behind.

    :raises TargetMdevGone: if one is not within ``limits.listed_s``.
    """
    deadline = time.monotonic() + limits.listed_s
    for pause_s in limits.pauses():
        if not uuids:
            return
        inventory = host.inventory_of(uuids)
        uuids = frozenset(
            uuid
            for uuid in uuids
            if allocation.the_mdev(inventory, uuid) is None
        )
        if uuids and time.monotonic() >= deadline:
            raise exception.TargetMdevGone(inventory.host, uuids)
        if uuids:
            time.sleep(pause_s)


def end_claim(  # noqa: PLR0913 - how, by name
    host: MdevHost,
    claim: model.Claim,
    end: End,
    limits: Limits,
    *,
    unanswered: bool = False,
    patient: bool = True,
    busy: frozenset[str] = frozenset(),
) -> Problems:
    """End a claim, as :func:`core.claim_life.end` decided.

    What is busy or out of reach is tried again for ``limits.busy_s``, what
    is denied is not. A reused mdev that is busy still, though no guest has
    it, is somebody else's by then, and left. If something cannot be done the
    claim is kept, so that nobody is given an mdev that cannot be used. Its
    owner leaves it to whoever has taken it over.

    :param unanswered: the host may still be creating an mdev, for somebody
        who does not wait for it any more, or not list it yet.
    :param patient: if not, try once and wait for nothing.
    :param busy: UUIDs of mdevs that are known to be somebody else's.
    :returns: what could not be undone: empty if all was.
    """
    if end is End.KEEP:
        return ()
    if unanswered:
        _await_unanswered(host, claim, limits)
    problems: Problems = ()
    deadline = None
    for pause_s in limits.pauses():
        problems = _try(host, claim, end, busy)
        if not problems:
            break
        if deadline is None:
            # From here on, so that a slow first try is not the only one.
            deadline = time.monotonic() + (limits.busy_s if patient else 0)
        if any(isinstance(p, exception.ClaimLost) for p in problems):
            break
        if time.monotonic() < deadline and not all_denied(problems):
            if any(isinstance(p, exception.HostUnreachable) for p in problems):
                _reconnect(host, limits)
            time.sleep(pause_s)
        elif patient and _busy(problems) - busy:
            busy |= _busy(problems)
        else:
            break
    return problems


def _busy(problems: Problems) -> frozenset[str]:
    return frozenset(
        p.uuid for p in problems if isinstance(p, exception.MdevBusy)
    )


def _try(
    host: MdevHost, claim: model.Claim, end: End, busy: frozenset[str]
) -> Problems:
    """Do once what is to be done; release the claim if all went well."""
    problems: list[exception.MdevMigrateError] = []
    try:
        inventory = host.inventory()
        if claim_life.is_taken_over(claim, inventory.claims):
            raise exception.ClaimLost(claim.instance_uuid, inventory.host)
        deeds = claim_life.deeds(claim, end, inventory, busy)
        for target in claim.targets:
            try:
                _do(host, claim, target, deeds[target.mdev.uuid])
            except exception.MdevMigrateError as error:
                problems.append(error)
        if not problems:
            host.claims.undefine(claim)
    except exception.MdevMigrateError as error:
        return (error,)
    return tuple(problems)


def _do(
    host: MdevHost, claim: model.Claim, target: model.Target, deed: Deed
) -> None:
    if deed is Deed.REMOVE:
        host.remove_mdev(target.mdev)
    elif deed is Deed.RECYCLE and claim_life.may_recycle(
        claim, target, host.claims.read()
    ):
        host.recycle_mdev(target.mdev)


def _await_unanswered(
    host: MdevHost, claim: model.Claim, limits: Limits
) -> None:
    """Give mdevs that are being created the time to appear."""
    deadline = time.monotonic() + limits.busy_s
    uuids = frozenset(t.mdev.uuid for t in claim.targets if t.created)
    while time.monotonic() < deadline:
        try:
            await_mdevs(host, uuids, limits)
        except exception.HostUnreachable:
            _reconnect(host, limits)
            continue
        except exception.MdevMigrateError:
            pass
        return


def _reconnect(host: MdevHost, limits: Limits) -> None:
    try:
        host.reconnect()
    except exception.UNASKABLE:
        time.sleep(limits.poll_s)


def all_denied(problems: Sequence[exception.MdevMigrateError]) -> bool:
    """Tell whether access control alone is in the way.

    What is not allowed now is not in a minute.
    """
    return all(isinstance(p, exception.AccessDenied) for p in problems)
