# SPDX-License-Identifier: Apache-2.0
"""Find ports, and wait for what listens on them."""

import socket
from pathlib import Path

from labhost import terminal
from labhost.failure import LabError

from cloudlab.layout import LISTENERS, LOOPBACK
from cloudlab.process import Process


def unused_ports() -> dict[str, int]:
    """Return a port for each listener that nobody listens on now."""
    sockets = {name: socket.socket() for name in LISTENERS}
    try:
        for link in sockets.values():
            link.bind((LOOPBACK, 0))
        return {name: link.getsockname()[1] for name, link in sockets.items()}
    finally:
        for link in sockets.values():
            link.close()


def wait_for_port(
    what: str, port: int, process: Process, limit_s: float, log: Path
) -> None:
    """Wait until a process listens.

    :raises LabError: if it ends, or does not in time.
    """

    def listens() -> bool:
        if not process.is_running():
            raise LabError(f"{what} ended; see {log}")
        try:
            socket.create_connection((LOOPBACK, port), 5).close()
        except OSError:
            return False
        return True

    terminal.wait_for(
        f"answer from {what} on port {port}", listens, limit_s, see=log
    )
