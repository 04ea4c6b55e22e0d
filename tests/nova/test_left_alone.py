# SPDX-License-Identifier: Apache-2.0
"""Are hosts and guests left alone that have nothing to do with mdevs?

A host without mdev types is asked for no claims. One that has some asks in
each period, and whatever its libvirt answers, or if it does not answer at
all, guests without mdevs go on as in stock.
"""

from __future__ import annotations

import logging
import threading
import unittest
from collections.abc import Callable
from typing import Any

from nova.tests.fixtures import libvirt as fakelibvirt

from tests.nova import base, fake_host

LISTING = "nova.tests.fixtures.libvirt.Connection.listAllDomains"


def _nothing() -> None:
    """Let claims be listed as they are."""


class _Lines(logging.Handler):
    """Keeps what the mixin logs at WARNING and above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class _Computes(base.MdevComputesTestCase):
    """Computes whose libvirt is listened to when claims are listed.

    The mixin lists all domains at once for that, which Nova never does.

    :ivar listings: how often either host was asked.
    :ivar before_listing: what the destination does first.
    """

    def setUp(self) -> None:
        self.listings = 0
        self.before_listing: Callable[[], None] = _nothing
        said = _Lines()
        self.said = said.lines
        logger = logging.getLogger("mdev_migrate")
        logger.addHandler(said)
        self.addCleanup(logger.removeHandler, said)
        list_all = fakelibvirt.Connection.listAllDomains

        def listing(connection: Any, flags: int | None = None) -> Any:
            if not flags:
                self.listings += 1
                there = self.hosts.get("destination")
                if there is not None and there.connection is connection:
                    self.before_listing()
            return list_all(connection, flags)

        self._patch(LISTING, listing)
        super().setUp()

    def _period(self) -> None:
        """Let the periodic tasks of the destination run."""
        self.destination.manager.update_available_resource(self.context)

    def _move(self) -> None:
        """Do with a guest without mdevs what Nova does on a destination."""
        flavor = self._create_flavor()
        staying = self.boot(flavor, "destination")
        self.hard_reboot(staying)
        self.api.delete_server(staying)
        moving = self.boot(flavor)
        self.assertEqual("completed", self.run_migration(moving))
        self.assert_state(moving, "active", "destination")


class TestHostWithoutMdevs(_Computes):
    """A host that has no mdev types."""

    parents = 0
    parent_types = {}  # noqa: RUF012

    def test_asked_nothing(self):
        """It is asked for no claims, and nothing is said of them."""
        self._move()
        self._period()
        self.restart("destination")
        self._period()

        self.assertEqual(0, self.listings)
        self.assertEqual([], self.said)


class TestHostWithMdevs(_Computes):
    """A host that has some, and whose libvirt has trouble with claims."""

    @unittest.skipIf(base.STOCK, "stock Nova claims in memory")
    def test_trouble_is_said_once(self):
        """And again when it is another."""

        def fail() -> None:
            raise fake_host.libvirt_error(self.trouble)

        self.before_listing = fail
        for self.trouble in ("one", "one", "one", "two", "two"):
            self._period()

        self.assertEqual(2, len(self.said), self.said)
        for trouble, line in zip(("one", "two"), self.said, strict=True):
            self.assertIn("Claims cannot be read", line)
            self.assertIn(trouble, line)

    def test_guest_without_mdevs(self):
        """It does not hear of the trouble."""

        def fail() -> None:
            raise fake_host.libvirt_error("no claims today")

        self.before_listing = fail
        self._move()

    @unittest.skipIf(base.STOCK, "stock Nova claims in memory")
    def test_no_answer(self):
        """Nor does it wait for one that does not come.

        The resource tracker does. It is called here past Nova's queue of its
        calls, which both services have in common in this process.
        """
        (node,) = self.destination.driver.get_available_nodes()
        asked, answer = threading.Event(), threading.Event()
        self.addCleanup(answer.set)

        def wait() -> None:
            asked.set()
            answer.wait()

        self.before_listing = wait
        period = threading.Thread(
            target=self.destination.manager.rt.update_available_resource,
            args=(self.context, node),
        )
        period.start()
        self.wait_for(asked.is_set, "libvirt to be asked for claims")

        self._move()

        self.assertTrue(period.is_alive())
        answer.set()
        period.join()
