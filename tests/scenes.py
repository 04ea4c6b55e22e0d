# SPDX-License-Identifier: Apache-2.0
"""A guest with mdevs on one of two simulated hosts, about to leave it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

import libvirt

from mdev_migrate import exception, libvirt_host, model, testing
from mdev_migrate.core import claim_xml
from mdev_migrate.limits import Limits
from mdev_migrate.workflow import (
    Destination,
    GuestMigration,
    Observer,
    Options,
    Outcome,
    Silent,
)
from tests import builders

#: Short, so that no test waits; long enough for a few tries.
LIMITS = Limits(
    listed_s=0.2,
    busy_s=0.2,
    settle_s=1.0,
    stable_s=0.003,
    poll_s=0.001,
    beat_s=0.02,
    silent_s=0.1,
    tries=3,
)
KERNEL = "6.12.0-amd64"
#: UUIDs of mdevs that the destination has before anything begins.
SPARE = 0xB00


__all__ = ["LIMITS", "SPARE", "Scene", "Silent", "builders"]


class Scene:
    """Two simulated hosts, a guest on the first, and who migrates it.

    :ivar here: the host that the guest is on at first.
    :ivar there: the other one.
    """

    def __init__(
        self,
        mdev_types: Iterable[str] = ("mtty-1",),
        spare_types: Iterable[str] = (),
        *,
        persistent: bool = True,
        attributes: Mapping[str, str] | None = None,
        persistent_mdevs: bool = False,
        source_parents: Iterable[testing.Parent] | None = None,
        destination_parents: Iterable[testing.Parent] | None = None,
        limits: Limits = LIMITS,
        **guest_facts: Any,
    ) -> None:
        self.here, self.there = testing.two_hosts(
            source_parents, destination_parents
        )
        self.group = self.here.group
        self.limits = limits
        self.sources = []
        for number, kind in enumerate(mdev_types, 1):
            self.sources.append(builders.uuid(number))
            offering = next(
                name
                for name, parent in self.here.devices.parents.items()
                if kind in parent.types
            )
            self.here.add_mdev(
                builders.uuid(number),
                kind,
                offering,
                attributes=attributes,
                persistent=persistent_mdevs,
            )
        for number, kind in enumerate(spare_types, SPARE):
            self.there.add_mdev(
                builders.uuid(number), kind, attributes=attributes
            )
        self.here.add_guest(
            "vm",
            builders.INSTANCE,
            self.sources,
            persistent=persistent,
            **guest_facts,
        )
        self.before = self.snapshot()
        self.group.faults.forget_calls()

    def connect(self, uri: str) -> testing.SimulatedConnection:
        """Open a connection, or raise our own error."""
        with libvirt_host.opening(uri):
            return self.group.open(uri)

    def host(
        self, simulated: testing.SimulatedHost
    ) -> libvirt_host.LibvirtHost:
        """Reach a host."""
        return libvirt_host.LibvirtHost(
            simulated.uris[0], kernel=KERNEL, opener=self.connect
        )

    def destination(
        self, simulated: testing.SimulatedHost | None = None
    ) -> Destination:
        """Reach the destination."""
        return Destination(self.host(simulated or self.there), self.limits)

    def migrate(
        self,
        guest: str = "vm",
        options: Options | None = None,
        *,
        back: bool = False,
        stop: threading.Event | None = None,
        observer: Observer | None = None,
    ) -> Outcome:
        """Migrate a guest as the command does, on new connections."""
        here, there = self.here, self.there
        if back:
            here, there = there, here
        try:
            source = self.host(here)
            destination = self.destination(there)
        except exception.HostError as error:
            return Outcome(guest, error=error)
        return GuestMigration(
            source,
            destination,
            guest,
            options,
            stop=stop,
            observer=observer,
        ).run()

    def new_process(self) -> None:
        """Let the process that migrates start anew."""
        self.group.new_process()

    def snapshot(self) -> dict[str, tuple[Any, ...]]:
        """Return all that there is on both hosts, to be compared."""
        return {
            name: (
                sorted(map(repr, _stable(host))),
                sorted(host.running_guests()),
                sorted(host.guests.engine.uuids()),
                host.used_mdevs(),
            )
            for name, host in self.group.hosts.items()
        }

    def where(self) -> list[str]:
        """Return the names of the hosts that run the guest."""
        return [
            name
            for name, host in self.group.hosts.items()
            if builders.INSTANCE in host.running_guests()
        ]

    def claims(self) -> tuple[model.Claim, ...]:
        """Return all claims on both hosts."""
        return tuple(
            claim
            for host in self.group.hosts.values()
            for claim in claims_on(host).all
        )

    def missed(self, outcome: Outcome) -> list[str]:
        """Return what keeps a migration from being a full success."""
        error = [] if outcome.error is None else [str(outcome.error)]
        return error + self.broken_promises(outcome)

    def broken_promises(self, outcome: Outcome) -> list[str]:
        """Return what is not as it must be after a migration's end."""
        found = self.group.violations()
        arrived = self.where() == [self.there.name]
        if arrived != (outcome.result == "migrated"):
            found.append(f"{outcome.result}, but runs on {self.where()}")
        kept = isinstance(outcome.error, exception.OutcomeUnknown)
        if kept:
            found.append("how it ended is not known")
        if self.claims() and not kept:
            found.append("a claim is left")
        if not arrived and not kept and self.snapshot() != self.before:
            found.append("not all is as it was before")
        if arrived:
            found += self._lost_targets(outcome)
        if self.there.unusable_mdevs():
            found.append("an unusable mdev is left")
        return found

    def _lost_targets(self, outcome: Outcome) -> list[str]:
        targets = set(outcome.target_mdevs.values())
        if set(self.there.used_mdevs()) != targets:
            return ["the guest is not on its targets"]
        known = {
            mdev.uuid
            for mdev in self.there.all_mdevs()
            if int(mdev.uuid[:8], 16) not in range(SPARE, SPARE + 99)
        }
        return ["an mdev is left without a guest"] if known - targets else []


def claims_on(host: testing.SimulatedHost) -> model.Claims:
    """Return the claims on a host without asking it: no call is counted."""
    engine = host.guests.engine
    with host.changing():
        return claim_xml.read_all(
            claim_xml.Domain(
                engine.name(uuid),
                uuid,
                engine.is_active(uuid),
                engine.document(uuid, libvirt.VIR_DOMAIN_XML_INACTIVE),
            )
            for uuid in engine.uuids()
            if claim_xml.is_named_so(engine.name(uuid))
        )


def _stable(host: testing.SimulatedHost) -> list[tuple[Any, ...]]:
    """Return what a host's mdevs are, without what differs each time."""
    return [
        (
            mdev.uuid,
            mdev.mdev_type,
            mdev.parent,
            mdev.attributes,
            mdev.active,
            mdev.persistent,
            mdev.autostart,
            mdev.resuming,
        )
        for mdev in host.all_mdevs()
    ]
