# SPDX-License-Identifier: Apache-2.0
"""A migration that is to fail, and what must be true afterwards."""

import contextlib
from dataclasses import dataclass

from mdev_migrate.limits import Limits
from mdev_migrate.workflow import (
    Destination,
    GuestMigration,
    Observer,
    Options,
    Outcome,
)
from tests.lab.command import Command, Running
from tests.lab.hosts import LabHost, until

#: Makes a guest that a slow migration does not catch up with.
BUSY = {"dirty_mib": 16}
SLOW = ("--bandwidth", "1")
#: Lets such a guest arrive, however little of a processor the hosts get.
PATIENT = ("--downtime", "60000", "--max-downtime", "60000")


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest that was started on host a.

    :ivar mdevs: its source mdevs, in its order.
    """

    name: str
    mdevs: list[str]


@dataclass(frozen=True, slots=True)
class Scene:
    """A guest on host a, and what was there before its migration.

    :ivar before: the mdevs of host b.
    """

    a: LabHost
    b: LabHost
    command: Command
    guest: Guest
    before: dict[str, str]
    count: int

    def migrate(self, *words: str, uri: str | None = None) -> Running:
        """Start the command."""
        source = uri or self.a.client_uri
        journey = (self.guest.name, "-c", source, *self.b.towards)
        return self.command.start("migrate", *journey, *words)

    def migrate_by_library(self, observer: Observer) -> Outcome:
        """Migrate by the public library, with somebody who hears of it."""
        with (
            contextlib.closing(self.a.open()) as source,
            contextlib.closing(self.b.open()) as destination,
        ):
            return GuestMigration(
                source,
                Destination(destination, Limits(listed_s=2.0)),
                self.guest.name,
                Options(
                    peer_uri=self.b.peer_uri, migrate_uri=self.b.migrate_uri
                ),
                observer=observer,
            ).run()

    def wait_for_copy(self) -> None:
        """Wait until a part of the guest's memory was sent."""
        until("copy of memory", lambda: self.a.copied(self.guest.name) > 2**20)

    def see_undone(self) -> None:
        """See the guest run on, and the destination as it was."""
        name = self.guest.name
        assert self.a.see_counting(name, self.count) > self.count
        assert not self.a.has_job(name)
        assert self.b.inventory().guests == ()
        assert self.b.mdevs() == self.before

    def see_next_succeed(self) -> None:
        """See that nothing stands in the way of the next attempt."""
        before = self.a.count(self.guest.name)
        answer = self.migrate(*PATIENT).end()
        assert (answer.status, answer.code) == (0, None), answer
        assert self.b.see_counting(self.guest.name, before) > before
