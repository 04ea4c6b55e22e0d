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
from collections.abc import Callable, Iterable, Iterator

import click

from mdev_migrate import model
from mdev_migrate.cli import output
from mdev_migrate.core import progress as job_progress
from mdev_migrate.core import wording
from mdev_migrate.core.downtime import Advice
from mdev_migrate.core.phases import Step

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
_CLEAR_LINE = "\r\x1b[K"


def describe(
    progress: model.JobProgress, elapsed_s: float, limit_ms: int | None = None
) -> list[str]:
    """Return how far a job is, the most important first.

    :param limit_ms: the downtime limit, if the progress does not tell it.
    """
    limit_ms = limit_ms if progress.limit_ms is None else progress.limit_ms
    share = job_progress.share(progress)
    parts = [_sent(progress)]
    if share is not None:
        parts = [f"{share} %", f"{wording.size(progress.data_remaining)} left"]
    if limit_ms is not None:
        parts.append(f"limit {limit_ms} ms")
    if share is not None:
        parts += _of_the_copy(progress)
    if progress.device_transferred is not None:
        state = wording.size(progress.device_transferred)
        parts.append(f"device state {state}")
    if progress.data_total is not None and progress.data_total > 0:
        parts.append(f"of {wording.size(progress.data_total)}")
    return [*parts, f"{elapsed_s:.1f} s"]


def _sent(progress: model.JobProgress) -> str:
    """Return what is known while nobody can tell how much is done."""
    moved = progress.bytes_moved()
    if moved is None or moved < 0:
        return "no figures yet"
    return f"{wording.size(moved)} sent" if moved else "nothing sent yet"


def _of_the_copy(progress: model.JobProgress) -> Iterator[str]:
    """Yield how fast it goes, and how long it will take."""
    left_s = job_progress.time_left_s(progress)
    if left_s == math.inf:
        yield "no end at this rate"
    elif left_s:
        yield f"{wording.about(left_s)} left"
    rate = job_progress.rate(progress)
    if rate is not None:
        yield f"{wording.size(rate)}/s"
    if progress.dirty_rate:
        yield f"{wording.size(progress.dirty_rate)}/s written"
    if progress.downtime_ms:
        yield f"{progress.downtime_ms} ms expected"
    if progress.iteration:
        yield f"iteration {progress.iteration}"


def fit(parts: Iterable[str], width: int) -> str:
    """Return as many parts as a line has room for, the first at least.

    >>> fit(["97 %", "14.2 MiB left", "limit 600 ms"], 21)
    '97 %, 14.2 MiB left'
    """
    line, *rest = parts
    for part in rest:
        longer = f"{line}, {part}"
        if len(longer) > width:
            break
        line = longer
    return line[:width]


class Lines:
    """Tells on lines that stay; of the job not more often than an interval.

    :param guest: begins each line, where there are several guests.
    """

    def __init__(
        self,
        guest: str = "",
        *,
        interval_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._begin = f"{output.one_line(guest)}: " if guest else ""
        self._interval_s = interval_s
        self._clock = clock
        self._said_at = float("-inf")

    def say(self, text: str) -> None:
        """Write a line that stays."""
        output.say(f"{self._begin}{text}")

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
            self.show(describe(progress, elapsed_s))

    def downtime(self, advice: Advice) -> None:
        """Tell what is done about the limits, or that they do not do."""
        if advice.action == "say":
            self.warn(advice.why)
        else:
            self.say(f"  {advice.why}")

    def show(self, parts: list[str]) -> None:
        """Write how far the job is."""
        self.say(f"  {', '.join(parts)}")

    def end(self) -> None:
        """Be done."""


class LiveLine(Lines):
    """Tells of the job on the terminal's last line, rewriting it."""

    def __init__(self, guest: str = "") -> None:
        super().__init__(guest, interval_s=0.0)
        self._shown = False

    def say(self, text: str) -> None:
        """Write a line that stays, in place of the one that does not."""
        self.end()
        super().say(text)

    def show(self, parts: list[str]) -> None:
        """Rewrite the last line."""
        width = shutil.get_terminal_size().columns - 1
        begin = output.cut(f"  {self._begin}", width // 2)
        room = width - output.columns(begin)
        _write(f"{_CLEAR_LINE}{begin}{fit(parts, max(room, 1))}")
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


def teller(guest: str = "", *, logged: bool = False) -> Lines:
    """Return what suits stderr.

    :param logged: a log is shown there, too: a line that is rewritten would
        get its lines' ends.
    """
    live = is_terminal() and not logged
    return LiveLine(guest) if live else Lines(guest)
