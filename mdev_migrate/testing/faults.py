# SPDX-License-Identifier: Apache-2.0
"""How does a test make a call fail, and find every call that could?

Every call that a real connection sends to its daemon passes through
:meth:`Faults.meet`, which writes it down and says what is to happen to it.
What happens is an *effect*: a function of the connection and the call.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import libvirt

from mdev_migrate.testing import errors

#: How long a call hangs when the test names no limit, in seconds.
DEFAULT_LIMIT_S = 30.0


class ProcessDied(BaseException):
    """The process that made the call is dead.

    Not an ``Exception``, so that only the test catches it. Python runs
    ``finally`` blocks all the same, but a dead process reaches no host:
    every call of the group raises this until
    :meth:`SimulatedGroup.new_process`.
    """


class Call(NamedTuple):
    """A call that reached a host."""

    host: str
    name: str


class CallPoint(NamedTuple):
    """One certain call of a run: the nth of its name on its host."""

    host: str
    name: str
    nth: int


class BreakableLink(Protocol):
    """What an effect may do to a connection."""

    def cut(self, reason: int = ...) -> None:
        """Break the connection; the host lives on."""

    def die(self) -> None:
        """End the process at the client's end."""

    def sent(self, call: Callable[[], Any]) -> Callable[[], Any]:
        """Return a call as the host makes it, whoever waits for it."""


#: What happens to a call: gets its connection and the call itself.
Effect = Callable[[BreakableLink, Callable[[], Any]], Any]


def fail(error: libvirt.libvirtError) -> Effect:
    """Answer with an error instead of making the call."""

    def effect(_link: BreakableLink, _call: Callable[[], Any]) -> Any:
        raise error

    return effect


def lose_connection() -> Effect:
    """Break the connection before the call reaches the host."""

    def effect(link: BreakableLink, _call: Callable[[], Any]) -> Any:
        link.cut()
        raise errors.connection_broke()

    return effect


def lose_answer() -> Effect:
    """Make the call, then break the connection before its answer."""

    def effect(link: BreakableLink, call: Callable[[], Any]) -> Any:
        _make_unanswered(call)
        link.cut()
        raise errors.connection_broke()

    return effect


def hang(
    released: threading.Event, limit_s: float = DEFAULT_LIMIT_S
) -> Effect:
    """Hold the call back until it is released, then make it.

    After ``limit_s`` the connection breaks, as it does on a real host whose
    daemon no longer answers keepalive messages.
    """

    def effect(link: BreakableLink, call: Callable[[], Any]) -> Any:
        if released.wait(limit_s):
            return call()
        link.cut(libvirt.VIR_CONNECT_CLOSE_REASON_KEEPALIVE)
        raise errors.keepalive_expired()

    return effect


def die() -> Effect:
    """End the calling process before the call reaches the host."""

    def effect(link: BreakableLink, _call: Callable[[], Any]) -> Any:
        link.die()
        raise ProcessDied

    return effect


def die_after() -> Effect:
    """End the calling process when the call was made, unanswered."""

    def effect(link: BreakableLink, call: Callable[[], Any]) -> Any:
        _make_unanswered(call)
        link.die()
        raise ProcessDied

    return effect


class Late:
    """An effect: the host has got the call, and begins it some time later.

    :param dies: the calling process ends as soon as it has sent the call;
        otherwise its connection breaks.
    """

    def __init__(self, *, dies: bool = True) -> None:
        self._dies = dies
        self._sent: Callable[[], Any] | None = None

    def __call__(self, link: BreakableLink, call: Callable[[], Any]) -> Any:
        """Keep the call; its sender hears no more of it."""
        self._sent = link.sent(call)
        if self._dies:
            link.die()
            raise ProcessDied
        link.cut()
        raise errors.connection_broke()

    def begin(self) -> None:
        """Let the host begin the call, once."""
        sent, self._sent = self._sent, None
        if sent is not None:
            _make_unanswered(sent)


def _make_unanswered(call: Callable[[], Any]) -> None:
    try:
        call()
    except libvirt.libvirtError:
        return  # The host refused: that answer is lost too.


def _make(_link: BreakableLink, call: Callable[[], Any]) -> Any:
    return call()


@dataclass(slots=True)
class _Fault:
    point: CallPoint
    effect: Effect
    seen: int = 0

    def counts(self, call: Call) -> bool:
        return self.point.name in ("*", call.name) and self.point.host in (
            "*",
            call.host,
        )


class Faults:
    """The faults that a test asked for, and the calls of a group so far."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[_Fault] = []
        self._calls: list[Call] = []
        self._process_died = False

    def on(
        self, name: str, effect: Effect, *, host: str = "*", nth: int = 1
    ) -> None:
        """Let the nth call of a name, counted from now, take an effect.

        :param name: the call, as in ``"migrateToURI3"``, or ``"open"``;
            ``"*"`` for any.
        :param host: name of the host it goes to; ``"*"`` for any.
        """
        with self._lock:
            self._faults.append(_Fault(CallPoint(host, name, nth), effect))

    def at(self, point: CallPoint, effect: Effect) -> None:
        """Let one call that :func:`call_points` found take an effect."""
        self.on(point.name, effect, host=point.host, nth=point.nth)

    def meet(self, host: str, name: str) -> Effect:
        """Write a call down and return what is to happen to it."""
        call = Call(host, name)
        self.check_process()
        with self._lock:
            self._calls.append(call)
            return self._due(call)

    def end_process(self) -> None:
        """Let no call reach a host from now on."""
        self._process_died = True

    def new_process(self) -> None:
        """Let calls reach the hosts again."""
        self._process_died = False

    def check_process(self) -> None:
        """Fail if the calling process is dead.

        :raises ProcessDied: if it is.
        """
        if self._process_died:
            raise ProcessDied

    def pending(self) -> list[CallPoint]:
        """Return the faults that no call has met yet."""
        with self._lock:
            return [fault.point for fault in self._faults]

    def clear(self) -> None:
        """Forget all faults; calls from now on simply happen."""
        with self._lock:
            self._faults.clear()

    @property
    def calls(self) -> Sequence[Call]:
        """All calls so far, oldest first."""
        with self._lock:
            return tuple(self._calls)

    def forget_calls(self) -> None:
        """Start a new recording."""
        with self._lock:
            self._calls.clear()

    def _due(self, call: Call) -> Effect:
        due: Effect = _make
        for fault in [fault for fault in self._faults if fault.counts(call)]:
            fault.seen += 1
            if fault.seen == fault.point.nth:
                self._faults.remove(fault)
                due = fault.effect
        return due


def call_points(calls: Iterable[Call]) -> list[CallPoint]:
    """Name each call of a recorded run so that another run can fail it.

    >>> call_points([Call("a", "open"), Call("a", "open")])[-1]
    CallPoint(host='a', name='open', nth=2)
    """
    seen: dict[Call, int] = {}
    points = []
    for call in calls:
        seen[call] = seen.get(call, 0) + 1
        points.append(CallPoint(call.host, call.name, seen[call]))
    return points
