# SPDX-License-Identifier: Apache-2.0
"""Build what a host boots from, once for each set of inputs."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from labhost import mtty, needs, program, rootfs, terminal
from labhost.failure import LabError
from labhost.layout import ASSETS, WorkFolder

DISK_SIZE = "3G"
#: File in the tree, by file in the assets.
_HOST_FILES = {
    "init": "lab/init",
    "libvirtd": "lab/libvirtd",
    "agent": "lab/agent",
    "libvirtd.conf": "lab/libvirtd.conf",
    "qemu.conf": "etc/libvirt/qemu.conf",
}


@dataclass(frozen=True, slots=True)
class Image:
    """What a host boots from."""

    path: Path

    @property
    def disk(self) -> Path:
        """The root file system, never written to by a host."""
        return self.path / "root.img"

    @property
    def kernel(self) -> Path:
        """The kernel of the file system."""
        return self.path / "kernel"

    @property
    def initrd(self) -> Path:
        """Its first file system."""
        return self.path / "initrd"

    @property
    def program(self) -> Path:
        """The guest program, as it is in the image."""
        return self.path / "guest.elf"


def build(work: WorkFolder, in_use: Collection[Path] = ()) -> Image:
    """Return the image for the present inputs, building what is missing.

    Images of older inputs are removed.

    :param in_use: images that hosts run from, to be kept.
    :raises LabError: if a tool is missing or a step fails.
    """
    needs.check()
    recipe = (Path(rootfs.__file__), Path(mtty.__file__), mtty.CARD_SOURCE)
    tree = work.cache / f"tree-{_hash(*recipe)}"
    image = Image(work.cache / f"image-{_image_hash()}")
    if not image.path.exists():
        _make_whole(tree, lambda path: rootfs.make(path, work.cache / "log"))
        _make_whole(image.path, lambda path: _fill(Image(path), tree))
    _forget_others(work.cache, {tree, image.path, *in_use})
    return image


def _image_hash() -> str:
    files = sorted(path for path in ASSETS.rglob("*") if path.is_file())
    modules = (rootfs, mtty, program)
    recipes = [Path(str(module.__file__)) for module in modules]
    return _hash(*recipes, Path(__file__), *files)


def _hash(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _make_whole(target: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder that is there completely or not at all."""
    if target.exists():
        return
    unfinished = target.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    fill(unfinished)
    unfinished.rename(target)


def _fill(image: Image, tree: Path) -> None:
    program.build(image.program)
    shutil.copy(image.program, tree / "lab/guest.elf")
    for source, target in _HOST_FILES.items():
        shutil.copy(ASSETS / "host" / source, tree / target)
    release = rootfs.kernel_release(tree)
    shutil.copy(tree / f"boot/vmlinuz-{release}", image.kernel)
    shutil.copy(tree / f"boot/initrd.img-{release}", image.initrd)
    terminal.say("making the disk image")
    _make_disk(image.disk, tree)


def _make_disk(disk: Path, tree: Path) -> None:
    options = ["-q", "-L", "lab", "-d", str(tree)]
    result = subprocess.run(
        ["/usr/sbin/mkfs.ext4", *options, str(disk), DISK_SIZE],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise LabError(f"mkfs.ext4: {result.stderr}")


def _forget_others(cache: Path, kept: set[Path]) -> None:
    """Remove what older inputs left behind."""
    for pattern in ("tree-*", "image-*"):
        for path in set(cache.glob(pattern)) - kept:
            shutil.rmtree(path)
