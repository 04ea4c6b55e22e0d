# SPDX-License-Identifier: Apache-2.0
"""What does every call of a simulated connection pass through?

Each call that a real connection sends to its daemon is marked with
:func:`remote` or :func:`remote_unlocked`. Both go through :meth:`Link.run`,
the one place where calls are recorded, faults happen and broken connections
answer. Calls that never leave the process (``name``, ``UUIDString``,
``connect``, ``isAlive``, ``close`` and the like) are not marked.
"""

import contextlib
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import libvirt

from mdev_migrate.testing import errors
from mdev_migrate.testing.faults import Faults

P = ParamSpec("P")
R = TypeVar("R")


class LinkOwner(Protocol):
    """The host at the other end of a link."""

    name: str

    @property
    def crashed(self) -> str | None:
        """Why the host's kernel crashed."""

    @property
    def faults(self) -> Faults:
        """The faults of the host's group."""

    def changing(self) -> contextlib.AbstractContextManager[None]:
        """Hold the lock of the host's group."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A call on its way: made only if the connection lives by then."""

    check: Callable[[], None]
    make: Callable[[], Any]

    def __call__(self) -> Any:
        self.check()
        return self.make()


class Link:
    """The wire between a client and a host's daemon."""

    def __init__(self, host: LinkOwner) -> None:
        self._host = host
        self._closed = False
        self._cut = False
        self._waiting: set[threading.Event] = set()
        self._on_cut: Callable[[int], None] | None = None

    @property
    def alive(self) -> bool:
        """Tell whether calls still reach the host."""
        return not (self._cut or self._closed)

    def run(self, name: str, call: Callable[[], Any]) -> Any:
        """Record a call, and make it unless a fault says otherwise."""
        self._check(name)
        effect = self._host.faults.meet(self._host.name, name)
        return effect(self, _Call(functools.partial(self._check, name), call))

    def sent(self, call: Callable[[], Any]) -> Callable[[], Any]:
        """Return a call as the host makes it, whoever waits for its answer."""
        return call.make if isinstance(call, _Call) else call

    def cut(self, reason: int = libvirt.VIR_CONNECT_CLOSE_REASON_EOF) -> None:
        """Break the connection; the host lives on.

        A call that is waiting for its answer fails at once.
        """
        if not self.alive:
            return
        self._break()
        if self._on_cut is not None:
            self._on_cut(reason)

    def die(self) -> None:
        """End the process at the client's end: it hears no more of this."""
        self._host.faults.end_process()
        self._break()

    def close(self) -> None:
        """Close the connection on purpose."""
        self._closed = True

    def on_cut(self, callback: Callable[[int], None] | None) -> None:
        """Say whom to tell when the connection breaks."""
        self._on_cut = callback

    def wait_for(self, ended: threading.Event) -> None:
        """Wait until the host is done, or the connection breaks.

        :param ended: is also set, by this link, when the connection breaks.
        :raises libvirt.libvirtError: if the connection broke.
        """
        self._waiting.add(ended)
        try:
            if self.alive:
                ended.wait()
        finally:
            self._waiting.discard(ended)
        self._host.faults.check_process()
        if not self.alive:
            raise errors.connection_broke()

    def _break(self) -> None:
        self._cut = True
        for waiting in list(self._waiting):
            waiting.set()

    def _check(self, name: str) -> None:
        self._host.faults.check_process()
        if self._closed:
            raise errors.libvirt_error(
                libvirt.VIR_ERR_INVALID_CONN,
                f"virConnect{name[0].upper()}{name[1:]}",
                libvirt.VIR_FROM_DOMAIN,
            )
        if self._cut or self._host.crashed:
            self._cut = True
            raise errors.connection_closed()


class _Linked(Protocol):
    @property
    def link(self) -> Link: ...

    @property
    def host(self) -> Any: ...


S = TypeVar("S", bound=_Linked)


def remote_unlocked(
    method: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[S, P], R]:
    """Mark a call that reaches the host and may take its time there."""

    @functools.wraps(method)
    def through_the_link(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        call = functools.partial(method, self, *args, **kwargs)
        answer: R = self.link.run(method.__name__, call)
        return answer

    return through_the_link


def remote(
    method: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[S, P], R]:
    """Mark a call that reaches the host and is one step there."""

    @functools.wraps(method)
    def one_step(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.host.changing():
            return method(self, *args, **kwargs)

    return remote_unlocked(one_step)
