# SPDX-License-Identifier: Apache-2.0
"""What programs hear of migrations while they go on: JSON, an object a line.

Nothing here raises: it happens in the middle of a migration.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import click

from mdev_migrate import model
from mdev_migrate.cli import options, output
from mdev_migrate.cli.session import Session
from mdev_migrate.core import progress as job_progress
from mdev_migrate.core.downtime import Advice
from mdev_migrate.core.phases import Step

option = click.option(
    "--events",
    "events_file",
    metavar="FILE",
    type=options.NewFile(allow_dash=True),
    help="Write what happens to a file, one JSON object a line; - for "
    "stdout, with --json.",
)

#: Which event a piece of advice is.
_EVENTS = {
    "raise": "limit-raised",
    "lift": "bandwidth-lifted",
    "say": "will-not-end",
}


class Stream:
    """Where events are written; safe for threads.

    In a thread of its own: who does not read what is written lets that
    wait, and a migration has to be watched meanwhile.

    :param write: writes a line.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write_line = write
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, name="events", daemon=True
        )
        self._thread.start()

    def write(self, event: str, facts: dict[str, Any]) -> None:
        """Write that something happened."""
        now = datetime.datetime.now(datetime.timezone.utc)
        line = {
            "event": event,
            "time": now.isoformat(timespec="milliseconds"),
        }
        self._lines.put(json.dumps(line | facts))

    def end(self) -> None:
        """Wait until all is written. Twice is once."""
        self._lines.put(None)
        self._thread.join()

    def _run(self) -> None:
        lost = False
        while (line := self._lines.get()) is not None:
            try:
                self._write_line(line)
            except (OSError, ValueError) as error:
                # Once is enough; who closed a pipe wants no more.
                if not (lost or isinstance(error, BrokenPipeError)):
                    output.say(f"warning: events are lost: {error}")
                lost = True


@contextlib.contextmanager
def stream(session: Session, path: str | None) -> Iterator[Stream | None]:
    """Lend what writes events to a file; None if there is none.

    Where they go to stdout, the answer becomes the last line among them.

    :raises click.UsageError: if it cannot be opened.
    """
    if path is None:
        yield None
        return
    if path == "-":
        if not session.settings.as_json:
            raise click.UsageError("--events - needs --json")
        with _ended(Stream(click.echo)) as found:
            session.answer_after(found.end)
            yield found
        return
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    except OSError as error:
        raise click.UsageError(f"--events: {error}") from error
    try:
        with _ended(
            Stream(lambda line: os.write(number, f"{line}\n".encode()))
        ) as found:
            yield found
    finally:
        os.close(number)


@contextlib.contextmanager
def _ended(stream: Stream) -> Iterator[Stream]:
    try:
        yield stream
    finally:
        stream.end()


def figures(job: model.JobProgress) -> dict[str, Any]:
    """Return what is known of a job, as what ``json`` writes."""
    left_s = job_progress.time_left_s(job)
    return {
        "percent": job_progress.share(job),
        "total": job.data_total,
        "remaining": job.data_remaining,
        "processed": job.data_processed,
        "device_bytes": job.device_transferred,
        "rate": job.rate,
        "dirty_rate": job.dirty_rate,
        "iteration": job.iteration,
        "limit_ms": job.limit_ms,
        "expected_downtime_ms": job.downtime_ms,
        "time_left_s": (
            None if left_s is None or math.isinf(left_s) else round(left_s, 1)
        ),
    }


class Events:
    """Writes everything that happens to one guest.

    :param guest: as the user calls it.
    """

    def __init__(self, where: Stream, guest: str) -> None:
        self._stream = where
        self._guest = guest

    def step(self, step: Step, detail: str) -> None:
        """Write that a step begins."""
        self._write("step", {"step": step.value, "detail": detail or None})

    def warn(self, text: str) -> None:
        """Write what a human should know."""
        self._write("warning", {"message": text})

    def progress(self, progress: model.JobProgress, elapsed_s: float) -> None:
        """Write how far the job is."""
        elapsed = {"elapsed_s": round(elapsed_s, 3)}
        self._write("progress", elapsed | figures(progress))

    def downtime(self, advice: Advice) -> None:
        """Write what is done about the limits, or that they do not do."""
        self._write(
            _EVENTS[advice.action],
            {
                "limit_ms": advice.limit_ms,
                "needed_ms": advice.needed_ms,
                "message": advice.why,
            },
        )

    def end(self, answer: dict[str, Any]) -> None:
        """Write how it ended, as ``--json`` answers."""
        self._write("end", answer)

    def _write(self, event: str, facts: dict[str, Any]) -> None:
        self._stream.write(event, {"guest": self._guest} | facts)
