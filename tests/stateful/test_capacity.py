# SPDX-License-Identifier: Apache-2.0
"""Do many who compete for the mdevs of one host get exactly what fits?

Threads share one process; processes share nothing but the host, as commands
on different machines do: there is no folder, and no lock but libvirt's own.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import multiprocessing
import multiprocessing.managers
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import libvirt
import pytest
from lxml import etree

from mdev_migrate import exception, libvirt_host, model, testing
from mdev_migrate.core import claim_xml
from mdev_migrate.limits import Limits
from mdev_migrate.workflow import Destination
from mdev_migrate.workflow.provide import Provider
from mdev_migrate.workflow.values import mint
from tests import builders, scenes

PORTS, SPARES = 24, 4
THREADS, PROCESSES = 64, 8
#: Seconds: what takes longer hangs.
BOUND_S = 100.0
#: In a crowd everything takes longer, and nobody is dead.
LIMITS = dataclasses.replace(
    scenes.LIMITS,
    listed_s=BOUND_S,
    busy_s=5.0,
    beat_s=5.0,
    silent_s=BOUND_S,
    poll_s=0.005,
)


def share_libxml2() -> bool:
    """Tell whether lxml and libvirt use the same libxml2.

    lxml, while it parses, has its own loader of files there, which takes
    the parser of a libvirt that reads a file in another thread for one of
    lxml's, and crashes. The wheels of lxml have a libxml2 of their own.
    """
    loaders = [
        getattr(ctypes.CDLL(path), "xmlSetExternalEntityLoader", None)
        for path in (etree.__file__, libvirt.libvirtmod.__file__)
    ]
    places = {ctypes.cast(each, ctypes.c_void_p).value for each in loaders}
    return len(places) == 1


pytestmark = pytest.mark.skipif(
    share_libxml2(), reason="lxml and libvirt share libxml2 and may crash"
)


def take(
    host: Any, number: int, kinds: tuple[str, ...], limits: Limits = LIMITS
) -> list[str]:
    """Provide a guest with mdevs; return their UUIDs, nothing if full."""
    who = model.Claim(builders.instance(number), mint(), ())
    provider = Provider(
        Destination(host, limits),
        who,
        builders.wants(*kinds),
        claim_xml.PLAIN,
        entering=lambda _: None,
    )
    try:
        with provider.provide() as kept:
            return [mdev.uuid for mdev in kept.claim.mdevs]
    except (exception.TooFewMdevs, exception.MdevCreationFailed):
        return []


def run_threads(work: Callable[[int], None]) -> None:
    """Let all threads begin at once; wait for their end."""
    start = threading.Barrier(THREADS)
    problems: list[BaseException] = []

    def run(number: int) -> None:
        start.wait()
        try:
            work(number)
        except BaseException as error:
            problems.append(error)
            raise

    threads = [
        threading.Thread(target=run, args=(number,), daemon=True)
        for number in range(THREADS)
    ]
    deadline = time.monotonic() + BOUND_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), "a deadlock"
    assert problems == []


def make_host() -> testing.SimulatedHost:
    """Return a host with spare mdevs, and room for the rest."""
    _, there = testing.two_hosts()
    for number in range(SPARES):
        there.add_mdev(builders.uuid(0xB00 + number), "mtty-1")
    return there


def opened(there: testing.SimulatedHost) -> libvirt_host.LibvirtHost:
    """Reach the host by a connection of one's own."""
    return libvirt_host.LibvirtHost(there.uris[0], opener=there.group.open)


