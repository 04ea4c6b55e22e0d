# SPDX-License-Identifier: Apache-2.0
"""Run commands inside a host, over its agent's loopback port."""

import socket
from dataclasses import dataclass
from typing import BinaryIO

from labhost.failure import AgentUnreachable
from labhost.state import RunningHost

#: Time beyond a command's own limit until the agent counts as dead.
GRACE_S = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended.

    :ivar status: exit status; 124 if it was ended by its time limit.
    """

    status: int
    stdout: str
    stderr: str


def run(host: RunningHost, script: str, limit_s: int = 60) -> Answer:
    """Run a shell script inside a host.

    :param limit_s: seconds after which the host ends the script.
    :raises AgentUnreachable: if there is no answer.
    """
    address = ("127.0.0.1", host.agent_port)
    try:
        with socket.create_connection(address, limit_s + GRACE_S) as link:
            return _ask(link, script.encode(), limit_s)
    except (OSError, ValueError) as exc:
        raise AgentUnreachable(host.name, str(exc)) from exc


def _ask(link: socket.socket, script: bytes, limit_s: int) -> Answer:
    link.sendall(f"{len(script)} {limit_s}\n".encode() + script)
    with link.makefile("rb") as reader:
        header = reader.readline().split()
        status, stdout_size, stderr_size = (int(word) for word in header)
        stdout = _read(reader, stdout_size)
        return Answer(status, stdout, _read(reader, stderr_size))


def _read(reader: BinaryIO, size: int) -> str:
    text = reader.read(size)
    if len(text) != size:
        raise ValueError(f"{len(text)} of {size} bytes came")
    return text.decode(errors="replace")
