# SPDX-License-Identifier: Apache-2.0
"""What do simulated hosts share, and how are they found by URI?"""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from mdev_migrate.testing import errors
from mdev_migrate.testing.connection import SimulatedConnection
from mdev_migrate.testing.faults import DEFAULT_LIMIT_S, Faults
from mdev_migrate.testing.parents import MttyParent, Parent
from mdev_migrate.testing.simulated_host import SimulatedHost
from mdev_migrate.testing.transfer import Migration, Step

_HOST_UUID = "00000000-0000-4000-8000-{:012d}"


class SimulatedGroup:
    """Hosts that reach each other, under one lock.

    :ivar pace: called before each step of each migration, in that
        migration's thread, with no lock held; does nothing by default.
    :ivar copy_rounds: how many rounds the copy of a migration takes.
    :ivar faults: what is to fail, and the record of all calls.
    :ivar expected_guests: guests that were started and nobody stopped.
    """

    def __init__(self) -> None:
        self.hosts: dict[str, SimulatedHost] = {}
        self.faults = Faults()
        self.pace: Callable[[Step], None] = _at_once
        self.copy_rounds = 10
        self.expected_guests: set[str] = set()
        self._lock = threading.RLock()
        self._depth = 0
        self._later: list[Callable[[], None]] = []
        self._running: dict[Migration, threading.Thread] = {}

    def add_host(
        self,
        name: str,
        parents: Iterable[Parent] = (),
        *,
        uris: Iterable[str] = (),
        host_uuid: str | None = None,
    ) -> SimulatedHost:
        """Add a host and return it; its other facts are attributes.

        :param parents: what its mdevs are cut from.
        :param uris: all its URIs, the one for clients first;
            ``qemu+tls://NAME/system`` by default.
        :param host_uuid: minted if not given, the same in every run.
        """
        uris = tuple(uris) or (f"qemu+tls://{name}/system",)
        host_uuid = host_uuid or _HOST_UUID.format(len(self.hosts) + 1)
        host = SimulatedHost(self, name, uris, host_uuid, parents)
        self.hosts[name] = host
        return host

    def open(self, uri: str) -> SimulatedConnection:
        """Open a connection, as ``libvirt.open`` does.

        :raises libvirt.libvirtError: if no daemon answers at the URI.
        """
        host = self._by_uri(uri)
        opened = SimulatedConnection(host, uri)

        def answer() -> SimulatedConnection:
            with self.changing():
                host.check_reachable(uri)
                host.connections.append(opened)
            return opened

        effect = self.faults.meet(host.name, "open")
        effect(opened.link, answer)
        return opened

    def reach(self, uri: str) -> SimulatedHost:
        """Return the host whose daemon answers at a URI.

        :raises libvirt.libvirtError: if no daemon answers there.
        """
        host = self._by_uri(uri)
        host.check_reachable(uri)
        return host

    def kill_process(self) -> None:
        """End the client's process now, whatever it waits for.

        Migrations that it started go on. Every call raises
        :class:`ProcessDied` until :meth:`new_process`.
        """
        self.faults.end_process()
        with self.changing():
            for host in self.hosts.values():
                for opened in host.connections:
                    opened.link.die()
                host.connections.clear()

    def new_process(self) -> None:
        """Let a new process take over; it opens connections of its own."""
        self.kill_process()
        self.faults.new_process()

    def hold(self, phase: str, number: int = 0) -> "Gate":
        """Hold the next migration that comes to a step, until released."""
        return Gate(self, phase, number)

    def wait_for_migrations(self, limit_s: float = DEFAULT_LIMIT_S) -> None:
        """Wait until no migration runs, though nobody waits for its result.

        :raises TimeoutError: if one still runs after the limit.
        """
        with self._lock:
            threads = list(self._running.values())
        for thread in threads:
            thread.join(limit_s)
            if thread.is_alive():
                raise TimeoutError(f"a migration still runs after {limit_s} s")

    def violations(self) -> list[str]:
        """Return what must never be, one sentence for each: best none."""
        with self.changing():
            return [
                *self._crashes(),
                *self._misplaced_guests(),
                *self._shared_mdevs(),
            ]

    def check_invariants(self) -> None:
        """Fail if a guest is lost or doubled, an mdev shared, a host dead.

        :raises AssertionError: naming everything that is wrong.
        """
        found = self.violations()
        if found:
            raise AssertionError("; ".join(found))

    # What the hosts need.

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock; send the events that are due when it is free."""
        due: list[Callable[[], None]] = []
        try:
            with self._lock:
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                    if not self._depth:
                        due, self._later = self._later, []
        finally:
            for call in due:
                call()

    def later(self, call: Callable[[], None]) -> None:
        """Make a call when the lock is free again."""
        self._later.append(call)

    def run_migration(self, job: Migration, ended: threading.Event) -> None:
        """Run a migration in a thread of its own."""

        def run() -> None:
            try:
                job.run()
            finally:
                with self._lock:
                    del self._running[job]
                ended.set()

        thread = threading.Thread(target=run, daemon=True, name="migration")
        self._running[job] = thread
        thread.start()

    def wake_migrations(self) -> None:
        """Let migrations that do not converge look around again."""
        with self._lock:
            for job in self._running:
                job.changed.set()

    def _by_uri(self, uri: str) -> SimulatedHost:
        for host in self.hosts.values():
            if uri in host.uris:
                return host
        raise errors.refused(uri)

    def _crashes(self) -> Iterator[str]:
        for host in self.hosts.values():
            if host.crashed:
                yield f"host {host.name} crashed: {host.crashed}"

    def _misplaced_guests(self) -> Iterator[str]:
        running = Counter(
            uuid
            for host in self.hosts.values()
            for uuid in host.guests.running()
        )
        for uuid in sorted(self.expected_guests | running.keys()):
            if running[uuid] != 1:
                yield f"guest {uuid} runs on {running[uuid]} hosts"

    def _shared_mdevs(self) -> Iterator[str]:
        for host in self.hosts.values():
            users = host.guests.mdev_users()
            for mdev_uuid, guests in sorted(users.items()):
                if len(guests) > 1:
                    yield (
                        f"mdev {mdev_uuid} on {host.name} is used by "
                        f"{', '.join(guests)}"
                    )


class Gate:
    """Holds one migration at one step, without the test having to wait.

    ::

        with group.hold("copy", 3) as gate:
            ...                     # start a migration in another thread
            gate.wait_reached()
            ...                     # it stands still before round 3
        # leaving the block lets it go on
    """

    def __init__(self, group: SimulatedGroup, phase: str, number: int) -> None:
        self._group = group
        self._wanted = (phase, number)
        self._reached = threading.Event()
        self._released = threading.Event()
        self._pace = group.pace

    def __enter__(self) -> "Gate":
        self._group.pace = self._hold
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    def wait_reached(self, limit_s: float = DEFAULT_LIMIT_S) -> None:
        """Wait until a migration stands at the gate.

        :raises TimeoutError: if none came within the limit.
        """
        if not self._reached.wait(limit_s):
            raise TimeoutError(f"no migration reached {self._wanted}")

    def release(self) -> None:
        """Let the migration go on, and hold no other."""
        self._group.pace = self._pace
        self._released.set()

    def _hold(self, step: Step) -> None:
        self._pace(step)
        if (step.phase, step.number) == self._wanted:
            self._reached.set()
            self._released.wait(DEFAULT_LIMIT_S)


def two_hosts(
    source_parents: Iterable[Parent] | None = None,
    destination_parents: Iterable[Parent] | None = None,
) -> tuple[SimulatedHost, SimulatedHost]:
    """Return two hosts of one group, ``host-a`` and ``host-b``.

    Each has one mtty parent unless others are given.

    >>> source, destination = two_hosts()
    >>> source.open().getHostname(), destination.uris[0]
    ('host-a', 'qemu+tls://host-b/system')
    """
    group = SimulatedGroup()
    here = [MttyParent()] if source_parents is None else source_parents
    there = (
        [MttyParent()] if destination_parents is None else destination_parents
    )
    return group.add_host("host-a", here), group.add_host("host-b", there)


def _at_once(step: Step) -> None:
    """Wait for nothing."""
