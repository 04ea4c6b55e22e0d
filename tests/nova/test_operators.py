# SPDX-License-Identifier: Apache-2.0
"""What the operators of a cloud meet: their platforms, options and words."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Any

import fixtures
from nova import test
from nova.tests.fixtures import libvirt as fakelibvirt

from mdev_migrate.compute import target_claims
from tests.nova import base, fake_host
from tests.nova.fake_host import PARENTS, TYPE_A, TYPE_B


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
        self.assertIn("not known: source host", self.stdlog.logger.output)
        self.assertIn("vendor-kernel-unknown", self.stdlog.logger.output)

    def test_mainline_too_old(self):
        """A mainline number below 5.18 is refused."""
        self.run_on("5.15.0-91-generic")
        server = self.boot()

        self.refused(server)

        self.assert_state(server, "active", "source")
        self.assertIn("kernel-too-old", self.stdlog.logger.output)


class TestOptions(base.MdevComputesTestCase):
    """What an operator mistypes hurts no guest."""

    def setUp(self) -> None:
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.file = folder / "nova.conf"
        self._write("max_downtime = 5000")
        super().setUp()

    def _write(self, line: str) -> None:
        self.file.write_text(f"[mdev_migrate]\n{line}\n")

    def start_host(self, name: str, versions: dict[str, int]) -> None:
        """Start a compute with the file of ours as its configuration."""
        if not base.CONF.config_file:
            base.CONF(
                ["--config-file", str(self.file)],
                project="nova",
                default_config_files=[],
            )
        super().start_host(name, versions)

    def _bad_value(self, value: str) -> None:
        """Let both services get SIGHUP after a bad value was written."""
        self._write(f"max_downtime = {value}")
        base.CONF.mutate_config_files()
        self.assertIn(
            f"max_downtime: {value!r} found", self.stdlog.logger.output
        )

    def test_bad_value_before_a_migration(self):
        """A guest is migrated with the last value that was good."""
        server = self.boot()
        self._bad_value("3000000")
        held = self.hold(server)
        self.live_migrate(server)
        self.wait_for(lambda: held.downtimes, "a downtime to be set")
        held.go_on.set()

        self.assertEqual("completed", self.finish(server))
        self.assert_state(server, "active", "destination")
        self.assertEqual(500, held.downtimes[0])

    def test_bad_value_during_a_migration(self):
        """One that is under way goes on as it began."""
        server = self.boot()
        held = self.hold(server)
        self.live_migrate(server)
        self.wait_for(held.started.is_set, "libvirt to be called")
        self._bad_value("abc")
        held.go_on.set()

        self.assertEqual("completed", self.finish(server))
        self.assert_state(server, "active", "destination")


class TestLauncher(test.NoDBTestCase):
    """``nova-compute-mdev`` does not come up with what it cannot use."""

    def _start(self, *lines: str) -> subprocess.CompletedProcess[str]:
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        file = folder / "nova.conf"
        file.write_text(
            f"[DEFAULT]\nstate_path = {folder}\ntransport_url = fake:/\n"
            "compute_driver = libvirt.LibvirtDriver\n"
            "[mdev_migrate]\n" + "\n".join(lines) + "\n"
        )
        return subprocess.run(  # noqa: S603 - ours
            [
                sys.executable,
                "-c",
                "from mdev_migrate.nova import launcher; launcher.main()",
                "--config-file",
                str(file),
            ],
            capture_output=True,
            check=False,
            text=True,
            timeout=120,
        )

    def test_bad_option(self):
        """It ends with the option, what was found and what is needed."""
        for line, said in (
            ("max_downtime = 3000000", "'3000000' found, 0 to 2000000"),
            ("busy_timeout = nan", "'nan' found, 0 or more seconds"),
            ("listed_timeout =", "'' found, 0 or more seconds"),
        ):
            ended = self._start(line)

            self.assertEqual(2, ended.returncode, ended.stderr)
            last = ended.stderr.strip().splitlines()[-1]
            self.assertIn(said, last)
            self.assertIn("option-invalid", last)


class TestSecrecy(base.MdevComputesTestCase):
    """What an operator wants to be secret is not sent in clear."""

    def _restart_with(self, **options: bool) -> None:
        self.flags(group="libvirt", **options)
        self.restart("source")

    def test_tunnelled(self):
        """A guest that would be sent without its tunnel is refused."""
        self._restart_with(live_migration_tunnelled=True)
        server = self.boot()

        self.refused(server)

        self.assert_state(server, "active", "source")
        self.assertEqual([], self.libvirt_migrations.calls)
        self.assertIn("tunnel-unsupported", self.stdlog.logger.output)

    def test_native_tls(self):
        """What QEMU itself encrypts is migrated."""
        self._restart_with(live_migration_with_native_tls=True)
        server = self.boot()

        self.assertEqual("completed", self.run_migration(server))
        (migration,) = self.libvirt_migrations.calls
        self.assertTrue(migration.flags & fakelibvirt.VIR_MIGRATE_TLS)


class TestBusyGuest(base.MdevComputesTestCase):
    """A link is cut: libvirt can not tell for a while how far it is."""

    def _plan(self, server: str, error: Exception | None) -> None:
        planned = self.plan(server)
        planned.go_on.clear()
        planned.busy, planned.error = 2, error

    def test_ends_well(self):
        """The link comes back, and the guest arrives."""
        server = self.boot()
        self._plan(server, None)

        self.assertEqual("completed", self.run_migration(server))

        self.assert_state(server, "active", "destination")
        self.assertIn("not known how far it is", self.stdlog.logger.output)

    def test_fails(self):
        """It does not: the guest stays, is not in ERROR, and all is undone."""
        server = self.boot()
        self._plan(server, fake_host.libvirt_error("link is gone"))

        self.assertIn(self.run_migration(server), ("failed", "error"))

        self.assert_state(server, "active", "source")
        self.assertEqual({}, self.target_host.mdevs)


class TestRestartedLibvirt(base.MdevComputesTestCase):
    """The source's libvirtd is restarted during the migration."""

    def _plan(self, server: str, *unheard: Exception) -> base.Migration:
        planned = self.hold(server)
        planned.unheard = [_lost(), *unheard]
        return planned

    def test_the_guest_stays(self):
        """It is not in ERROR, and the destination has undone its part."""
        server = self.boot()
        self._plan(server).error = fake_host.libvirt_error("end of file")

        self.assertIn(self.run_migration(server), ("failed", "error"))

        self.assert_state(server, "active", "source")
        self.assertEqual({}, self.target_host.mdevs)

    def test_it_had_left(self):
        """The new one has no such guest: it has arrived."""
        server = self.boot()
        self._plan(server)

        self.assertEqual("completed", self.run_migration(server))

        self.assert_state(server, "active", "destination")

    def test_it_comes_back_slowly(self):
        """It is lost once more, and then still has hold of the guest."""
        server = self.boot()
        busy = fake_host.libvirt_error(
            "cannot acquire state change lock",
            fakelibvirt.VIR_ERR_OPERATION_TIMEOUT,
        )
        planned = self._plan(server, _lost(), busy)
        planned.error = fake_host.libvirt_error("end of file")

        self.assertIn(self.run_migration(server), ("failed", "error"))

        self.assert_state(server, "active", "source")
        self.assertEqual({}, self.target_host.mdevs)

    def test_it_may_have_left(self):
        """Paused, as it may run on the destination: nothing is destroyed."""
        server = self.boot()
        planned = self._plan(server)
        planned.error = fake_host.libvirt_error("end of file")
        planned.held = True

        self.assertEqual("error", self.run_migration(server))

        self.assert_state(server, "error", "source")
        self.assertEqual(1, len(self.target_host.mdevs))
        self.assertIn("paused (migrating)", self.stdlog.logger.output)


