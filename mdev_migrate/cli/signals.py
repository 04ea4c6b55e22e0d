# SPDX-License-Identifier: Apache-2.0
"""What signals do: end a command at once, or stop a migration in order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

#: Ctrl-C, a polite kill, and a terminal that is gone.
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FIRST = (
    "asked to stop: aborting the migration, then undoing what was prepared"
)
_FINISH = (
    "asked to stop: what is under way goes on, no more guests begin; once "
    "more aborts it"
)
_AGAIN = "still rolling back; ending before that would leave mdevs behind"


def _may_set() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def ended_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process, even in the middle of a libvirt call.

    Python's own handler would wait for the call to return, which takes
    minutes if a host does not answer. For what changes nothing.
    """
    ours = _may_set() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class _Stopper:
    """Sets an event at each signal, and asks for patience after the last.

    :param words: what is said at each signal that sets one.
    """

    def __init__(
        self, say: Callable[[str], None], words: Sequence[str]
    ) -> None:
        self.events = [threading.Event() for _ in words]
        self._say = say
        self._words = words
        self._heard = 0
        self._untold: list[str] = []

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        heard, self._heard = self._heard, self._heard + 1
        if heard < len(self.events):
            # Only once: a handler may interrupt itself, and Event.set()
            # inside Event.set() would wait for itself.
            self.events[heard].set()
        self._untold.append(
            self._words[heard] if heard < len(self._words) else _AGAIN
        )
        self.tell()

    def tell(self) -> None:
        """Say what is yet to be said.

        A signal that comes in the middle of writing a line cannot write:
        that raises RuntimeError, and is said with what comes next.
        """
        while self._untold:
            text = self._untold.pop(0)
            try:
                self._say(text)
            except RuntimeError:
                self._untold.insert(0, text)
                return


@contextlib.contextmanager
def stopping(say: Callable[[str], None]) -> Iterator[threading.Event]:
    """Lend an event that Ctrl-C, SIGTERM and SIGHUP set.

    Nothing is raised into the block: it looks at the event when it is
    ready to. A signal that was ignored, as by nohup, stays so.

    :param say: is told what the signal did.
    """
    with _heeding(_Stopper(say, (_FIRST,))) as events:
        yield events[0]


@contextlib.contextmanager
def draining(
    say: Callable[[str], None],
) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Lend two events: the first signal sets one, the second the other.

    :param say: is told what each signal did.
    """
    with _heeding(_Stopper(say, (_FINISH, _FIRST))) as events:
        yield events[0], events[1]


@contextlib.contextmanager
def _heeding(stopper: _Stopper) -> Iterator[list[threading.Event]]:
    before = {}
    try:
        for number in _STOPPING if _may_set() else ():
            handler = signal.getsignal(number)
            if handler is not signal.SIG_IGN:
                before[number] = handler
                signal.signal(number, stopper)
        yield stopper.events
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stopper.tell()