def check(
    title: str,
    there: testing.SimulatedHost,
    given: list[list[str]],
    size: int = 1,
) -> None:
    """Check that all was given, each once, and is claimed and there."""
    uuids = [uuid for each in given for uuid in each]
    twice = [uuid for uuid, count in Counter(uuids).items() if count > 1]
    claims = scenes.claims_on(there)
    print(  # noqa: T201
        f"{title}: {len(given)} guests, {len(uuids)} of {PORTS} given, "
        f"{len(twice)} twice"
    )
    assert (len(uuids), twice) == (PORTS // size * size, [])
    assert {mdev.uuid for mdev in claims.held()} == set(uuids)
    assert set(uuids) <= set(there.mdevs())
    assert {claim.step for claim in claims.all} == {model.Step.CREATE}


@pytest.mark.parametrize("size", [1, 2, 5])
def test_threads(size):
    """64 threads, each for a guest with so many mdevs: all that fits."""
    there = make_host()
    given: list[list[str]] = []

    run_threads(
        lambda number: given.append(
            take(opened(there), number, ("mtty-1",) * size)
        )
    )

    check(f"64 threads, {size} mdevs each", there, given, size)


def test_threads_for_one_guest():
    """Of 64 who migrate the same guest exactly one has its claim."""
    there = make_host()
    given: list[list[str]] = []

    def work(_: int) -> None:
        with contextlib.suppress(exception.ClaimHeld):
            given.append(take(opened(there), 1, ("mtty-1", "mtty-1")))

    run_threads(work)

    assert len(given) == 1
    assert len(scenes.claims_on(there).all) == 1


# Several machines -------------------------------------------------------


class Served:
    """A host as a server of ours makes it reachable for other processes."""

    def __init__(self, there: testing.SimulatedHost) -> None:
        self._there = there
        self._thread = threading.local()

    def call(
        self,
        path: tuple[str, ...],
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        """Make a call, by a connection of the client's own."""
        if not hasattr(self._thread, "host"):
            self._thread.host = opened(self._there)
        target = self._thread.host
        for name in path:
            target = getattr(target, name)
        return target(*args, **options)


class Manager(multiprocessing.managers.BaseManager):
    """Serves the host."""


class Remote:
    """The host as a process on another machine sees it."""

    def __init__(self, proxy: Any, path: tuple[str, ...] = ()) -> None:
        self._proxy, self._path = proxy, path

    def __getattr__(self, name: str) -> Remote:
        return Remote(self._proxy, (*self._path, name))

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._proxy.call(self._path, args, options)


def compete(
    address: Any, number: int, opening: Any, start: Any, results: Any
) -> None:
    """Take for eight guests, all at once, in a process of its own.

    :param opening: held by who connects: the server of the standard library
        loses some of those who come at the same moment.
    """
    Manager.register("served")

    def run(guest: int) -> None:
        with opening:
            manager = Manager(address=address, authkey=b"tests")
            manager.connect()
            host = Remote(manager.served())
            host.claims.read()
        start.wait()
        results.put(take(host, 8 * number + guest, ("mtty-1",)))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture
def address_of() -> Iterator[Callable[[testing.SimulatedHost], Any]]:
    """Return a function that serves a host; loopback alone hears it.

    Only what takes connections runs: the rest of the server ends its thread
    by an exit, and puts back what pytest captures.
    """
    servers = []

    def serve(there: testing.SimulatedHost) -> Any:
        served = Served(there)
        Manager.register("served", callable=lambda: served)
        manager = Manager(address=("127.0.0.1", 0), authkey=b"tests")
        server = manager.get_server()
        servers.append(server)
        server.stop_event = threading.Event()
        threading.Thread(target=server.accepter, daemon=True).start()
        return server.address

    yield serve
    for server in servers:
        server.stop_event.set()


def test_processes_that_share_nothing(address_of):
    """8 processes with 8 guests each: all that fits, nothing twice."""
    there = make_host()
    spawning = multiprocessing.get_context("spawn")
    opening, start = spawning.Lock(), spawning.Barrier(64)
    results = spawning.Queue()
    address = address_of(there)
    processes = [
        spawning.Process(
            target=compete,
            args=(address, number, opening, start, results),
            daemon=True,
        )
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    given = [results.get(timeout=BOUND_S) for _ in range(8 * PROCESSES)]
    for process in processes:
        process.join(BOUND_S)

    assert [process.exitcode for process in processes] == [0] * PROCESSES
    check("8 processes", there, given)
