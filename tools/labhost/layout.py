# SPDX-License-Identifier: Apache-2.0
"""Where the lab keeps its files, and what its hosts are."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ASSETS = Path(__file__).resolve().parent / "assets"
TOP = ASSETS.parents[2]

#: Where the guest program is on every host.
GUEST_PROGRAM = "/lab/guest.elf"
LIBVIRTD_PORT = 16509
AGENT_PORT = 16600


@dataclass(frozen=True, slots=True)
class HostSpec:
    """What distinguishes one host from the other.

    :ivar number: last part of its addresses.
    :ivar memory_mib: memory of its QEMU.
    """

    name: str
    number: int
    memory_mib: int = 2048

    @property
    def uuid(self) -> str:
        """The UUID its libvirtd shows; libvirt compares those of peers."""
        return f"10000000-0000-4000-8000-{self.number:012}"

    @property
    def address(self) -> str:
        """Its address on the link between the hosts."""
        return f"10.77.0.{self.number}"

    def mac(self, card: int) -> str:
        """The hardware address of one of its network cards."""
        return f"52:54:00:77:{card:02}:{self.number:02}"


HOSTS = {spec.name: spec for spec in (HostSpec("a", 1), HostSpec("b", 2))}
#: A third host, small, that is started for who asks for it only.
THIRD = HostSpec("c", 3, memory_mib=1024)
KNOWN = HOSTS | {THIRD.name: THIRD}
#: The host whose QEMU is the switch between those at the link.
SWITCH = HOSTS["a"]


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """The one folder the lab writes to."""

    path: Path

    @classmethod
    def default(cls) -> "WorkFolder":
        """The folder of ``MDEV_LAB_DIR``, or ``.lab`` at the top."""
        path = Path(os.environ.get("MDEV_LAB_DIR") or TOP / ".lab")
        return cls(path.absolute())

    @property
    def cache(self) -> Path:
        """What was built, by a hash of what it was built from."""
        return self.path / "cache"

    @property
    def state_file(self) -> Path:
        """What runs now."""
        return self.path / "state.json"

    def host(self, name: str) -> Path:
        """The folder of one host: disk, console log and sockets."""
        return self.path / f"host-{name}"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other lab commands out while this one changes things."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
