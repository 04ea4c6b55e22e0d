# SPDX-License-Identifier: Apache-2.0
"""What the cloud remembers about what it started."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from labhost.failure import LabError
from labhost.state import write_whole

from cloudlab.configuration import Settings
from cloudlab.layout import WorkFolder
from cloudlab.process import Process


@dataclass(slots=True)
class Running:
    """A cloud that was started.

    :ivar release: of Nova on this machine.
    :ivar computes: of Nova on each host.
    :ivar project: where this project is installed, on this machine.
    :ivar processes: by name, as they were started.
    """

    release: str
    computes: dict[str, str]
    settings: Settings
    project: Path
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def is_mixed(self) -> bool:
        """Whether a host has another release than the rest."""
        return {*self.computes.values()} != {self.release}

    def is_whole(self) -> bool:
        """Whether all that was started is still there."""
        return bool(self.processes) and all(
            process.is_running() for process in self.processes.values()
        )


def load(work: WorkFolder) -> Running | None:
    """Return the cloud that was started, if there is one."""
    try:
        found = json.loads(work.state_file.read_text())
    except FileNotFoundError:
        return None
    settings = found["settings"]
    return Running(
        release=found["release"],
        computes=found["computes"],
        settings=Settings(
            folder=Path(settings["folder"]),
            services=Path(settings["services"]),
            nova=Path(settings["nova"]),
            ports=settings["ports"],
        ),
        project=Path(found["project"]),
        processes={
            name: Process(**values)
            for name, values in found["processes"].items()
        },
    )


def running(work: WorkFolder) -> Running:
    """Return the cloud that was started.

    :raises LabError: if there is none.
    """
    found = load(work)
    if found is None:
        raise LabError("no cloud was started: run tools/cloud up")
    return found


def store(work: WorkFolder, cloud: Running) -> None:
    """Remember a cloud; an unfinished write leaves the old file."""
    text = json.dumps(dataclasses.asdict(cloud), indent=2, default=str)
    write_whole(work.state_file, text + "\n")


def forget(work: WorkFolder) -> None:
    """Remember nothing."""
    work.state_file.unlink(missing_ok=True)
