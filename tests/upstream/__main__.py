# SPDX-License-Identifier: Apache-2.0
"""Run a Nova release's own tests with the mixin, and compare with stock.

    tools/nova-test RELEASE --upstream [--record] [--fresh]

A test must end as it does on the stock release, but for those that
``differences.ini`` lists with a reason: these must differ. How stock ends is
kept in ``releases``, for the package versions that it was run with. What
differs is tried once more, alone on both, before it counts.

The release's environment keeps how all of them ended last, for who looks for
the reason of a difference.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import csv
import dataclasses
import datetime
import hashlib
import io
import json
import os
import pathlib
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
DIFFERENCES = HERE / "differences.ini"
KEPT = HERE / "releases"
CONSTRAINTS = TOP / "tests" / "nova" / "constraints"
TABLE = TOP / "docs" / "nova" / "upstream-tests.csv"
#: Modules of tests, as far as a release has them.
SUITES = (
    "unit.virt.libvirt.test_driver",
    "unit.virt.libvirt.test_migration",
    "unit.objects.test_migrate_data",
    "unit.compute.test_compute_mgr",
    "functional.libvirt.test_vgpu",
    "functional.libvirt.test_live_migration",
    "functional.libvirt.test_numa_live_migration",
    "functional.libvirt.test_evacuate",
    "functional.compute.test_live_migration",
)
PREFIX = "nova.tests."
#: How each test ended, and what it said, by its id.
Outcomes = dict[str, dict[str, Any]]
#: The ids of the tests of each suite.
Suites = dict[str, list[str]]


def _short(test: str) -> str:
    return test.removeprefix(PREFIX)


def status(outcomes: Outcomes, test: str) -> str:
    """Return how a test ended."""
    return str(outcomes[test]["status"])


class Comparison(NamedTuple):
    """How tests ended on stock and with the mixin.

    :ivar wrong: ids of tests that differ and should not, or the reverse.
    :ivar gone: ids that are listed and that the release does not have.
    """

    suites: Suites
    stock: Outcomes
    ours: Outcomes
    wrong: list[str]
    gone: list[str]


@dataclasses.dataclass(frozen=True)
class Nova:
    """A release of Nova that is installed.

    :ivar python: the interpreter of its environment.
    """

    release: str
    python: str
    stock: bool

    @property
    def last(self) -> pathlib.Path:
        """Where it is kept how all tests ended last."""
        how = "stock" if self.stock else "mixin"
        folder = pathlib.Path(self.python).parent.parent
        return folder / f"upstream-{how}.json"

    @contextlib.contextmanager
    def worker(self, kind: str) -> Iterator[Worker]:
        """Start a process that runs tests, and end it."""
        options = ["--stock"] if self.stock else []
        command = [self.python, "-m", f"{__package__}.worker", kind]
        with (
            tempfile.TemporaryFile("w+") as said,
            subprocess.Popen(
                [*command, *options],
                cwd=TOP,
                env=dict(os.environ, OS_DEBUG="0", PYTHONPATH=str(TOP)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            ) as process,
        ):
            try:
                yield Worker(process, said)
            finally:
                process.kill()


class Worker:
    """A process that runs tests, one after the other."""

    def __init__(self, process: Any, said: Any) -> None:
        self._process = process
        self._said = said

    def ask(self, line: str) -> dict[str, Any] | None:
        """Return the answer to a line, None if there is no more."""
        with contextlib.suppress(BrokenPipeError):
            print(line, file=self._process.stdin, flush=True)
        found = self._process.stdout.readline()
        return json.loads(found) if found else None

    def last_words(self) -> str:
        """Return the end of what was said besides."""
        self._said.seek(0)
        return self._said.read()[-2000:]


def list_tests(nova: Nova, suites: Iterable[str]) -> Suites:
    """Return the ids of each suite's tests."""
    found = {}
    for suite in suites:
        kind = suite.partition(".")[0]
        with nova.worker(kind) as worker:
            answer = worker.ask(f"list nova.tests.{suite}")
            if answer is None:
                sys.exit(worker.last_words())
            found[suite] = answer["ids"]
    return found


