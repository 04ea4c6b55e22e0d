# SPDX-License-Identifier: Apache-2.0
"""``mdev-migrate-status upgrade check`` with a real Nova's options."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import fixtures
from nova import test

PROGRAM = (
    "import sys; from mdev_migrate.nova import status; sys.exit(status.main())"
)
#: What oslo.upgradecheck calls well, to be looked at, and bad.
WELL, LOOK, BAD = range(3)


class TestUpgradeCheck(test.NoDBTestCase):
    """What an operator runs on a compute before it gets the mixin."""

    def _check(self, *lines: str) -> tuple[int, dict[str, tuple[int, str]]]:
        """Run it on libvirt's own test driver, whose QEMU is too old."""
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        file = folder / "nova.conf"
        uri = "[libvirt]\nconnection_uri = test:///default"
        file.write_text("\n".join((uri, *lines)) + "\n")
        ended = subprocess.run(  # noqa: S603 - ours
            [
                sys.executable,
                "-c",
                PROGRAM,
                "--config-file",
                str(file),
                "upgrade",
                "check",
                "--json",
            ],
            capture_output=True,
            check=False,
            text=True,
            timeout=120,
        )
        self.assertIn("{", ended.stdout, ended.stderr)
        answer = json.loads(ended.stdout[ended.stdout.index("{") :])
        return ended.returncode, {
            each["check"]: (each["result"], each["details"])
            for each in answer["checks"]
        }

    def test_defaults(self):
        """With Nova's own options all is well but what the host lacks."""
        status, found = self._check()

        self.assertEqual(BAD, status)
        well = {name for name, (level, _) in found.items() if level == WELL}
        self.assertEqual(
            {
                "Options",
                "Downtime",
                "Timeout action",
                "Bandwidth",
                "Secrecy",
                "Compute RPC",
                "Enabled types",
                "mdevctl",
                "Claims",
            },
            well - {"Conductors"},
        )
        self.assertEqual(BAD, found["Versions"][0])
        self.assertIn("too-old", found["Versions"][1])

    def test_what_is_in_the_way(self):
        """Each option that keeps guests from being migrated is named."""
        status, found = self._check(
            "live_migration_tunnelled = true",
            "live_migration_timeout_action = force_complete",
            "[mdev_migrate]",
            "max_downtime = 3000000",
            "[devices]",
            "enabled_mdev_types = nvidia-35",
        )

        self.assertEqual(BAD, status)
        self.assertEqual(BAD, found["Options"][0])
        self.assertIn("3000000", found["Options"][1])
        self.assertEqual(BAD, found["Secrecy"][0])
        self.assertEqual(LOOK, found["Timeout action"][0])
        self.assertEqual(LOOK, found["Enabled types"][0])
        self.assertIn("nvidia-35", found["Enabled types"][1])

    def test_no_libvirt(self):
        """A host that cannot be reached is bad, and the rest is told."""
        status, found = self._check("connection_uri = qemu+unix:///nowhere")

        self.assertEqual(BAD, status)
        self.assertEqual(BAD, found["Claims"][0])
        self.assertIn("host-unreachable", found["Claims"][1])
        self.assertEqual(WELL, found["Options"][0])
