# SPDX-License-Identifier: Apache-2.0
"""What is said where something that is needed is not installed?"""

import subprocess
import sys

import pytest

import mdev_migrate

OSLO = ("oslo_config", "oslo_log", "oslo_versionedobjects")


def run_without(
    *modules: str, code: str
) -> "subprocess.CompletedProcess[str]":
    """Run Python code as if some modules were not installed."""
    program = f"import sys; sys.modules |= dict.fromkeys({modules}); {code}"
    return subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


class TestWithoutOslo:
    @pytest.mark.parametrize("name", ["driver", "conf", "compute"])
    def test_nova_end(self, name: str):
        """The last line names what is missing, and the extra that has it."""
        done = run_without(*OSLO, code=f"import mdev_migrate.{name}")

        last = done.stderr.splitlines()[-1]
        assert done.returncode == 1
        assert ", ".join(OSLO) in last
        assert last.endswith("pip install 'mdev-migrate[nova]'")

    def test_one_that_is_missing(self):
        """What is there is not named."""
        done = run_without("oslo_log", code="import mdev_migrate.driver")

        last = done.stderr.splitlines()[-1]
        assert "the mixin needs oslo_log: install" in last

    def test_everything_else(self):
        """The command and the library are there without."""
        done = run_without(
            *OSLO,
            code="import mdev_migrate.workflow, mdev_migrate.libvirt_host; "
            "from mdev_migrate.cli import main; main.main(['demo', '--json'])",
        )

        assert (done.returncode, done.stderr) == (0, "")


class TestWithoutNova:
    @pytest.mark.parametrize(
        ("function", "command"),
        [
            ("main", "nova-compute-mdev"),
            ("conductor_main", "nova-conductor-mdev"),
            ("status_main", "mdev-migrate-status"),
        ],
    )
    def test_service(self, function: str, command: str):
        """It is one line that names the command, and exit code 2."""
        done = run_without(
            "nova",
            code="from mdev_migrate.nova import launcher; "
            f"launcher.{function}()",
        )

        (line,) = done.stderr.splitlines()
        assert done.returncode == 2
        assert line.startswith(f"{command}: there is no Nova for ")

    def test_what_nova_lacks_is_not_hidden(self, tmp_path):
        """A Nova that cannot be loaded says itself what it misses."""
        (tmp_path / "nova" / "cmd").mkdir(parents=True)
        (tmp_path / "nova" / "__init__.py").touch()
        (tmp_path / "nova" / "cmd" / "__init__.py").touch()
        (tmp_path / "nova" / "cmd" / "compute.py").write_text("import absent")

        done = run_without(
            code=f"sys.path.insert(0, {str(tmp_path)!r}); "
            "from mdev_migrate.nova import launcher; launcher.main()",
        )

        assert done.returncode == 1
        assert "No module named 'absent'" in done.stderr.splitlines()[-1]


def test_version_of_the_package():
    """The version is the installed package's."""
    metadata = pytest.importorskip("importlib.metadata")

    assert metadata.version("mdev-migrate") == mdev_migrate.__version__
