# SPDX-License-Identifier: Apache-2.0
"""The installed command, run as programs run it: with ``--json``."""

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The command of the environment that the tests run in.
PROGRAM = Path(sys.executable).with_name("mdev-migrate")
LIMIT_S = 240.0


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended.

    :ivar document: what it answered, None if nothing.
    """

    status: int
    document: dict[str, Any]
    errors: str

    @property
    def code(self) -> str | None:
        """Return the code of the error, None without an error."""
        error = self.document.get("error")
        return error["code"] if error else None

    @property
    def refusals(self) -> list[str]:
        """Return the codes of the pre-checks that refused."""
        return [
            check["code"]
            for check in self.document["checks"]
            if check["result"] == "refused"
        ]


class Running:
    """A command that was started."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def signal(self, number: int) -> None:
        """Send the command a signal."""
        self.process.send_signal(number)

    def let_run(self, seconds: float) -> None:
        """Wait for so long, or until the command has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def end(self, limit_s: float = LIMIT_S) -> Answer:
        """Wait for the end of the command."""
        try:
            output, errors = self.process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            self.stop()
            raise
        document = json.loads(output) if output else {}
        return Answer(self.process.returncode, document, errors)

    def stop(self) -> None:
        """End the command if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class Command:
    """Starts commands; none of them shares anything with another."""

    def __init__(self) -> None:
        self._started: list[Running] = []

    def start(self, *words: str) -> Running:
        """Start a command and do not wait for its end."""
        process = subprocess.Popen(  # noqa: S603 - our own command
            [str(PROGRAM), *words, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running = Running(process)
        self._started.append(running)
        return running

    def run(self, *words: str) -> Answer:
        """Run a command to its end."""
        return self.start(*words).end()

    def stop_all(self) -> None:
        """End what a failed test left running."""
        for running in self._started:
            if running.process.returncode is None:
                running.stop()
