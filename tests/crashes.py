# SPDX-License-Identifier: Apache-2.0
"""Two simulated hosts, and processes that die."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import libvirt

from mdev_migrate import model, testing
from mdev_migrate.limits import Limits
from mdev_migrate.workflow import (
    Destination,
    GuestMigration,
    Options,
    Outcome,
    Recovered,
    Recovery,
)
from tests import builders, scenes

#: Short: what is not settled at once never will be, on simulated hosts.
LIMITS = Limits(
    listed_s=0.005,
    busy_s=0.05,
    settle_s=0.5,
    stable_s=0.004,
    poll_s=0.0005,
    beat_s=0.01,
    silent_s=0.04,
    tries=3,
)


class Crashes:
    """A scene, and the process at work.

    :ivar limits: how long it waits.
    """

    def __init__(
        self, mdev_types: Iterable[str], spare_types: Iterable[str] = ()
    ) -> None:
        self.scene = scenes.Scene(mdev_types, spare_types, limits=LIMITS)
        self.group = self.scene.group
        self.spares = set(self.scene.there.mdevs())
        self.limits = LIMITS

    def place(self, host: testing.SimulatedHost) -> Destination:
        """Reach a host."""
        return Destination(self.scene.host(host), self.limits)

    def migrate(
        self, *, back: bool = False, options: Options | None = None
    ) -> Outcome:
        """Migrate the guest as the command does."""
        here, there = self.scene.here, self.scene.there
        if back:
            here, there = there, here
        return GuestMigration(
            self.scene.host(here), self.place(there), "vm", options
        ).run()

    def restart(self) -> None:
        """Let the process end, and a new one begin.

        What its threads have called by then has an effect; if a beat came
        later, its owner would be taken for alive.
        """
        self.group.wait_for_migrations()
        for thread in threading.enumerate():
            if thread.name == "beat":
                thread.join(self.limits.settle_s)
        self.group.new_process()

    def recovery(
        self, host: testing.SimulatedHost | None = None, **how: bool
    ) -> Recovery:
        """Return the recovery of a host, told of all others."""
        host = host or self.scene.there
        others = [each for each in self.group.hosts.values() if each != host]
        sources = map(self.scene.host, others)
        return Recovery(self.place(host), sources, **how)

    def recover(self, *, dry_run: bool = False) -> list[Recovered]:
        """Settle on both hosts what others have left."""
        settled = []
        for host in (self.scene.there, self.scene.here):
            settled += self.recovery(host).run(dry_run=dry_run)
        return settled

    def claims(self) -> tuple[model.Claim, ...]:
        """Return all claims."""
        return self.scene.claims()

    def arrived(self) -> bool:
        """Tell whether the guest runs on the other host."""
        return self.scene.where() == [self.scene.there.name]

    def broken(self) -> list[str]:
        """Return the promises that do not hold now that all is settled."""
        found = self.group.violations()
        found += [f"claimed: {each}" for each in self.claims()]
        for host in (self.scene.here, self.scene.there):
            found += [f"unusable: {uuid}" for uuid in host.unusable_mdevs()]
        own = set(self.scene.there.mdevs()) - self.spares
        if own - self.scene.there.used_mdevs().keys():
            found.append("an mdev was made for no guest")
        if self.spares - self.scene.there.mdevs().keys():
            found.append("an mdev that was there before is gone")
        return found

    def broken_after_retry(self) -> list[str]:
        """Migrate the guest away from where it is; return what is broken."""
        back = self.arrived()
        outcome = self.migrate(back=back)
        found = [] if outcome.error is None else [f"again: {outcome.error}"]
        if self.arrived() == back:
            found.append("again: the guest is where it was")
        found += [f"again: {text}" for text in self.broken()]
        return found


def fail_the_copy(step: testing.Step) -> None:
    """Let the copy of a migration fail; a ``pace``."""
    if (step.phase, step.number) == ("copy", 3):
        raise testing.libvirt_error(
            libvirt.VIR_ERR_OPERATION_FAILED, "the copy failed"
        )


def run(work: Callable[[], object]) -> bool:
    """Do some work; tell whether the process lives."""
    try:
        work()
    except testing.ProcessDied:
        return False
    return True


def kinds(count: int) -> list[str]:
    """Return so many mdev types."""
    return [("mtty-1", "mtty-2")[number % 2] for number in range(count)]


__all__ = ["LIMITS", "Crashes", "builders"]
