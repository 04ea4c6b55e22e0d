# SPDX-License-Identifier: Apache-2.0
"""Empty a host: move the guests of a plan, one after another.

When a guest's turn comes, its migration looks again and claims what it needs:
the plan says where to try first, and what others have taken meanwhile is not
promised to anybody.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from typing import Literal

from mdev_migrate import exception
from mdev_migrate.workflow.drain_plan import Leaving, Plan
from mdev_migrate.workflow.values import Outcome

#: How soon a signal is heeded, at the latest.
_HEEDED_S = 0.2
#: After these the guest is not where it was, or it is not known where it is.
_GONE = (
    exception.OutcomeUnknown,
    exception.GuestNotOnTargets,
    exception.GuestStartedMeanwhile,
    exception.DefinitionChanged,
    exception.GuestLost,
)


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt to move a guest to a destination."""

    destination: str
    outcome: Outcome


@dataclass(slots=True)
class Moved:
    """What became of a guest.

    :ivar tried: the attempts, in order.
    """

    leaving: Leaving
    tried: list[Tried] = field(default_factory=list)

    @property
    def result(self) -> Literal["migrated", "failed", "stays", "not-begun"]:
        """Return how it ended.

        ``stays``: there is no place for it. ``not-begun``: the drain was
        told to end before its turn.
        """
        if any(t.outcome.result == "migrated" for t in self.tried):
            return "migrated"
        if self.tried:
            return "failed"
        stays = self.leaving.placement is None
        return "stays" if stays else "not-begun"

    @property
    def destination(self) -> str | None:
        """Return where it went."""
        for each in self.tried:
            if each.outcome.result == "migrated":
                return each.destination
        return None


class Drain:
    """Moves the guests of a plan.

    :param move: migrates a guest, by its UUID, to a destination; is called
        from as many threads as guests are moved at a time.
    :param finish: when set, no more guests begin.
    :param parallel: how many guests are moved at a time.
    """

    def __init__(
        self,
        plan: Plan,
        move: Callable[[Leaving, str], Outcome],
        *,
        finish: threading.Event | None = None,
        parallel: int = 1,
    ) -> None:
        self._move = move
        self._finish = finish or threading.Event()
        self._parallel = parallel
        self._moved = [Moved(each) for each in plan.guests]

    def run(self) -> Sequence[Moved]:
        """Move all guests that have a place, each to the first that works.

        :returns: what became of each guest of the plan.
        """
        waiting: queue.SimpleQueue[Moved] = queue.SimpleQueue()
        for each in self._moved:
            if each.leaving.placement is not None:
                waiting.put(each)
        with futures.ThreadPoolExecutor(self._parallel, "drain") as pool:
            workers = [
                pool.submit(self._work, waiting) for _ in range(self._parallel)
            ]
            # A signal that another thread was chosen for is heeded by the
            # main thread alone, and only when that wakes up.
            while futures.wait(workers, _HEEDED_S).not_done:
                pass
        for worker in workers:
            worker.result()
        return self._moved

    def _work(self, waiting: queue.SimpleQueue[Moved]) -> None:
        while not self._finish.is_set():
            try:
                guest = waiting.get_nowait()
            except queue.Empty:
                return
            self._send(guest)

    def _send(self, guest: Moved) -> None:
        """Try one destination after the other."""
        for name in self._destinations(guest.leaving):
            outcome = self._move(guest.leaving, name)
            guest.tried.append(Tried(name, outcome))
            if outcome.result == "migrated" or isinstance(
                outcome.error, _GONE
            ):
                return

    def _destinations(self, leaving: Leaving) -> Iterator[str]:
        for name in leaving.destinations:
            yield name
            if self._finish.is_set():
                return
