# SPDX-License-Identifier: Apache-2.0
"""Where the cloud keeps its files, and what it is made of."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labhost.layout import HostSpec
from labhost.layout import WorkFolder as LabFolder

ASSETS = Path(__file__).resolve().parent / "assets"
TOP = ASSETS.parents[2]

#: Releases of Nova, the one to begin with first. All are tried with the
#: same Python, which is carried into the hosts.
RELEASES = ("34.0.0", "28.3.1", "29.4.0")
PYTHON = "python3.11"

#: This machine's loopback address, as a host sees it.
OUTSIDE = "10.0.3.2"
LOOPBACK = "127.0.0.1"

#: For what no port is open beyond this machine, one password does.
USER = "admin"
PASSWORD = "cloud"  # noqa: S105 - guards nothing
REGION = "here"

#: What listens, each on a port of its own.
LISTENERS = (
    *("database", "broker", "broker_names", "broker_peers"),
    *("identity", "placement", "image", "network", "compute"),
)
DATABASES = (
    *("keystone", "placement", "glance", "neutron"),
    *("nova_api", "nova", "nova_cell0"),
)


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """The one folder the cloud writes to."""

    path: Path

    @classmethod
    def default(cls) -> "WorkFolder":
        """The folder of ``MDEV_CLOUD_DIR``, or ``.cloud`` at the top."""
        path = Path(os.environ.get("MDEV_CLOUD_DIR") or TOP / ".cloud")
        return cls(path.absolute())

    @property
    def cache(self) -> Path:
        """What was built, by a hash of what it was built from."""
        return self.path / "cache"

    @property
    def state_file(self) -> Path:
        """What runs now."""
        return self.path / "state.json"

    @property
    def results(self) -> Path:
        """How the scenarios ended."""
        return self.path / "results.json"

    @property
    def run(self) -> Path:
        """What belongs to the cloud that runs: gone when it is down."""
        return self.path / "run"

    @property
    def logs(self) -> Path:
        """A log for each service; kept until the next cloud."""
        return self.path / "logs"

    @property
    def hosts(self) -> LabFolder:
        """The emulated hosts."""
        return LabFolder(self.path / "hosts")

    def etc(self, service: str) -> Path:
        """The configuration of a service."""
        return self.run / "etc" / service

    @property
    def instances(self) -> Path:
        """What both hosts can mount for their instances."""
        return self.path / "instances"

    def share(self, spec: HostSpec) -> Path:
        """What a host sees as its ``/cloud``."""
        return self.path / f"share-{spec.name}"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other cloud commands out while this one changes things."""
        self.path.mkdir(parents=True, exist_ok=True)
        # What hosts write there is nobody's but root's.
        self.path.chmod(0o700)
        with (self.path / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
