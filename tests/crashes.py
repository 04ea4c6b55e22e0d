# SPDX-License-Identifier: Apache-2.0
"""Two simulated hosts, a ledger in a folder, and processes that die."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import libvirt

from mdev_migrate import ledger, libvirt_host, service, testing
from mdev_migrate.core import claims
from mdev_migrate.workflow import (
    GuestMigration,
    Options,
    Outcome,
    Recovered,
    Recovery,
    clear,
)
from tests import builders, scenes

#: Short: what is not settled at once never will be, on simulated hosts.
LIMITS = service.Limits(
    listed_s=0.005,
    busy_s=0.05,
    settle_s=0.5,
    stable_s=0.004,
    poll_s=0.0005,
    tries=3,
)
#: The names of the call points of a ledger.
BEGIN, END = "edit-begins", "edit-ended"


class _Process:
    """The process that uses a ledger, as an effect sees it."""

    def __init__(self, faults: testing.Faults) -> None:
        self._faults = faults

    def cut(self, reason: int = 0) -> None:
        """There is no connection to break."""

    def die(self) -> None:
        """End the process."""
        self._faults.end_process()


class MortalStore:
    """A ledger's file that a dead process cannot write.

    Beginning to use it and having used it are call points, as the calls of
    a host are: whoever dies at the latter has written.
    """

    def __init__(
        self, store: ledger.FileStore, faults: testing.Faults
    ) -> None:
        self._store = store
        self._faults = faults

    def edit(self) -> contextlib.AbstractContextManager[dict[str, Any]]:
        """Lend the claims; see ``claims.Store``."""
        return self._mortal(self._store.edit)

    def edit_made(self) -> contextlib.AbstractContextManager[dict[str, str]]:
        """Lend what is remembered of mdevs made; see ``claims.Store``."""
        return self._mortal(self._store.edit_made)

    @contextlib.contextmanager
    def _mortal(
        self, edit: Callable[[], contextlib.AbstractContextManager[Any]]
    ) -> Iterator[Any]:
        self._meet(BEGIN)
        with edit() as lent:
            yield lent
        self._meet(END)

    def _meet(self, name: str) -> None:
        effect = self._faults.meet("ledger", name)
        effect(_Process(self._faults), lambda: None)


class Crashes:
    """A scene whose claims are in a ledger, and the process at work.

    :ivar owners: of the process that lives now.
    :ivar limits: how long it waits.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        mdev_types: Iterable[str],
        spare_types: Iterable[str] = (),
    ) -> None:
        self.folder = folder
        self.scene = scenes.Scene(mdev_types, spare_types, limits=LIMITS)
        self.group = self.scene.group
        self.spares = set(self.scene.there.mdevs())
        self.owners = ledger.Owners(folder, "test")
        self.limits = LIMITS

    def table(self, host: testing.SimulatedHost) -> claims.ClaimTable:
        """Return the claims on a host's mdevs."""
        facts = self.scene.host(host).facts()
        store = ledger.FileStore(self.folder, facts)
        return claims.ClaimTable(MortalStore(store, self.group.faults))

    def place(
        self, host: testing.SimulatedHost
    ) -> service.MdevMigration[libvirt_host.LibvirtHost]:
        """Reach a host, with the claims on its mdevs."""
        return service.MdevMigration(
            self.scene.host(host), self.table(host), limits=self.limits
        )

    def migrate(
        self, *, back: bool = False, options: Options | None = None
    ) -> Outcome:
        """Migrate the guest as the command does."""
        here, there = self.scene.here, self.scene.there
        if back:
            here, there = there, here
        return GuestMigration(
            self.scene.host(here),
            self.place(there),
            "vm",
            options,
            note=self.owners.note("vm", here.uris[0], there.uris[0]),
            may_replace=self.owners.may_replace,
            source_claims=self.table(here),
        ).run()

    def restart(self) -> None:
        """Let the process end, and a new one begin."""
        self.owners.close()
        self.group.wait_for_migrations()
        self.group.new_process()
        self.owners = ledger.Owners(self.folder, "test")

    def recover(self, *, dry_run: bool = False) -> list[Recovered]:
        """Settle on both hosts what others have left."""
        settled = []
        for host in (self.scene.there, self.scene.here):
            place = self.place(host)
            recovery = Recovery(place, self.open, self.owners)
            settled += recovery.run(dry_run=dry_run)
            uri = host.uris[0]
            note = self.owners.note("", uri, uri)
            clear(place, note, dry_run=dry_run)
        return settled

    def open(self, uri: str) -> libvirt_host.LibvirtHost:
        """Open the host at a URI."""
        return libvirt_host.LibvirtHost(uri, opener=self.scene.connect)

    def claimed(self) -> dict[str, claims.Claim]:
        """Return all claims, by instance UUID."""
        return {
            uuid: claim
            for host in (self.scene.here, self.scene.there)
            for uuid, claim in self.table(host).all().items()
        }

    def arrived(self) -> bool:
        """Tell whether the guest runs on the other host."""
        return self.scene.where() == [self.scene.there.name]

    def broken(self) -> list[str]:
        """Return the promises that do not hold now that all is settled."""
        found = self.group.violations()
        found += [f"claimed: {uuid}" for uuid in self.claimed()]
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


__all__ = ["BEGIN", "END", "LIMITS", "Crashes", "MortalStore", "builders"]
