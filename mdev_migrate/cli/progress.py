# SPDX-License-Identifier: Apache-2.0
"""How a migration goes, told while it does.

On a terminal the last line is rewritten; elsewhere every line stays, and
there are few. What is written never raises, see :mod:`cli.output`: it
happens in the middle of the migration.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator

import click

from mdev_migrate import model
from mdev_migrate.cli import output
from mdev_migrate.core import progress as job_progress
from mdev_migrate.core.phases import Step
from mdev_migrate.workflow import Observer, Silent

_DOING = {
    Step.CONNECT: "reach both hosts",
    Step.CHECK: "look at both hosts and the guest",
    Step.PLAN: "choose the target mdevs",
    Step.CLAIM: "claim the target mdevs",
    Step.CREATE: "create the target mdevs that are missing",
    Step.PREPARE: "rewrite the guest's XML, set its downtime limit",
    Step.MIGRATE: "move the guest",
    Step.VERIFY: "see that the guest runs on its target mdevs",
    Step.RELEASE: "release the claim",
}
#: QEMU's migrate_params.downtime_limit, which libvirt leaves alone.
QEMU_DOWNTIME_MS = 300
_MIB = 2**20
_CLEAR_LINE = "\r\x1b[K"


def mib(count: int | None) -> str:
    """Return a number of bytes as people read it.

    >>> mib(69206016), mib(None)
    ('66.0 MiB', 'unknown')
    """
    return "unknown" if count is None else f"{count / _MIB:.1f} MiB"


def describe(
    progress: model.JobProgress, elapsed_s: float, limit_ms: int | None
) -> str:
    """Return how far a job is.

    :param limit_ms: the downtime limit; None for QEMU's default.
    """
    return ", ".join(
        (
            *_memory(progress),
            f"device state {mib(progress.device_transferred)}",
            f"downtime limit {limit_ms or QEMU_DOWNTIME_MS} ms",
            f"{elapsed_s:.1f} s",
        )
    )


def _memory(progress: model.JobProgress) -> Iterator[str]:
    """Yield how much of the memory is there, and when all of it will be."""
    share = job_progress.share(progress)
    if share is None:
        yield "RAM unknown"
        return
    yield f"RAM {share} % of {mib(progress.data_total)}"
    yield f"{mib(progress.data_remaining)} left"
    rate = job_progress.rate(progress)
    if rate is not None:
        yield f"{rate / _MIB:.1f} MiB/s"
    left_s = job_progress.time_left_s(progress)
    if left_s == math.inf:
        yield "no end at this rate"
    elif left_s:
        yield f"about {math.ceil(left_s)} s left"


class Lines:
    """Tells on lines that stay; of the job not more often than an interval.

    :param limit_ms: the downtime limit; None for QEMU's default.
    """

    def __init__(
        self,
        limit_ms: int | None,
        *,
        interval_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit_ms = limit_ms
        self._interval_s = interval_s
        self._clock = clock
        self._said_at = float("-inf")

    def say(self, text: str) -> None:
        """Write a line that stays."""
        output.say(text)

    def step(self, step: Step, detail: str) -> None:
        """Tell that a step begins."""
        about = f" ({detail})" if detail else ""
        self.say(output.one_line(f"{step.value}: {_DOING[step]}{about}"))

    def warn(self, text: str) -> None:
        """Tell what a human should know."""
        self.say(output.one_line(f"warning: {text}"))

    def progress(self, progress: model.JobProgress, elapsed_s: float) -> None:
        """Tell how far the job is, if that was not told just now."""
        now = self._clock()
        if now - self._said_at >= self._interval_s:
            self._said_at = now
            self.show(describe(progress, elapsed_s, self._limit_ms))

    def show(self, text: str) -> None:
        """Write how far the job is."""
        self.say(f"  {text}")

    def end(self) -> None:
        """Be done."""


class LiveLine(Lines):
    """Tells of the job on the terminal's last line, rewriting it."""

    def __init__(self, limit_ms: int | None) -> None:
        super().__init__(limit_ms, interval_s=0.0)
        self._shown = False

    def say(self, text: str) -> None:
        """Write a line that stays, in place of the one that does not."""
        self.end()
        super().say(text)

    def show(self, text: str) -> None:
        """Rewrite the last line."""
        width = shutil.get_terminal_size().columns
        _write(f"{_CLEAR_LINE}  {text}"[: len(_CLEAR_LINE) + width - 1])
        self._shown = True

    def end(self) -> None:
        """Clear the last line."""
        if self._shown:
            _write(_CLEAR_LINE)
            self._shown = False


def _write(text: str) -> None:
    """Write without a line's end."""
    try:
        click.echo(text, err=True, nl=False)
    except (OSError, ValueError):
        return


def is_terminal() -> bool:
    """Tell whether stderr is a terminal that can rewrite a line."""
    return bool(
        sys.stderr is not None
        and sys.stderr.isatty()
        and os.environ.get("TERM", "dumb") != "dumb"
    )


def teller(limit_ms: int | None) -> Lines:
    """Return what suits stderr."""
    return LiveLine(limit_ms) if is_terminal() else Lines(limit_ms)


def observer(lines: Lines, *, quiet: bool) -> Observer:
    """Return who listens: nobody if it is to be quiet."""
    return Silent() if quiet else lines
