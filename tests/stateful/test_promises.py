# SPDX-License-Identifier: Apache-2.0
"""Do the promises hold whatever operators do, and whatever crashes?

Two hosts with little room, three guests, and two commands at a time that
migrate them to and fro, are killed at any call, and are run again. After
each step no guest is lost or doubled and no mdev shared; whenever nobody is
at work, one recovery brings all the rest.

A short search by default; ``tox -e soak`` searches for long.
"""

from __future__ import annotations

import contextlib
from typing import Any

import libvirt
import pytest
from hypothesis import HealthCheck, settings, stateful
from hypothesis import strategies as st

from mdev_migrate import exception, libvirt_host, testing
from mdev_migrate.workflow import (
    Destination,
    GuestMigration,
    Outcome,
    Recovery,
)
from tests import builders, crashes, scenes, soak

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)
EXAMPLES, STEPS = (300, 40) if soak.SOAKING else (25, 15)
PORTS = 6
HOSTS = st.sampled_from(["host-a", "host-b"])
GUESTS = st.integers(0, 2)
#: What each guest has.
KINDS = [["mtty-1"], ["mtty-2"], ["mtty-1", "mtty-1"]]
#: Calls that a process may die at, or that may fail.
CALLS = st.sampled_from(
    [
        "migrateToURI3",
        "nodeDeviceCreateXML",
        "destroy",
        "listAllDevices",
        "lookupByUUIDString",
        "XMLDesc",
        "defineXML",
        "setMetadata",
        "undefine",
    ]
)
DEATHS = st.sampled_from([testing.die, testing.die_after])
FAILURES = st.sampled_from(
    [
        lambda: testing.fail(
            testing.libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "no luck")
        ),
        testing.lose_connection,
        testing.lose_answer,
    ]
)
NTH = st.integers(1, 9)


class Promises(stateful.RuleBasedStateMachine):
    """Two hosts, three guests, and the commands of operators."""

    def __init__(self) -> None:
        super().__init__()
        types = testing.MttyParent().types.values()
        self.group = testing.SimulatedGroup()
        for name in ("host-a", "host-b"):
            card = testing.SharedParent("pci_0000_06_00_0", types, PORTS)
            self.group.add_host(name, [card])
        self.before: set[str] = set()

    @stateful.initialize()
    def start_guests(self) -> None:
        """Start the guests on the first host, on mdevs of their own."""
        here = self.group.hosts["host-a"]
        number = 1
        for guest, kinds in enumerate(KINDS):
            uuids = []
            for kind in kinds:
                uuids.append(builders.uuid(number))
                here.add_mdev(builders.uuid(number), kind)
                number += 1
            here.add_guest(f"vm-{guest}", builders.instance(guest), uuids)
        self.before = set(here.mdevs())

    # What operators do ------------------------------------------------

    @stateful.rule(guest=GUESTS, source=HOSTS)
    def migrate(self, guest: int, source: str) -> None:
        """Migrate a guest, from where it may not even be."""
        was_there = self.runs_on(guest) == source

        outcome = self.run(guest, source)

        if outcome.result == "migrated":
            assert was_there
            assert self.runs_on(guest) != source

    @stateful.rule(guest=GUESTS, source=HOSTS, name=CALLS, nth=NTH, how=DEATHS)
    def die(self, guest: int, source: str, name: str, nth: int, how: Any):
        """Be killed in the middle of a migration, or at its end."""
        self.group.faults.on(name, how(), nth=nth)
        crashes.run(lambda: self.run(guest, source))
        self.restart()

    @stateful.rule(
        guest=GUESTS, source=HOSTS, name=CALLS, nth=NTH, how=FAILURES
    )
    def fail(self, guest: int, source: str, name: str, nth: int, how: Any):
        """Let a call fail once."""
        self.group.faults.on(name, how(), nth=nth)
        with contextlib.suppress(exception.MdevMigrateError):
            self.run(guest, source)  # Unless it cannot even begin.
        self.group.faults.clear()
        self.group.wait_for_migrations()

    @stateful.rule(guest=GUESTS, source=HOSTS)
    def fail_the_copy(self, guest: int, source: str) -> None:
        """Let the destination refuse the guest's memory."""
        self.group.pace = crashes.fail_the_copy
        outcome = self.run(guest, source)
        self.group.pace = lambda _: None

        assert outcome.result != "migrated"

    @stateful.rule(name=CALLS, nth=NTH, how=DEATHS)
    def die_recovering(self, name: str, nth: int, how: Any) -> None:
        """Be killed in the middle of a recovery."""
        self.group.faults.on(name, how(), nth=nth)
        crashes.run(self.recover)
        self.restart()

    @stateful.rule()
    def settle(self) -> None:
        """Recover: after it, everything is as it must be."""
        self.recover()

        assert self.unsettled() == []

    # What must hold ---------------------------------------------------

    @stateful.invariant()
    def nothing_lost_or_shared(self) -> None:
        """Each guest runs on exactly one host, no mdev has two holders."""
        assert self.group.violations() == []

    @stateful.invariant()
    def no_more_than_there_is(self) -> None:
        """No mdev is claimed and used by different guests."""
        for host in self.group.hosts.values():
            uuids = [mdev.uuid for mdev in scenes.claims_on(host).held()]
            assert len(set(uuids)) == len(uuids)

    def unsettled(self) -> list[str]:
        """Return what is left once nobody is at work."""
        found = self.group.violations()
        for host in self.group.hosts.values():
            found += [f"claimed {each}" for each in scenes.claims_on(host).all]
            found += [f"unusable {uuid}" for uuid in host.unusable_mdevs()]
            extra = host.mdevs().keys() - host.used_mdevs().keys()
            found += [f"unused {uuid}" for uuid in extra - self.before]
        return found

    # How --------------------------------------------------------------

    def runs_on(self, guest: int) -> str:
        """Return the name of the host that runs a guest."""
        (name,) = (
            name
            for name, host in self.group.hosts.items()
            if builders.instance(guest) in host.running_guests()
        )
        return name

    def restart(self) -> None:
        """Let a new process begin."""
        self.group.faults.clear()
        self.group.wait_for_migrations()
        self.group.new_process()

    def open(self, uri: str) -> libvirt_host.LibvirtHost:
        """Open the host at a URI."""
        with libvirt_host.opening(uri):
            return libvirt_host.LibvirtHost(uri, opener=self.group.open)

    def run(self, guest: int, source: str) -> Outcome:
        """Migrate a guest as the command does."""
        here = self.group.hosts[source]
        (there,) = (h for h in self.group.hosts.values() if h is not here)
        return GuestMigration(
            self.open(here.uris[0]),
            Destination(self.open(there.uris[0]), crashes.LIMITS),
            f"vm-{guest}",
        ).run()

    def recover(self) -> None:
        """Settle on both hosts what others have left."""
        hosts = [self.open(h.uris[0]) for h in self.group.hosts.values()]
        for host in hosts:
            place = Destination(host, crashes.LIMITS)
            Recovery(place, hosts).run()


TestPromises = Promises.TestCase
TestPromises.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
