# SPDX-License-Identifier: Apache-2.0
"""Install OpenStack from the Python package index, once for each lock."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from labhost import terminal
from labhost.failure import LabError

from cloudlab import process
from cloudlab.layout import ASSETS, PYTHON, RELEASES, TOP, WorkFolder

INSTALL_LIMIT_S = 1800
_SERVICES_LOCK = ASSETS / "services.txt"
#: What Nova needs here besides what its own lock has.
_NOVA_EXTRAS = ASSETS / "nova-extras.txt"
#: What makes up the project, for an installation.
_PROJECT = ("setup.cfg", "pyproject.toml", "README.rst", "LICENSE")
_PROJECT_FOLDERS = ("mdev_migrate", "share")


def services(work: WorkFolder) -> Path:
    """Return the environment of keystone, placement, glance and neutron.

    :raises LabError: if it cannot be made.
    """
    target = work.cache / f"services-{digest(_SERVICES_LOCK)}"

    def install() -> None:
        terminal.say("installing keystone, placement, glance and neutron")
        _make(work, target, ["--no-deps", "-r", _SERVICES_LOCK])

    complete(target, install)
    return target


def nova(work: WorkFolder, release: str) -> Path:
    """Return the environment of one release of Nova.

    :raises LabError: if there is no lock of it, or it cannot be made.
    """
    lock = TOP / "tests/nova/constraints" / f"{release}.txt"
    if release not in RELEASES:
        raise LabError(f"Nova {release}? There are {', '.join(RELEASES)}")
    target = work.cache / f"nova-{release}-{digest(lock, _NOVA_EXTRAS)}"
    wanted = ["-c", lock, "-r", _NOVA_EXTRAS, f"nova=={release}"]

    def install() -> None:
        terminal.say(f"installing Nova {release}")
        _make(work, target, wanted)

    complete(target, install)
    return target


def project(work: WorkFolder, nova_environment: Path) -> Path:
    """Return a folder with this tree installed, for PYTHONPATH.

    :raises LabError: if it cannot be made.
    """
    files = [TOP / name for name in _PROJECT]
    for name in _PROJECT_FOLDERS:
        files += sorted(
            path
            for path in (TOP / name).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        )
    target = work.cache / f"project-{digest(*files)}"

    def install() -> None:
        # Setuptools leaves things in the tree it builds.
        copy = target / "source"
        for file in files:
            path = copy / file.relative_to(TOP)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, path)
        wanted = ["--no-deps", "--target", target / "site", copy]
        _pip(work, nova_environment, wanted)

    complete(target, install)
    return target / "site"


def complete(target: Path, fill: Callable[[], None]) -> None:
    """Fill a folder that counts only when it is complete.

    It is filled where it stays: environments hold their own path.
    """
    stamp = target / "complete"
    if stamp.exists():
        return
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    fill()
    stamp.touch()


def digest(*files: Path) -> str:
    """Return what tells the contents of files from any other."""
    found = hashlib.sha256()
    for file in files:
        name = file.relative_to(TOP) if TOP in file.parents else file.name
        found.update(str(name).encode() + b"\0" + file.read_bytes())
    return found.hexdigest()[:16]


def _make(work: WorkFolder, target: Path, wanted: list[object]) -> None:
    log = work.cache / "log"
    process.run([PYTHON, "-m", "venv", target], log)
    # It holds the very Python that it was built with; pip keeps it for others
    # of the same version, too.
    lines = _NOVA_EXTRAS.read_text().splitlines()
    server = next(line for line in lines if line.startswith("uWSGI"))
    _pip(work, target, ["--no-cache-dir", server])
    _pip(work, target, wanted)


def _pip(work: WorkFolder, environment: Path, wanted: list[object]) -> None:
    command = [environment / "bin/python", "-m", "pip", "install", "--quiet"]
    quiet = ["--no-input", "--disable-pip-version-check"]
    log = work.cache / "log"
    process.run([*command, *quiet, *wanted], log, limit_s=INSTALL_LIMIT_S)
