# SPDX-License-Identifier: Apache-2.0
"""What the operators of a cloud meet: their platforms, options and words."""

from __future__ import annotations

import pathlib

import fixtures

from tests.nova import base


class TestKernels(base.MdevComputesTestCase):
    """Hosts are judged by what is in their kernel, not by its number."""

    def run_on(self, release: str) -> None:
        """Let both hosts run a kernel."""
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        path = folder / "osrelease"
        path.write_text(f"{release}\n")
        self._patch("mdev_migrate.compute.driver_host._KERNEL", path)

    def test_red_hat_9(self):
        """The platform that vendors of vGPUs support takes part."""
        self.run_on("5.14.0-570.12.1.el9_6.x86_64")
        server = self.boot()

        self.assertEqual("completed", self.run_migration(server))

    def test_enterprise_kernel_that_nobody_knows(self):
        """It takes part too, and the log says what is not known."""
        self.run_on("5.15.0-200.131.27.el9uek.x86_64")
        server = self.boot()

        self.assertEqual("completed", self.run_migration(server))
        self.assertIn("Not known: source host", self.stdlog.logger.output)
        self.assertIn("vendor-kernel-unknown", self.stdlog.logger.output)

    def test_mainline_too_old(self):
        """A mainline number below 5.18 is refused."""
        self.run_on("5.15.0-91-generic")
        server = self.boot()

        self.refused(server)

        self.assert_state(server, "active", "source")
        self.assertIn("kernel-too-old", self.stdlog.logger.output)
