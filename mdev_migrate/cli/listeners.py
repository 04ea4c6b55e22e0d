# SPDX-License-Identifier: Apache-2.0
"""Who else hears how a migration goes: programs, and who wants its curves.

Nothing here raises: it happens in the middle of the migration.
"""

from __future__ import annotations

import datetime
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from mdev_migrate import model
from mdev_migrate.cli import output
from mdev_migrate.core import progress as job_progress
from mdev_migrate.core.downtime import Advice
from mdev_migrate.core.phases import Step
from mdev_migrate.workflow import Observer


class Several:
    """Passes on to several observers what it hears."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = tuple(observers)

    def step(self, step: Step, detail: str) -> None:
        """Hear that a step begins."""
        for observer in self._observers:
            observer.step(step, detail)

    def warn(self, text: str) -> None:
        """Hear what a human should know."""
        for observer in self._observers:
            observer.warn(text)

    def progress(self, progress: model.JobProgress, elapsed_s: float) -> None:
        """Hear how far the migration job is."""
        for observer in self._observers:
            observer.progress(progress, elapsed_s)

    def downtime(self, advice: Advice) -> None:
        """Hear what is done about the limits, or that they do not do."""
        for observer in self._observers:
            observer.downtime(advice)


#: Which event a piece of advice is.
_EVENTS = {
    "raise": "limit-raised",
    "lift": "bandwidth-lifted",
    "say": "will-not-end",
}


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
    """Writes one JSON object a line for everything that happens.

    :param write: writes a line.
    :param guest: as the user calls it.
    """

    def __init__(self, write: Callable[[str], object], guest: str) -> None:
        self._write_line = write
        self._guest = guest
        self._lost = False

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
        now = datetime.datetime.now(datetime.timezone.utc)
        line = {
            "event": event,
            "time": now.isoformat(timespec="milliseconds"),
            "guest": self._guest,
        }
        try:
            self._write_line(json.dumps(line | facts))
        except (OSError, ValueError) as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        """Say once that events are lost; who closed a pipe wants none."""
        closed = isinstance(error, BrokenPipeError)
        if not (closed or self._lost):
            output.say(f"warning: events are lost: {error}")
        self._lost = True


@dataclass(slots=True)
class Recorder:
    """Keeps what happens, for the report.

    :ivar looks: at the job, by the seconds since it began.
    :ivar notes: what was said meanwhile, likewise since :attr:`began`.
    """

    looks: list[tuple[float, model.JobProgress]] = field(default_factory=list)
    notes: list[tuple[float, str]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def step(self, step: Step, detail: str) -> None:
        """Keep that a step begins."""
        self._note(f"{step.value}{': ' if detail else ''}{detail}")

    def warn(self, text: str) -> None:
        """Keep what a human should know."""
        self._note(f"warning: {text}")

    def progress(self, progress: model.JobProgress, elapsed_s: float) -> None:
        """Keep how far the job is."""
        self.looks.append((elapsed_s, progress))

    def downtime(self, advice: Advice) -> None:
        """Keep what is done about the limits, or that they do not do."""
        self._note(advice.why)

    def _note(self, text: str) -> None:
        self.notes.append((time.monotonic() - self.began, text))
