# SPDX-License-Identifier: Apache-2.0
"""Where can each guest of a host go? One look at each host, a plan for all."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from mdev_migrate import exception, model
from mdev_migrate.core import guest_xml, precheck, spread
from mdev_migrate.host import Host
from mdev_migrate.workflow.check import GuestCheck
from mdev_migrate.workflow.values import (
    Destination,
    Options,
    Report,
    mint,
)

#: What a look at a host answers once, and a check asks for each guest.
_ONCE = (
    "facts",
    "find_guest",
    "live_xml",
    "inactive_xml",
)


class _LookedAt:
    """A host that is asked everything once."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._inventory = functools.cache(host.inventory)
        self._unreached: dict[str | None, exception.PeerUnreachable] = {}
        for name in _ONCE:
            setattr(self, name, functools.cache(getattr(host, name)))

    def ask_blockers(
        self, instance_uuid: str, flags: int, peer_uri: str | None = None
    ) -> str | None:
        """Ask for each guest, but for a peer in vain only once."""
        known = self._unreached.get(peer_uri)
        if known is not None:
            blockers = self._host.ask_blockers(instance_uuid, flags)
            if blockers is None:
                raise known
            return blockers
        try:
            return self._host.ask_blockers(instance_uuid, flags, peer_uri)
        except exception.PeerUnreachable as error:
            self._unreached[peer_uri] = error
            raise

    def inventory(self, *_kinds: object, **_how: object) -> model.Inventory:
        """Return all that was seen, whatever is asked for."""
        return self._inventory()

    def inventory_of(self, _mdev_uuids: object) -> model.Inventory:
        """Return all that was seen: some mdevs are among it."""
        return self._inventory()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)


@dataclass(frozen=True, slots=True)
class Leaving:
    """A guest that is to leave, and what is planned for it.

    :ivar reports: what the checks found, by destination.
    :ivar placement: where it goes first; None if it must stay.
    :ivar reasons: why it cannot go to a destination, by destination.
    """

    guest: model.Guest
    memory_kib: int | None
    reports: Mapping[str, Report]
    placement: spread.Placement | None
    reasons: Mapping[str, str]

    @property
    def types(self) -> tuple[str, ...]:
        """Return the types of its mdevs."""
        for report in self.reports.values():
            if report.wanted:
                return tuple(want.mdev_type for want in report.wanted)
        return ()

    @property
    def destinations(self) -> tuple[str, ...]:
        """Return where it may be tried, the planned one first."""
        first = self.placement and self.placement.destination
        allowed = [name for name, r in self.reports.items() if r.allowed]
        return tuple(sorted(allowed, key=lambda name: name != first))


@dataclass(frozen=True, slots=True)
class Plan:
    """Where all guests go.

    :ivar shortage: how many mdevs of each type have no place.
    :ivar unreached: why a destination could not be looked at, by its name.
    :ivar off: guests that are off, and not among those that leave.
    """

    guests: tuple[Leaving, ...]
    shortage: Mapping[str, int] = field(default_factory=dict)
    unreached: Mapping[str, exception.MdevMigrateError] = field(
        default_factory=dict
    )
    off: tuple[model.Guest, ...] = ()

    @property
    def staying(self) -> tuple[Leaving, ...]:
        """Return the guests that must stay."""
        return tuple(each for each in self.guests if each.placement is None)


