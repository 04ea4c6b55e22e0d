# SPDX-License-Identifier: Apache-2.0
"""The sources of the mtty drivers, from the kernel's own.

``mtty.ko`` is the kernel's sample as it is: its parent is a virtual device.
``mtty_card0.ko`` and ``mtty_card1.ko`` are the same with a parent that is a
PCI device, named by the module's parameter ``card``: libvirt and Nova see
such a parent as they see a GPU.
"""

import re
from pathlib import Path

from labhost.failure import LabError
from labhost.layout import ASSETS

CARDS = ("mtty_card0", "mtty_card1")
_SOURCE = "samples/vfio-mdev/mtty.c"

#: Finds the PCI device that the parameter names.
CARD_SOURCE = ASSETS / "driver/card.c"
_INCLUDES_END = "#include <linux/anon_inodes.h>\n"
_PARENT = "mdev_register_parent(&mtty_dev.parent, &mtty_dev.dev,"
_PARENT_OF_CARD = (
    "mdev_register_parent(&mtty_dev.parent, parent_device(&mtty_dev.dev),"
)
_NAME = '"mtty"'


def source_package(release: str) -> str:
    """Return the package with the source of a kernel.

    :param release: its version, as in ``6.12.48+deb13-amd64``.
    :raises LabError: if it does not begin with a version.
    """
    found = re.match(r"\d+\.\d+", release)
    if not found:
        raise LabError(f"kernel {release}: which source package?")
    return f"linux-source-{found.group()}"


def unpacking(build: Path, package: str) -> str:
    """Return the script that takes one file out of the package."""
    inner = f"./usr/src/{package}.tar.xz"
    return (
        f"cd '{build}' && dpkg-deb --fsys-tarfile {package}_*.deb"
        f" | tar -xO {inner}"
        f" | tar -xJO --occurrence=1 {package}/{_SOURCE} > mtty.c"
        f" && rm {package}_*.deb"
    )


def write_sources(build: Path) -> list[str]:
    """Add what is to be compiled beside ``mtty.c``; return the modules.

    :raises LabError: if the kernel's source is not what it was.
    """
    original = (build / "mtty.c").read_text()
    for name in CARDS:
        (build / f"{name}.c").write_text(_with_card(original, name))
    objects = [f"{name}.o" for name in ("mtty", *CARDS)]
    (build / "Makefile").write_text(f"obj-m := {' '.join(objects)}\n")
    return [f"{name}.ko" for name in ("mtty", *CARDS)]


def _with_card(original: str, name: str) -> str:
    changes = (
        (_INCLUDES_END, _INCLUDES_END + CARD_SOURCE.read_text()),
        (_PARENT, _PARENT_OF_CARD),
        (_NAME, f'"{name}"'),
    )
    text = original
    for old, new in changes:
        if old not in text:
            raise LabError(f"mtty.c: no {old.strip()} in it")
        text = text.replace(old, new)
    return text