def run_tests(nova: Nova, tests: Iterable[str], workers: int) -> Outcomes:
    """Run tests and return how each ended."""
    outcomes: Outcomes = {}
    for kind in ("unit", "functional"):
        waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        for test in tests:
            if test.startswith(f"nova.tests.{kind}."):
                waiting.put(test)
        threads = [
            threading.Thread(
                target=_work, args=(nova, kind, waiting, outcomes)
            )
            for _ in range(min(workers, waiting.qsize()))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return outcomes


def _work(nova: Nova, kind: str, waiting: Any, outcomes: Outcomes) -> None:
    """Run what is waiting, in a new process whenever one has died."""
    while not waiting.empty():
        with nova.worker(kind) as worker:
            while True:
                try:
                    test = waiting.get_nowait()
                except queue.Empty:
                    return
                outcome = worker.ask(f"run {test}")
                if outcome is None:
                    text = f"the process died: {worker.last_words()}"
                    outcomes[test] = {"status": "died", "text": text}
                    break
                outcomes[test] = outcome
                if len(outcomes) % 200 == 0:
                    print(f"  {len(outcomes)} done", flush=True)


# What is kept of stock ----------------------------------------------------


def made_for(release: str) -> str:
    """Return what stock's outcomes depend on, besides the machine."""
    constraints = (CONSTRAINTS / f"{release}.txt").read_text()
    parts = "\0".join((release, constraints, *SUITES))
    return hashlib.sha256(parts.encode()).hexdigest()


def kept_stock(nova: Nova, tests: Iterable[str]) -> Outcomes | None:
    """Return how each test ended on stock, None if that is outdated.

    It is kept here, or else in the environment of the release.
    """
    path = KEPT / f"{nova.release}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    if found.get("made_for") == made_for(nova.release):
        others = found["stock_others"]
        return {
            test: {"status": others.get(_short(test), "passed")}
            for test in tests
        }
    path = nova.last
    found = json.loads(path.read_text()) if path.exists() else {}
    if found.get("made_for") == made_for(nova.release):
        stock: Outcomes = found["outcomes"]
        return stock
    return None


def run_all(nova: Nova, tests: Sequence[str], workers: int) -> Outcomes:
    """Run all tests, and keep in the environment how they ended."""
    how = "on stock" if nova.stock else "with the mixin"
    print(f"{len(tests)} tests {how}: Nova {nova.release}", flush=True)
    outcomes = run_tests(nova, tests, workers)
    found = {"made_for": made_for(nova.release), "outcomes": outcomes}
    nova.last.write_text(json.dumps(found))
    return outcomes


def record(
    release: str, suites: Suites, stock: Outcomes, ours: Outcomes
) -> None:
    """Keep a release's outcomes, and write the table of all of them."""
    differing = [
        each for each in ours if status(ours, each) != status(stock, each)
    ]
    found = {
        "made_for": made_for(release),
        "date": datetime.datetime.now(datetime.timezone.utc)
        .date()
        .isoformat(),
        "stock": count(suites, stock),
        "mixin": count(suites, ours),
        "differing": count(suites, {each: ours[each] for each in differing}),
        "stock_others": {
            _short(test): status(stock, test)
            for test in stock
            if status(stock, test) != "passed"
        },
    }
    KEPT.mkdir(exist_ok=True)
    text = json.dumps(found, indent=1, sort_keys=True)
    (KEPT / f"{release}.json").write_text(text + "\n")
    TABLE.write_text(table())


def count(suites: Suites, outcomes: Outcomes) -> dict[str, dict[str, int]]:
    """Return how many tests of each suite ended how."""
    return {
        suite: dict(
            Counter(status(outcomes, test) for test in ids if test in outcomes)
        )
        for suite, ids in suites.items()
    }


def table() -> str:
    """Return a table of releases and suites: stock, and with the mixin."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["Release", "Tests", "Stock", "Mixin", "Differing", "Date"])
    for path in sorted(KEPT.glob("*.json")):
        found = json.loads(path.read_text())
        for suite in SUITES:
            if any(found["stock"][suite].values()):
                cells = [
                    _cell(found[key][suite]) for key in ("stock", "mixin")
                ]
                differing = sum(found["differing"][suite].values())
                rows.writerow(
                    [path.stem, suite, *cells, differing, found["date"]]
                )
    return text.getvalue()


def _cell(found: dict[str, int]) -> str:
    return ", ".join(f"{found[how]} {how}" for how in sorted(found))


# The list of what differs -------------------------------------------------


def expected(release: str) -> dict[str, str]:
    """Return the reason by the id of each test that is to differ."""
    listed = configparser.ConfigParser(interpolation=None)
    listed.read(DIFFERENCES)
    found = {}
    for name in listed.sections():
        section = listed[name]
        releases = section.get("releases", release).split()
        if {release, release.partition(".")[0]}.isdisjoint(releases):
            continue
        reason = " ".join(section["reason"].split())
        for test in section["tests"].split():
            found[f"{PREFIX}{test}"] = reason
    return found


def judge(ours: Outcomes, stock: Outcomes, listed: Iterable[str]) -> list[str]:
    """Return the ids of tests that differ and should not, or the reverse."""
    return [
        test
        for test in ours
        if (status(ours, test) != status(stock, test)) != (test in listed)
    ]


def compare(mixed: Nova, *, fresh: bool, workers: int) -> Comparison:
    """Run all tests with the mixin, and on stock if need be."""
    plain = dataclasses.replace(mixed, stock=True)
    suites = list_tests(mixed, SUITES)
    tests = [test for ids in suites.values() for test in ids]
    stock = None if fresh else kept_stock(plain, tests)
    if stock is None:
        stock = run_all(plain, tests, workers)
    ours = run_all(mixed, tests, workers)
    listed = expected(mixed.release)
    again = judge(ours, stock, listed)
    if again:
        print(f"{len(again)} once more, alone", flush=True)
        stock.update(run_tests(plain, again, 1))
        ours.update(run_tests(mixed, again, 1))
    gone = sorted(listed.keys() - ours.keys())
    return Comparison(suites, stock, ours, judge(ours, stock, listed), gone)


def _end(text: str) -> str:
    """Return the end of what a test said, without what it logged."""
    lines = [f"  {line[:300]}" for line in text.splitlines()[-20:]]
    return "\n".join(lines) or "  it is listed, and ends as on stock"


def main() -> int:
    """Compare, say what differs, and return whether anything must not."""
    parser = argparse.ArgumentParser(
        prog="tools/nova-test RELEASE --upstream",
        description=(__doc__ or "").split("\n")[0],
    )
    parser.add_argument("release", help=argparse.SUPPRESS)
    parser.add_argument("python", help=argparse.SUPPRESS)
    parser.add_argument(
        "--fresh", action="store_true", help="run stock, kept or not"
    )
    parser.add_argument(
        "--record", action="store_true", help="keep what came out, for docs"
    )
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    began = time.monotonic()
    found = compare(
        Nova(args.release, args.python, stock=False),
        fresh=args.fresh,
        workers=args.workers,
    )
    for test in found.wrong:
        print(f"\n{_short(test)}")
        print(f"  {status(found.stock, test)} on stock, otherwise with us:")
        print(_end(found.ours[test].get("text", "")))
    for test in found.gone:
        print(f"\n{_short(test)} is listed, and this release has it not")
    stock, ours = (
        count(found.suites, each) for each in (found.stock, found.ours)
    )
    for suite in SUITES:
        print(f"{suite}: {_cell(stock[suite])}; mixin: {_cell(ours[suite])}")
    wrong = len(found.wrong) + len(found.gone)
    seconds = time.monotonic() - began
    print(f"Nova {args.release}: {wrong} not as listed, {seconds:.0f} s")
    if args.record and not wrong:
        record(args.release, found.suites, found.stock, found.ours)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
