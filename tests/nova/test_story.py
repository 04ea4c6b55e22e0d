# SPDX-License-Identifier: Apache-2.0
"""The log of migrations as the operators' page shows it, made and compared.

With MDEV_MIGRATE_WRITE_DOCS=1 in the environment the page's text is written
anew, from what is logged.
"""

from __future__ import annotations

import inspect
import logging
import os
import pathlib
import re
from collections.abc import Iterator

from tests.nova import base

PAGE = (
    pathlib.Path(__file__).parents[2] / "docs" / "nova" / "migration-log.txt"
)
_UUID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
)
_VERSIONS = re.compile(r"mdev-migrate \S+ with Nova \S+:")


def _host_at_work() -> str:
    """Return the compute whose driver logs in this thread."""
    frame = inspect.currentframe()
    while frame is not None:
        host = getattr(frame.f_locals.get("self"), "mdev_compute_host", None)
        if isinstance(host, str):
            return host
        frame = frame.f_back
    return "nobody"


class _Lines(logging.Handler):
    """Keeps what the mixin logs, by host."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.by_host: dict[str, list[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        instance = getattr(record, "instance_uuid", None)
        prefix = f"[instance: {instance}] " if instance else ""
        line = f"{record.levelname} {prefix}{record.getMessage()}"
        self.by_host.setdefault(_host_at_work(), []).append(line)


class TestStory(base.MdevComputesTestCase):
    def setUp(self) -> None:
        self.lines = _Lines()
        logger = logging.getLogger("mdev_migrate")
        logger.addHandler(self.lines)
        self.addCleanup(logger.removeHandler, self.lines)
        super().setUp()

    def _named(self, instance_uuid: str) -> dict[str, str]:
        """Return what the UUIDs of the newest migration are called."""
        (target,) = self.target_host.created[-1:]
        (source,) = self.hosts["source"].created[-1:]
        migration = self.migration(instance_uuid)
        return {
            instance_uuid: "INSTANCE",
            migration.uuid: "MIGRATION",
            source: "SOURCE-MDEV",
            target: "TARGET-MDEV",
        }

    def _told(self, title: str, names: dict[str, str]) -> Iterator[str]:
        """Tell what both hosts have logged since the last time."""
        for host in ("source", "destination"):
            yield f"# {title}: the log of {host}"
            for line in self.lines.by_host.pop(host, []):
                yield _UUID.sub(lambda found: names[found[0]], line)
            yield ""

    def test_page(self):
        """One good and one failed migration, on both sides."""
        text = list(self._told("nova-compute starts", {}))
        good = self.boot()
        self.assertEqual("completed", self.run_migration(good))
        text += self._told("A guest is migrated", self._named(good))
        failing = self.boot()
        self.fail_migration(failing, "device state could not be loaded")
        self.assertEqual("failed", self.run_migration(failing))
        text += self._told("A migration fails", self._named(failing))

        made = _VERSIONS.sub(
            "mdev-migrate VERSION with Nova RELEASE:", "\n".join(text)
        )
        if os.environ.get("MDEV_MIGRATE_WRITE_DOCS"):
            PAGE.write_text(made)
        self.assertEqual(PAGE.read_text(), made)
        self.assertNotIn("nobody", self.lines.by_host)
