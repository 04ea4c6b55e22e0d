# SPDX-License-Identifier: Apache-2.0
"""Empty a host: look at all its guests, plan for all, move one after another.

The plan is made from one look at each host. When a guest's turn comes, its
migration looks again and claims what it needs: the plan says where to try
first, and what others have taken meanwhile is not promised to anybody.
"""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from mdev_migrate import exception, model
from mdev_migrate.core import guest_xml, precheck, spread
from mdev_migrate.host import Host
from mdev_migrate.workflow.check import GuestCheck
from mdev_migrate.workflow.values import (
    Destination,
    Options,
    Outcome,
    Report,
    mint,
)

#: How soon a signal is heeded, at the latest.
_HEEDED_S = 0.2
#: What a look at a host answers once, and a check asks for each guest.
_ONCE = (
    "facts",
    "find_guest",
    "live_xml",
    "inactive_xml",
)
#: After these the guest is not where it was, or it is not known where it is.
_GONE = (
    exception.OutcomeUnknown,
    exception.GuestNotOnTargets,
    exception.GuestStartedMeanwhile,
    exception.DefinitionChanged,
    exception.GuestLost,
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
    """

    guests: tuple[Leaving, ...]
    shortage: Mapping[str, int] = field(default_factory=dict)

    @property
    def staying(self) -> tuple[Leaving, ...]:
        """Return the guests that must stay."""
        return tuple(each for each in self.guests if each.placement is None)


def make_plan(
    source: Host,
    destinations: Mapping[str, Destination],
    options: Mapping[str, Options],
    wanted: Callable[[model.Guest], bool],
    *,
    shut_off: bool = False,
) -> Plan:
    """Look at each host once and plan for all guests together.

    :param destinations: what guests may go to, by name, in order.
    :param options: how guests go to each, by the same names.
    :param wanted: whether a guest is to leave.
    :param shut_off: those that are off, too.
    :raises OptionInvalid: if an option is out of its bounds.
    :raises HostError: if a host cannot be asked.
    """
    for each in options.values():
        each.check()
    here = cast(Host, _LookedAt(source))
    there = {
        name: replace(each, host=cast(Host, _LookedAt(each.host)))
        for name, each in destinations.items()
    }
    guests = [
        guest
        for guest in here.inventory().guests
        if (guest.active or shut_off) and wanted(guest)
    ]
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
    return Plan(
        tuple(
            Leaving(
                guest,
                _memory_kib(here, guest),
                reports[guest.instance_uuid],
                found.placed.get(guest.instance_uuid),
                _reasons(reports[guest.instance_uuid])
                | found.lacking.get(guest.instance_uuid, {}),
            )
            for guest in guests
        ),
        spread.shortage(leaving, found),
    )


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


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt to move a guest to a destination."""

    destination: str
    outcome: Outcome


@dataclass(slots=True)
class Moved:
    """What became of a guest.

    :ivar tried: the attempts, in order.
    """

    leaving: Leaving
    tried: list[Tried] = field(default_factory=list)

    @property
    def result(self) -> Literal["migrated", "failed", "stays", "not-begun"]:
        """Return how it ended.

        ``stays``: there is no place for it. ``not-begun``: the drain was
        told to end before its turn.
        """
        if any(t.outcome.result == "migrated" for t in self.tried):
            return "migrated"
        if self.tried:
            return "failed"
        stays = self.leaving.placement is None
        return "stays" if stays else "not-begun"

    @property
    def destination(self) -> str | None:
        """Return where it went."""
        for each in self.tried:
            if each.outcome.result == "migrated":
                return each.destination
        return None


class Drain:
    """Moves the guests of a plan.

    :param move: migrates a guest, by its UUID, to a destination; is called
        from as many threads as guests are moved at a time.
    :param finish: when set, no more guests begin.
    :param parallel: how many guests are moved at a time.
    """

    def __init__(
        self,
        plan: Plan,
        move: Callable[[Leaving, str], Outcome],
        *,
        finish: threading.Event | None = None,
        parallel: int = 1,
    ) -> None:
        self._move = move
        self._finish = finish or threading.Event()
        self._parallel = parallel
        self._moved = [Moved(each) for each in plan.guests]

    def run(self) -> Sequence[Moved]:
        """Move all guests that have a place, each to the first that works.

        :returns: what became of each guest of the plan.
        """
        waiting: queue.SimpleQueue[Moved] = queue.SimpleQueue()
        for each in self._moved:
            if each.leaving.placement is not None:
                waiting.put(each)
        with futures.ThreadPoolExecutor(self._parallel, "drain") as pool:
            workers = [
                pool.submit(self._work, waiting) for _ in range(self._parallel)
            ]
            # A signal that another thread was chosen for is heeded by the
            # main thread alone, and only when that wakes up.
            while futures.wait(workers, _HEEDED_S).not_done:
                pass
        for worker in workers:
            worker.result()
        return self._moved

    def _work(self, waiting: queue.SimpleQueue[Moved]) -> None:
        while not self._finish.is_set():
            try:
                guest = waiting.get_nowait()
            except queue.Empty:
                return
            self._send(guest)

    def _send(self, guest: Moved) -> None:
        """Try one destination after the other."""
        for name in self._destinations(guest.leaving):
            outcome = self._move(guest.leaving, name)
            guest.tried.append(Tried(name, outcome))
            if outcome.result == "migrated" or isinstance(
                outcome.error, (*_GONE, exception.MigrationAborted)
            ):
                return

    def _destinations(self, leaving: Leaving) -> Iterator[str]:
        for name in leaving.destinations:
            yield name
            if self._finish.is_set():
                return