def _lost() -> Exception:
    return fake_host.libvirt_error("client socket is closed")


class TestWords(base.MdevComputesTestCase):
    """A refusal sends its reader the right way."""

    parents = 3

    def _refused(self, server: str, *words: str) -> None:
        self.refused(server)

        self.assert_state(server, "active", "source")
        self.assertEqual([], self.libvirt_migrations.calls)
        for word in words:
            self.assertIn(word, self.stdlog.logger.output)

    def test_type_not_enabled(self):
        """What is not enabled is not said to be missing from the card."""
        server = self.boot()
        self.configure_types({PARENTS[1]: TYPE_B})
        self.destination.driver.supported_vgpu_types = [TYPE_B]

        self._refused(server, "enabled in its nova.conf: ", TYPE_B)

    def test_guest_that_stock_nova_left_short(self):
        """A guest with fewer mdevs than its flavor asks for."""
        if base.RELEASE > 32:
            self.skipTest("Nova 33 and later boot it with all of them")
        server = self.boot(self.parents_flavor(TYPE_A, TYPE_A))
        self.assertEqual(1, len(self.guest_mdevs("source", server)))

        self._refused(server, "guest-short-of-mdevs", "hard reboot or rebuild")

    def test_parent_is_full(self):
        """How many were wanted, and how many there were."""
        server = self.boot(self.mdev_flavor(mdevs=2))
        for _ in range(3):
            # By hand: Placement has not heard of it yet.
            for parent in (PARENTS[0], PARENTS[2]):
                self.target_host.create(parent, TYPE_B)

        self._refused(server, "too-few-mdevs", "for 2 mdevs", "found: 1 of")
        self.assertEqual(6, len(self.target_host.mdevs))

    def test_disk_is_full(self):
        """Where a claim cannot be written it is said why, not who may."""
        server = self.boot()
        define = fakelibvirt.Connection.defineXML
        reason = "cannot write config file: No space left on device"

        def full(connection: Any, xml: str) -> Any:
            if "mdev-claim-" in xml:
                raise fake_host.libvirt_error(
                    reason, fakelibvirt.VIR_ERR_SYSTEM_ERROR
                )
            return define(connection, xml)

        self._patch("nova.tests.fixtures.libvirt.Connection.defineXML", full)

        self._refused(
            server,
            f"host destination: virDomainDefineXML failed: {reason} "
            "(libvirt-failed: ",
        )
        self.assertNotIn("denied", self.stdlog.logger.output)
        self.assertEqual({}, self.claimed())
        self.assertEqual({}, self.target_host.mdevs)

    def test_claim_removed_meanwhile(self):
        """It is not said that others took what was claimed."""
        server = self.boot()
        hook = "mdev_migrate.compute.target_claims.TargetClaims.prepare"
        stock = target_claims.TargetClaims.prepare

        def lose_and_prepare(targets: Any, *args: Any) -> Any:
            for claim in targets._promises.of(server):
                targets._promises.release(claim)
            return stock(targets, *args)

        with fixtures.MonkeyPatch(hook, lose_and_prepare):
            self.live_migrate(server)
            self.finish(server)

        self.assert_state(server, "active", "source")
        self.assertIn("(claim-lost: ", self.stdlog.logger.output)
        self.assertNotIn("taken by others", self.stdlog.logger.output)
