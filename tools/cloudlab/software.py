# SPDX-License-Identifier: Apache-2.0
"""Make the disk with Nova for the hosts: the Python of here, and all on it."""

import json
import shutil
import subprocess
from pathlib import Path

from labhost import terminal
from labhost.failure import LabError

from cloudlab import environments, process
from cloudlab.layout import WorkFolder

#: Asks a Python where it is.
_QUESTION = """
import json, os, sys, sysconfig
variable = sysconfig.get_config_var
shared = os.path.join(variable("LIBDIR"), variable("INSTSONAME") or "")
print(json.dumps({
    "program": os.path.realpath(sys.executable),
    "library": sysconfig.get_path("stdlib", vars={
        "base": sys.base_prefix, "installed_base": sys.base_prefix}),
    "shared": shared if os.path.isfile(shared) else "",
}))
"""
#: What nobody needs there.
_LEFT_OUT = ("site-packages", "dist-packages", "test", "idlelib", "__phello__")
_ROOM_MIB = 64


def disk(work: WorkFolder, release: str) -> Path:
    """Return the image of a disk with one release of Nova.

    It holds files under the paths that they have here, and their names.

    :raises LabError: if it cannot be made.
    """
    nova = environments.nova(work, release)
    recipe = environments.digest(Path(__file__))
    target = work.cache / f"software-{recipe}-{nova.name}"

    def fill() -> None:
        terminal.say(f"making the hosts' disk with Nova {release}")
        _fill(target, nova, work.cache / "log")

    environments.complete(target, fill)
    return target / "disk.img"


def _fill(target: Path, nova: Path, log: Path) -> None:
    python = _python_of(nova)
    tree = target / "tree"
    library = Path(python["library"])
    for path in filter(None, (python["program"], python["shared"])):
        _copy(Path(path), tree)
    shutil.copytree(
        library,
        tree / library.relative_to("/"),
        symlinks=True,
        ignore=shutil.ignore_patterns(*_LEFT_OUT),
    )
    shutil.copytree(nova, tree / nova.relative_to("/"), symlinks=True)
    paths = [*python.values(), str(nova)]
    (tree / "paths").write_text("".join(f"{p}\n" for p in paths if p))
    used = subprocess.run(
        ["du", "--summarize", "--block-size=1M", str(tree)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()[0]
    size = f"{int(used) * 5 // 4 + _ROOM_MIB}M"
    make = ["/usr/sbin/mkfs.ext4", "-q", "-d", tree, target / "disk.img", size]
    process.run(make, log)
    shutil.rmtree(tree)


def _python_of(nova: Path) -> dict[str, str]:
    answer = subprocess.run(
        [str(nova / "bin/python"), "-c", _QUESTION],
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise LabError(f"{nova}/bin/python: {answer.stderr}")
    found: dict[str, str] = json.loads(answer.stdout)
    return found


def _copy(path: Path, tree: Path) -> None:
    target = tree / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, target)
