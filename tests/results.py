# SPDX-License-Identifier: Apache-2.0
"""Write down what was tested with which versions, and how it ended.

With ``MDEV_MIGRATE_RESULTS`` a folder, a run of a whole suite leaves a file
of JSON there, in the place of an older one of the same suite and versions:

    what       simulated, lab, or nova
    versions   of what was tested with, by name
    date       when it ended, as YYYY-MM-DD
    commit     of this project; with a "+" if the tree was changed
    passed, failed, skipped
    seconds    that it took

``docs/tested.rst`` is made from such files. A relative folder is one of the
top of this tree. A run of chosen tests says nothing about the whole and
leaves nothing.

As a program, ``python -m tests.results nova ARGUMENT...``, this runs what
``python -m testtools.run ARGUMENT...`` does.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

VARIABLE = "MDEV_MIGRATE_RESULTS"
TOP = pathlib.Path(__file__).resolve().parents[1]
#: Versions that tests themselves find out.
found_versions: dict[str, str] = {}


@dataclasses.dataclass
class Counts:
    """How many tests ended how."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0


def folder() -> pathlib.Path | None:
    """Return where results are to be written; None if they are not."""
    named = os.environ.get(VARIABLE)
    return TOP / named if named else None


def write(
    what: str, versions: Mapping[str, str], counts: Counts, seconds: float
) -> pathlib.Path | None:
    """Write down a result if it is wanted, and return the file."""
    place = folder()
    if place is None:
        return None
    result = {
        "what": what,
        "versions": dict(versions),
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        **dataclasses.asdict(counts),
        "seconds": round(seconds),
    }
    words = [what, *(f"{name}-{versions[name]}" for name in sorted(versions))]
    path = place / f"{'_'.join(words)}.json"
    place.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return path


def python_version() -> str:
    """Return the version of Python, with a "t" if it has no lock."""
    is_locked = getattr(sys, "_is_gil_enabled", lambda: True)()
    return platform.python_version() + ("" if is_locked else "t")


def _commit() -> str:
    """Return the commit that is tested; empty where nothing tells."""
    call = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(  # noqa: S603 - of our own words
            call, cwd=TOP, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()


class Recorder:
    """A plugin of pytest that counts how tests end, and writes it down."""

    def __init__(self) -> None:
        self._counts = Counts()
        self._begun = time.monotonic()
        self._is_whole = True

    def pytest_deselected(self) -> None:
        """Know that not all tests are run."""
        self._is_whole = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test when it has been called, or could not be."""
        if report.failed:
            self._counts.failed += 1
        elif report.skipped:
            self._counts.skipped += 1
        elif report.when == "call":
            self._counts.passed += 1

    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int
    ) -> None:
        """Write down how all of it ended."""
        asked = {TOP / word for word in session.config.args}
        suites = {TOP / "tests": "simulated", TOP / "tests/lab": "lab"}
        what = {suites.get(path) for path in asked}
        if not self._is_whole or exitstatus > 1 or len(what) != 1:
            return
        name = what.pop()
        if name is not None:
            seconds = time.monotonic() - self._begun
            write(name, _versions(name), self._counts, seconds)


def _versions(what: str) -> dict[str, str]:
    """Return what a suite was run with."""
    versions = {"python": python_version()}
    if what == "simulated":
        import libvirt  # noqa: PLC0415 - the Nova tests have none

        from mdev_migrate import model  # noqa: PLC0415

        library = model.Version.unpack(libvirt.getVersion())
        versions["libvirt"] = str(library)
    return versions | found_versions


def main() -> int:
    """Run the tests of a suite that is no suite of pytest's."""
    import testtools.run  # noqa: PLC0415 - only Nova's environments have it

    what, *arguments = sys.argv[1:]
    begun = time.monotonic()
    program = testtools.run.TestProgram(
        module=None,
        argv=["testtools.run", *arguments],
        stdout=sys.stdout,
        exit=False,
    )
    result = program.result
    failed = len(result.errors) + len(result.failures)
    skipped = sum(map(len, getattr(result, "skip_reasons", {}).values()))
    counts = Counts(result.testsRun - failed - skipped, failed, skipped)
    versions = {
        "python": python_version(),
        "nova": importlib.metadata.version("nova"),
    }
    write(what, versions, counts, time.monotonic() - begun)
    return int(not result.wasSuccessful())


if __name__ == "__main__":
    sys.exit(main())
