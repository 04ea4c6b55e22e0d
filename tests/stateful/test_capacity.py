# SPDX-License-Identifier: Apache-2.0
"""Do many who compete for 24 instances get exactly these, each once?"""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
import pathlib
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

import libvirt
import pytest
from lxml import etree

from mdev_migrate import (
    exception,
    ledger,
    libvirt_host,
    model,
    service,
    testing,
)
from mdev_migrate.core import allocation, claims, phases
from tests import builders, scenes

CAPACITY = 24
THREADS = 64
PROCESSES = 8
#: Seconds: what takes longer hangs.
BOUND_S = 60.0
#: Ports of the destination; mdevs that exist are not among them.
FOUND = builders.inventory([builders.mtty(CAPACITY)])
#: In a crowd everything takes longer.
LIMITS = dataclasses.replace(scenes.LIMITS, listed_s=BOUND_S)
HOST = model.HostFacts(
    "host-b",
    "00000000-0000-4000-8000-000000000001",
    model.Version(11, 3, 0),
    model.Version(10, 0, 0),
)


def give_way() -> None:
    """Let others overtake who has looked and has not taken yet.

    Threads that are no threads of the system go on only when one of them
    gives way.
    """
    time.sleep(0)


def take(
    table: claims.ClaimTable, instance: int, mint: Callable[[], str]
) -> list[str]:
    """Claim one mdev for an instance; return its UUID, nothing if full."""

    def choose(held: tuple[model.Mdev, ...]) -> allocation.AllocationPlan:
        give_way()
        return allocation.allocate(
            FOUND, builders.wants("mtty-1"), held=held, mint=mint
        )

    give_way()
    try:
        with table.claim(builders.instance(instance), choose) as plan:
            return [mdev.uuid for mdev in plan.mdevs]
    except exception.TooFewMdevs:
        return []


def run_threads(work: Callable[[int], None]) -> None:
    """Let all threads begin at once; wait for their end."""
    start = threading.Barrier(THREADS)

    def run(number: int) -> None:
        start.wait()
        work(number)

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


def check(given: list[str], table: claims.ClaimTable) -> None:
    """Check that all was given, each once, and is known to be."""
    twice = [uuid for uuid, count in Counter(given).items() if count > 1]
    assert (len(given), twice) == (CAPACITY, [])
    assert {mdev.uuid for mdev in table.held()} == set(given)


def compete(table_of: Callable[[int], claims.ClaimTable]) -> None:
    """Let all threads take, twice, with a release in between."""
    table = table_of(0)
    mint = builders.minting()
    for _ in range(2):
        given: list[str] = []

        run_threads(
            lambda n, out=given: out.extend(take(table_of(n), n, mint))
        )

        check(given, table)
        for instance in table.all():
            table.release(instance)


def test_memory():
    """64 threads get 24 instances, and as many again after a release."""
    table = claims.ClaimTable()

    compete(lambda _: table)


def test_ledger(tmp_path: pathlib.Path):
    """The same with claims that are written down."""
    table = claims.ClaimTable(ledger.FileStore(tmp_path, HOST))

    compete(lambda _: table)


def test_ledger_each(tmp_path: pathlib.Path):
    """The same if only the file is shared: each opens it for himself."""
    tables = [
        claims.ClaimTable(ledger.FileStore(tmp_path, HOST))
        for _ in range(THREADS)
    ]

    compete(tables.__getitem__)


#: Claims for its own 8 instances again and again, giving back every other
#: claim, until nothing is left to be had twice in a row.
COMPETITOR = """
import pathlib, sys
from mdev_migrate import ledger
from mdev_migrate.core import claims
from tests import builders
from tests.stateful import test_capacity
number = int(sys.argv[2])
store = ledger.FileStore(pathlib.Path(sys.argv[1]), test_capacity.HOST)
table = claims.ClaimTable(store)
mint = builders.minting(0x10000 * (number + 1))
print("ready", flush=True)
sys.stdin.readline()
for instance in range(8 * number, 8 * number + 8):
    for _ in range(2):
        test_capacity.take(table, instance, mint)
        table.release(builders.instance(instance))
    for uuid in test_capacity.take(table, instance, mint):
        print(uuid, flush=True)
"""


def competitor() -> str:
    """Return the program of a process, which is patched if this one is."""
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is None or not patcher.is_monkey_patched("thread"):
        return COMPETITOR
    return "import eventlet; eventlet.monkey_patch()\n" + COMPETITOR


def test_processes(tmp_path: pathlib.Path):
    """8 processes that claim and give back get 24 instances in the end."""
    started = time.monotonic()
    competitors = [
        subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-c", competitor(), str(tmp_path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=pathlib.Path(__file__).parents[2],
        )
        for number in range(PROCESSES)
    ]
    for each in competitors:
        assert each.stdout.readline() == "ready\n"
    for each in competitors:
        each.stdin.write("\n")
        each.stdin.flush()
    given = []
    for each in competitors:
        out, _ = each.communicate(timeout=BOUND_S)
        assert each.returncode == 0
        given += out.split()

    table = claims.ClaimTable(ledger.FileStore(tmp_path, HOST))
    mint = builders.minting(0xF00000)
    more = itertools.takewhile(
        bool, (take(table, number, mint) for number in range(100, 200))
    )
    given += [uuid for uuids in more for uuid in uuids]
    check(given, table)
    assert time.monotonic() - started < BOUND_S


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


class SlowLooker(libvirt_host.LibvirtHost):
    """A host whose client is overtaken after each look."""

    def inventory(self) -> model.Inventory:
        """Look, and let others act before this one does."""
        found = super().inventory()
        give_way()
        return found


@pytest.mark.skipif(
    share_libxml2(), reason="lxml and libvirt share libxml2 and may crash"
)
def test_whole_hosts():
    """64 threads create mdevs on a simulated host: all that fit, no more.

    Who looked while others were creating may learn it only from the host
    that there is no room.
    """
    _, there = testing.two_hosts()
    group = there.group
    table = claims.ClaimTable()
    plans: list[allocation.AllocationPlan] = []
    problems: list[BaseException] = []

    def work(number: int) -> None:
        place = service.MdevMigration(
            SlowLooker(there.uris[0], opener=group.open),
            table,
            limits=LIMITS,
        )
        instance = builders.instance(number)
        try:
            plans.append(place.provide(instance, builders.wants("mtty-1")))
        except (exception.TooFewMdevs, exception.MdevCreationFailed):
            pass
        except exception.MdevMigrateError as error:
            problems.append(error)

    run_threads(work)

    assert problems == []
    assert len(plans) == CAPACITY
    assert {mdev.uuid for plan in plans for mdev in plan.mdevs} == set(
        there.mdevs()
    )
    assert {claim.step for claim in table.all().values()} == {
        phases.Step.CREATE
    }
