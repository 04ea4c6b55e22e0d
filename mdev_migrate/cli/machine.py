# SPDX-License-Identifier: Apache-2.0
"""What this machine tells of itself, to whom libvirt does not tell it."""

from __future__ import annotations

import contextlib
import pathlib
import re
import shutil

from mdev_migrate.core.diagnosis import Machine

_TLS = {
    "libvirt": (
        "etc/pki/CA/cacert.pem",
        "etc/pki/libvirt/servercert.pem",
        "etc/pki/libvirt/private/serverkey.pem",
        "etc/pki/libvirt/clientcert.pem",
        "etc/pki/libvirt/private/clientkey.pem",
    ),
    "qemu": (
        "etc/pki/qemu/ca-cert.pem",
        "etc/pki/qemu/server-cert.pem",
        "etc/pki/qemu/server-key.pem",
    ),
}
_DAEMONS = ("virtqemud", "libvirtd")
_LISTENS = "0A"
_LIMIT = re.compile(r"^Max locked memory\s+(\S+)", re.MULTILINE)
#: A setting of qemu.conf, which has a comment sign before its defaults.
_SETTING = r"^\s*{}\s*=\s*(\d+)"


def look(root: pathlib.Path = pathlib.Path("/")) -> Machine:
    """Look at this machine; what cannot be read counts as not there.

    :param root: where its files are.
    """
    ports = _ports(_read(root / "etc/libvirt/qemu.conf"))
    daemon, locked = _daemon(root / "proc")
    return Machine(
        mdevctl=shutil.which("mdevctl"),
        has_mdev_bus=(root / "sys/class/mdev_bus").exists(),
        missing={
            purpose: tuple(
                f"/{name}" for name in names if not _is_there(root / name)
            )
            for purpose, names in _TLS.items()
        },
        ports=ports,
        busy_ports=len(_listening(root / "proc/net") & {*_range(ports)}),
        locked_bytes=locked,
        daemon=daemon,
    )


def _range(ports: tuple[int, int]) -> range:
    return range(ports[0], ports[1] + 1)


def _read(path: pathlib.Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""


def _is_there(path: pathlib.Path) -> bool:
    """Tell whether a file is there, or may be, where one may not look."""
    try:
        return path.exists()
    except OSError:
        return True


def _ports(settings: str) -> tuple[int, int]:
    ends = []
    for name, default in (
        ("migration_port_min", 49152),
        ("migration_port_max", 49215),
    ):
        found = re.search(_SETTING.format(name), settings, re.MULTILINE)
        ends.append(int(found[1]) if found else default)
    return ends[0], ends[1]


def _listening(folder: pathlib.Path) -> set[int]:
    ports = set()
    for name in ("tcp", "tcp6"):
        for line in _read(folder / name).splitlines()[1:]:
            _number, local, _remote, state, *_rest = line.split()
            if state == _LISTENS:
                ports.add(int(local.rpartition(":")[2], 16))
    return ports


def _daemon(folder: pathlib.Path) -> tuple[str, int | None]:
    """Return libvirt's daemon, and how much memory it may lock."""
    for process in sorted(folder.glob("[0-9]*")):
        name = _read(process / "comm").strip()
        if name in _DAEMONS:
            limit = _LIMIT.search(_read(process / "limits"))
            text = limit[1] if limit else "unlimited"
            return name, int(text) if text.isdecimal() else None
    return "", None
