# SPDX-License-Identifier: Apache-2.0
"""Run tests of the Nova that is installed, with the mixin or without.

Reads lines: ``list MODULE`` is answered by the ids of its tests, and
``run ID`` by how that test ended; each answer is a line of JSON. ``--stock``
leaves Nova as it is; the first argument is the kind: unit or functional.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import os
import sys
import time
import unittest
from typing import Any, TextIO

import testtools


def put_in_place(kind: str) -> None:
    """Put the mixin in place: as in production, or for unit tests."""
    from nova.compute import manager as compute_manager  # noqa: PLC0415
    from nova.virt import libvirt  # noqa: PLC0415

    from mdev_migrate import nova as mdev_nova  # noqa: PLC0415
    from mdev_migrate.nova import manager  # noqa: PLC0415
    from tests.upstream import fake_claims  # noqa: PLC0415

    fake_claims.extend()
    if kind == "unit":
        compose_in_place()
    else:
        mdev_nova.install()
    stock_init = compute_manager.ComputeManager.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        """Wrap each manager: these tests' drivers would not."""
        stock_init(self, *args, **kwargs)
        ours = self.driver
        if not hasattr(ours, "mdev_compute"):
            ours = libvirt.LibvirtDriver(self.virtapi)
        manager.wrap(self, ours)

    compute_manager.ComputeManager.__init__ = init


def compose_in_place() -> None:
    """Put the mixin between Nova's driver class and its own methods.

    Unit tests make, take apart and patch the class that is in Nova's driver
    module: that object must stay. The methods that the mixin extends move to
    a base behind it.
    """
    from nova.virt import driver as virt_driver  # noqa: PLC0415
    from nova.virt.libvirt import driver  # noqa: PLC0415

    from mdev_migrate.compute.boots import (  # noqa: PLC0415
        BOOTS,
        while_booting,
    )
    from mdev_migrate.nova.mixin import NovaMixin  # noqa: PLC0415

    stock = driver.LibvirtDriver
    extended = [
        name
        for name in vars(stock)
        if name in BOOTS
        or (hasattr(NovaMixin, name) and not name.startswith("__"))
    ]
    moved = {name: vars(stock)[name] for name in extended}
    behind = type("StockMethods", stock.__bases__, moved)
    stock_init = stock.__init__

    def init(self: Any, virtapi: Any, read_only: bool = False) -> None:
        stock_init(self, virtapi, read_only)
        self._prepare_mdevs()

    class InFront(NovaMixin):
        def __init__(self, virtapi: Any) -> None:
            virt_driver.ComputeDriver.__init__(self, virtapi)

    for name in BOOTS:
        setattr(InFront, name, while_booting(behind, name))
    for name in extended:
        delattr(stock, name)
    stock.__init__ = functools.wraps(stock_init)(init)
    stock.__bases__ = (InFront, behind)


class Result(testtools.TestResult):
    """Remembers how the last test ended."""

    def __init__(self) -> None:
        super().__init__()
        self.status, self.text = "passed", ""

    def _note(self, status: str, err: Any, details: Any) -> None:
        self.status = status
        self.text = self._err_details_to_string(None, err, details)

    def addError(self, test, err=None, details=None):  # noqa: N802
        """Note an error."""
        self._note("failed", err, details)

    addFailure = addError  # noqa: N815

    def addSkip(self, test, reason=None, details=None):  # noqa: N802
        """Note a skip."""
        self.status = "skipped"

    def addExpectedFailure(self, test, err=None, details=None):  # noqa: N802
        """Note a failure that the test expects: it passed."""

    def addUnexpectedSuccess(self, test, details=None):  # noqa: N802
        """Note that a test passed that should not."""
        self.status = "failed"


def each_test(suite: Any) -> list[Any]:
    """Return the tests of a suite of suites."""
    if not isinstance(suite, unittest.TestSuite):
        return [suite]
    return [test for part in suite for test in each_test(part)]


def answer(what: str, name: str) -> list[dict[str, Any]]:
    """Return what a line is answered with."""
    loader = unittest.TestLoader()
    if what == "list":
        if importlib.util.find_spec(name) is None:
            return [{"ids": []}]
        module = importlib.import_module(name)
        tests = each_test(loader.loadTestsFromModule(module))
        return [{"ids": [test.id() for test in tests]}]
    result = Result()
    began = time.monotonic()
    try:
        loader.loadTestsFromName(name).run(result)
    except (KeyboardInterrupt, SystemExit) as error:
        result.status, result.text = "failed", repr(error)
    seconds = round(time.monotonic() - began, 2)
    return [
        {
            "id": name,
            "status": result.status,
            "seconds": seconds,
            "text": result.text,
        }
    ]


def serve(lines: TextIO, answers: TextIO) -> None:
    """Answer each line."""
    for line in lines:
        what, name = line.split()
        for each in answer(what, name):
            print(json.dumps(each), file=answers, flush=True)


def main() -> None:
    """Make Nova ready, then serve."""
    answers = os.fdopen(os.dup(1), "w")
    # What tests print is nobody's answer.
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    importlib.import_module(f"nova.tests.{sys.argv[1]}")
    if "--stock" not in sys.argv:
        put_in_place(sys.argv[1])
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
