# SPDX-License-Identifier: Apache-2.0
"""A way to a port of this machine that can be cut, and that can be long."""

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Iterator


class Proxy:
    """Passes on what comes, until it is cut; then new connections again.

    :param delay_s: how long each piece is on its way, in either direction;
        any number of them are on their way at the same time.
    :param port: where to listen; 0 for any.
    :ivar port: where it listens.
    """

    def __init__(
        self, target: int, delay_s: float = 0.0, *, port: int = 0
    ) -> None:
        self._target = target
        self._delay_s = delay_s
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._ends += [near, far]
                self._start(self._pass_on, near, far)
                self._start(self._pass_on, far, near)

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        self._start(self._take_in, one, way)
        with contextlib.suppress(OSError):
            while (come := way.get())[1]:
                time.sleep(max(0.0, come[0] - time.monotonic()))
                other.sendall(come[1])
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _take_in(
        self,
        end: socket.socket,
        way: "queue.SimpleQueue[tuple[float, bytes]]",
    ) -> None:
        """Put what comes on its way, and at the end of it nothing."""
        piece = b"-"
        while piece:
            try:
                piece = end.recv(65536)
            except OSError:
                piece = b""
            way.put((time.monotonic() + self._delay_s, piece))

    def cut(self) -> None:
        """Break every connection."""
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Break every connection and let no more come."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()


@contextlib.contextmanager
def open_to(
    target: int, delay_s: float = 0.0, *, port: int = 0
) -> Iterator[Proxy]:
    """Lend a way to a port of this machine; see :class:`Proxy`."""
    proxy = Proxy(target, delay_s, port=port)
    try:
        yield proxy
    finally:
        proxy.close()
