# SPDX-License-Identifier: Apache-2.0
"""Start and end the processes of this machine that the cloud consists of."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labhost import terminal
from labhost.failure import LabError

STOP_LIMIT_S = 60
COMMAND_LIMIT_S = 600

#: What was started and is to run on: Python warns of what is let go of.
_CHILDREN: list["subprocess.Popen[bytes]"] = []


@dataclass(frozen=True, slots=True)
class Process:
    """A process that outlives us, with all that it starts.

    :ivar started: when it began, in ticks since the machine did: tells it
        from a later process of the same number.
    """

    name: str
    pid: int
    started: int

    def is_running(self) -> bool:
        """Whether it is still there."""
        return _started(self.pid) == self.started


def start(
    name: str,
    command: Sequence[object],
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Start a process that writes to a log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        started = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(environment),
            start_new_session=True,
        )
    _CHILDREN.append(started)
    return Process(name, started.pid, _started(started.pid) or 0)


def stop(process: Process, how: int = signal.SIGTERM) -> None:
    """End a process and those it started, if they are still there.

    :raises LabError: if it does not go away.
    """
    for end, number in ((os.kill, how), (os.killpg, signal.SIGKILL)):
        if not process.is_running():
            break
        with contextlib.suppress(ProcessLookupError):
            end(process.pid, number)
        try:
            terminal.wait_for(
                f"end of {process.name} (process {process.pid})",
                lambda: not process.is_running(),
                STOP_LIMIT_S,
                pause_s=0.1,
            )
        except LabError as exc:
            terminal.say(str(exc))
    if process.is_running():
        raise LabError(f"{process.name} (process {process.pid}) stays")
    if _started(process.pid) is None:
        # It may have died before those that it started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def run(
    command: Sequence[object],
    log: Path,
    environment: Mapping[str, str] | None = None,
    limit_s: float = COMMAND_LIMIT_S,
) -> None:
    """Run a command to its end.

    :raises LabError: if it fails, or is not over in time.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        try:
            subprocess.run(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(environment),
                timeout=limit_s,
                check=True,
            )
        except (subprocess.SubprocessError, OSError) as exc:
            raise LabError(f"{exc}; see {log}") from exc


def _environment(changes: Mapping[str, str] | None) -> dict[str, str]:
    """Return our environment without what concerns our own Python."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "OS_", "VIRTUAL_ENV"))
    }
    # The services are on this machine; packages may be behind a proxy.
    for name in ("no_proxy", "NO_PROXY"):
        others = [kept[name]] if kept.get(name) else []
        kept[name] = ",".join([*others, "127.0.0.1", "localhost"])
    return kept | {"PYTHONUNBUFFERED": "1"} | dict(changes or {})


def _started(pid: int) -> int | None:
    """Return when a process started; nothing if there is none by now."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is a name in brackets, which may hold anything.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])
