# SPDX-License-Identifier: Apache-2.0
"""Speak to a host's QEMU over its monitor socket."""

import json
import os
import socket
from pathlib import Path
from typing import Any

from labhost.failure import LabError

SOCKET_NAME = "monitor.sock"
LIMIT_S = 20.0


def execute(folder: Path, command: str, **arguments: Any) -> Any:
    """Run one monitor command.

    :param folder: the host's folder.
    :raises LabError: if QEMU does not answer or refuses.
    """
    try:
        with _connect(folder) as link, link.makefile("rw") as stream:
            stream.readline()
            for name, values in (
                ("qmp_capabilities", {}),
                (command, arguments),
            ):
                request = {"execute": name, "arguments": values}
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                answer = _answer(stream)
    except (OSError, ValueError) as exc:
        raise LabError(f"{folder.name}: {command}: {exc}") from exc
    if "error" in answer:
        raise LabError(f"{folder.name}: {command}: {answer['error']['desc']}")
    return answer["return"]


def _connect(folder: Path) -> socket.socket:
    """Connect by way of the folder: socket paths are short, ours may not."""
    handle = os.open(folder, os.O_PATH)
    try:
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(LIMIT_S)
        link.connect(f"/proc/self/fd/{handle}/{SOCKET_NAME}")
    finally:
        os.close(handle)
    return link


def _answer(stream: Any) -> dict[str, Any]:
    """Read until an answer: events may come first."""
    while True:
        message: dict[str, Any] = json.loads(stream.readline())
        if "return" in message or "error" in message:
            return message
