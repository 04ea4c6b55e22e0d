# SPDX-License-Identifier: Apache-2.0
"""Who else hears how a migration goes: several, and who wants its curves.

Nothing here raises: it happens in the middle of the migration.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from mdev_migrate import model
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
