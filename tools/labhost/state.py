# SPDX-License-Identifier: Apache-2.0
"""What the lab remembers about the hosts it started."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from labhost.layout import KNOWN, WorkFolder


@dataclass(frozen=True, slots=True)
class RunningHost:
    """A host that was started.

    :ivar libvirtd_port: loopback port that leads to its libvirtd.
    :ivar agent_port: loopback port that leads to its agent.
    :ivar folder: its folder, with the console log and the monitor socket.
    :ivar extra: what its QEMU was told beyond what all hosts' are.
    """

    name: str
    pid: int
    accelerator: str
    image: str
    libvirtd_port: int
    agent_port: int
    folder: str
    extra: tuple[str, ...] = ()

    @property
    def client_uri(self) -> str:
        """How a client on this machine reaches its libvirtd."""
        return f"qemu+tcp://127.0.0.1:{self.libvirtd_port}/system"

    @property
    def peer_uri(self) -> str:
        """How the other host's libvirtd reaches its libvirtd."""
        return f"qemu+tcp://{KNOWN[self.name].address}/system"

    @property
    def migrate_uri(self) -> str:
        """Where the other host's QEMU sends a guest."""
        return f"tcp://{KNOWN[self.name].address}"

    @property
    def console_log(self) -> Path:
        """What the host's kernel and first process say."""
        return Path(self.folder) / "console.log"

    def is_running(self) -> bool:
        """Whether the process is still there, and is this host's QEMU."""
        try:
            words = Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except OSError:
            return False
        return process_mark(Path(self.folder)).encode() in words.split(b"\0")


def process_mark(folder: Path) -> str:
    """Return the argument by which a host's QEMU is recognised."""
    return f"lab-{folder}"


def load(work: WorkFolder) -> dict[str, RunningHost]:
    """Return the hosts that were started, by name."""
    try:
        text = work.state_file.read_text()
    except FileNotFoundError:
        return {}
    return {
        name: RunningHost(**host) for name, host in json.loads(text).items()
    }


def store(work: WorkFolder, hosts: dict[str, RunningHost]) -> None:
    """Remember the hosts; an unfinished write leaves the old file."""
    document = {name: dataclasses.asdict(host) for name, host in hosts.items()}
    work.path.mkdir(parents=True, exist_ok=True)
    write_whole(work.state_file, json.dumps(document, indent=2) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file that has all of the new text, or all of the old."""
    unfinished = path.with_suffix(".new")
    unfinished.write_text(text)
    unfinished.rename(path)
