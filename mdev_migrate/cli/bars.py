# SPDX-License-Identifier: Apache-2.0
"""Bars on a terminal, where several guests move at once.

Rich draws them below what else is said. It is imported only where they are
drawn: it takes as long to import as all the rest. Where it is not
installed, or stderr is no terminal, lines serve.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mdev_migrate import model
from mdev_migrate.cli import output, progress
from mdev_migrate.core import progress as job_progress

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

#: Columns of a terminal.
_BAR, _GAPS = 10, 3


@contextlib.contextmanager
def tellers(
    *, several: bool, logged: bool
) -> Iterator[Callable[[str], progress.Lines]]:
    """Lend what returns, by a guest's name, who tells how that goes.

    :param several: guests move at once.
    :param logged: a log is shown between the lines.
    """
    if not several:
        yield functools.partial(progress.teller, logged=logged)
    elif (
        logged
        or not progress.is_terminal()
        or not importlib.util.find_spec("rich")
    ):
        yield progress.Lines
    else:
        with _drawn() as drawn:
            yield lambda guest: _Bar(drawn, guest)


@contextlib.contextmanager
def _drawn() -> Iterator[Progress]:
    """Lend bars; what is said meanwhile stands above them."""
    from rich import console  # noqa: PLC0415 - see above
    from rich import progress as rich  # noqa: PLC0415

    drawn = rich.Progress(
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(_BAR),
        rich.TextColumn("{task.fields[figures]}", markup=False),
        console=console.Console(stderr=True, soft_wrap=True),
        # A thread of its own would fail on a terminal that is gone.
        auto_refresh=False,
        redirect_stdout=False,
        transient=True,
    )
    with contextlib.suppress(OSError, ValueError):
        drawn.start()
    try:
        yield drawn
    finally:
        with contextlib.suppress(OSError, ValueError):
            drawn.stop()


class _Bar(progress.Lines):
    """Tells of one guest's job by a bar."""

    def __init__(self, drawn: Progress, guest: str) -> None:
        super().__init__(guest, interval_s=0.0)
        self._drawn = drawn
        width = drawn.console.width // 2 - _BAR
        self._name = output.cut(output.one_line(guest), max(width, 1))
        self._task: TaskID | None = None
        with contextlib.suppress(OSError, ValueError):
            self._task = drawn.add_task(self._name, visible=False, figures="")

    def progress(self, job: model.JobProgress, elapsed_s: float) -> None:
        """Draw how far the job is."""
        if self._task is None:
            return
        share = job_progress.share(job)
        words = progress.describe(job, elapsed_s)
        room = self._drawn.console.width - _BAR - _GAPS
        room -= output.columns(self._name)
        with contextlib.suppress(OSError, ValueError):
            self._drawn.update(
                self._task,
                visible=True,
                completed=share or 0,
                figures=progress.fit(words, max(room, 1)),
                refresh=True,
            )

    def end(self) -> None:
        """Take the bar away."""
        if self._task is not None:
            with contextlib.suppress(OSError, ValueError):
                self._drawn.remove_task(self._task)
                self._drawn.refresh()
