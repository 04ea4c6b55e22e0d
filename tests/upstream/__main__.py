# SPDX-License-Identifier: Apache-2.0
"""Run a Nova release's own tests with the mixin, and compare with stock.

    tools/nova-test RELEASE --upstream [--record] [--fresh] [SUITE...]

A test must end as it does on the stock release, but for those that
``differences.ini`` lists with a reason: these must differ. How stock ends is
kept in ``releases``, for the package versions that it was run with. What
differs is tried once more, alone on both, before it counts.

A suite is a module of Nova's tests, or the beginning of some: unit.objects.
The release's environment keeps how each test ended last, for who looks for the
reason of a difference.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import dataclasses
import json
import os
import pathlib
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from tests.upstream.outcomes import (
    PREFIX,
    SUITES,
    Outcomes,
    Suites,
    cell,
    count,
    keep_last,
    kept_stock,
    record,
    short,
    status,
)

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
DIFFERENCES = HERE / "differences.ini"


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


def chosen(words: Sequence[str]) -> tuple[str, ...]:
    """Return the suites whose names begin with one of some words, or all."""
    if not words:
        return SUITES
    return tuple(each for each in SUITES if each.startswith(tuple(words)))


def run_all(nova: Nova, tests: Sequence[str], workers: int) -> Outcomes:
    """Run all tests, and keep in the environment how they ended."""
    how = "on stock" if nova.stock else "with the mixin"
    print(f"{len(tests)} tests {how}: Nova {nova.release}", flush=True)
    outcomes = run_tests(nova, tests, workers)
    keep_last(nova.release, nova.last, outcomes)
    return outcomes


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


def compare(
    mixed: Nova, names: Sequence[str], *, fresh: bool, workers: int
) -> Comparison:
    """Run the tests of suites with the mixin, and on stock if need be."""
    plain = dataclasses.replace(mixed, stock=True)
    suites = list_tests(mixed, names)
    tests = [test for ids in suites.values() for test in ids]
    stock = None if fresh else kept_stock(plain.release, tests, plain.last)
    if stock is None:
        stock = run_all(plain, tests, workers)
    ours = run_all(mixed, tests, workers)
    listed = {
        test: reason
        for test, reason in expected(mixed.release).items()
        if short(test).startswith(tuple(f"{name}." for name in names))
    }
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
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help="of these modules alone"
    )
    args = parser.parse_args()
    names = chosen(args.suites)
    if not names:
        parser.error(f"no such suite; there are {', '.join(SUITES)}")
    if args.record and names != SUITES:
        parser.error("what is kept for docs is made of all suites")
    began = time.monotonic()
    found = compare(
        Nova(args.release, args.python, stock=False),
        names,
        fresh=args.fresh,
        workers=args.workers,
    )
    for test in found.wrong:
        print(f"\n{short(test)}")
        print(f"  {status(found.stock, test)} on stock, otherwise with us:")
        print(_end(found.ours[test].get("text", "")))
    for test in found.gone:
        print(f"\n{short(test)} is listed, and this release has it not")
    stock, ours = (
        count(found.suites, each) for each in (found.stock, found.ours)
    )
    for suite in names:
        print(f"{suite}: {cell(stock[suite])}; mixin: {cell(ours[suite])}")
    wrong = [*found.wrong, *found.gone]
    seconds = time.monotonic() - began
    # Last of all, for who sees no more than the end of what was said.
    print(f"Nova {args.release}: {len(wrong)} not as listed, {seconds:.0f} s")
    for test in wrong:
        print(f"FAILED  {short(test)}")
    if args.record and not wrong:
        record(args.release, found.suites, found.stock, found.ours)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