def make_plan(  # noqa: PLR0913 - facts by name
    source: Host,
    destinations: Mapping[str, Destination],
    options: Mapping[str, Options],
    wanted: Callable[[model.Guest], bool],
    *,
    shut_off: bool = False,
    unreached: Mapping[str, exception.MdevMigrateError] | None = None,
) -> Plan:
    """Look at each host once and plan for all guests together.

    A destination that cannot be looked at is no place for anybody: the plan
    is made for the others.

    :param destinations: what guests may go to, by name, in order.
    :param options: how guests go to each, by the same names.
    :param wanted: whether a guest is to leave.
    :param shut_off: those that are off, too.
    :param unreached: why other destinations could not even be opened.
    :raises OptionInvalid: if an option is out of its bounds.
    :raises HostError: if the source cannot be asked.
    """
    for each in options.values():
        each.check()
    here = cast(Host, _LookedAt(source))
    there, lost = _look_there(destinations)
    unreached = {**(unreached or {}), **lost}
    meant = [guest for guest in here.inventory().guests if wanted(guest)]
    guests = [guest for guest in meant if guest.active or shut_off]
    reports = {
        guest.instance_uuid: {
            name: _check(here, place, guest, options[name])
            for name, place in there.items()
        }
        for guest in guests
    }
    leaving = [
        _leaving(guest, reports[guest.instance_uuid], _locked_kib(here, guest))
        for guest in guests
    ]
    hosts = {
        name: spread.Destination(
            inventory, inventory.claims.held(), place.host.free_memory_kib()
        )
        for name, place in there.items()
        for inventory in [place.host.inventory()]
    }
    found = spread.spread(leaving, hosts, mint)
    out_of_reach = {name: str(error) for name, error in unreached.items()}
    return Plan(
        tuple(
            Leaving(
                guest,
                _memory_kib(here, guest),
                reports[guest.instance_uuid],
                found.placed.get(guest.instance_uuid),
                _reasons(reports[guest.instance_uuid])
                | found.lacking.get(guest.instance_uuid, {})
                | out_of_reach,
            )
            for guest in guests
        ),
        spread.shortage(leaving, found),
        unreached,
        tuple(guest for guest in meant if guest not in guests),
    )


def _look_there(
    destinations: Mapping[str, Destination],
) -> tuple[dict[str, Destination], dict[str, exception.MdevMigrateError]]:
    """Look at the destinations.

    :returns: those that let themselves be looked at, and why others did not.
    :raises OptionInvalid: if two of them are one host: its room is there
        once.
    """
    seen = {}
    names: dict[str, str] = {}
    lost: dict[str, exception.MdevMigrateError] = {}
    for name, each in destinations.items():
        host = cast(Host, _LookedAt(each.host))
        try:
            first = names.setdefault(host.facts().host_uuid or name, name)
            if first != name:
                raise exception.OptionInvalid(
                    "destination", f"{first} again as {name}", "each host once"
                )
            host.inventory()
            seen[name] = replace(each, host=host)
        except exception.HostError as error:
            lost[name] = error
    return seen, lost


def _check(
    source: Host,
    destination: Destination,
    guest: model.Guest,
    options: Options,
) -> Report:
    """Check one guest for one destination; one that cannot be asked stays."""
    options = replace(options, shut_off=not guest.active)
    try:
        return GuestCheck(
            source, destination, guest.instance_uuid, options
        ).check()
    except exception.HostUnreachable:
        raise
    except exception.MdevMigrateError as error:
        check = precheck.Check("guest", "source", "refused", str(error), error)
        return Report(guest, (check,))


def _leaving(
    guest: model.Guest, reports: Mapping[str, Report], memory_kib: int | None
) -> spread.Leaving:
    allowed = tuple(
        name
        for name, report in reports.items()
        if report.allowed or _lacks_room_only(report)
    )
    wanted = next((r.wanted for r in reports.values() if r.wanted), ())
    return spread.Leaving(guest.instance_uuid, wanted, allowed, memory_kib)


def _lacks_room_only(report: Report) -> bool:
    """Tell whether nothing but room is missing: a plan may say it better."""
    refused = [each for each in report.checks if each.result == "refused"]
    return bool(refused) and all(
        isinstance(each.error, exception.TooFewMdevs) for each in refused
    )


def _reasons(reports: Mapping[str, Report]) -> dict[str, str]:
    return {
        name: "; ".join(
            each.detail for each in report.checks if each.result == "refused"
        )
        for name, report in reports.items()
        if not report.allowed
    }


def _memory_kib(host: Host, guest: model.Guest) -> int | None:
    try:
        return guest_xml.read_memory_kib(host.live_xml(guest.instance_uuid))
    except exception.MdevMigrateError:
        return None


def _locked_kib(host: Host, guest: model.Guest) -> int | None:
    """Return what a guest takes of the memory that a host tells of.

    All of it at once, if it has mdevs: their driver may write anywhere.
    """
    if not guest.active:
        return None
    try:
        document = host.live_xml(guest.instance_uuid)
        if guest_xml.has_huge_pages(document):
            return None
        return guest_xml.read_memory_kib(document)
    except exception.MdevMigrateError:
        return None
