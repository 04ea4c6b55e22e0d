# SPDX-License-Identifier: Apache-2.0
"""What the lab says when it cannot go on."""


class LabError(Exception):
    """The lab cannot do what was asked; the text says why."""


class AgentUnreachable(LabError):
    """A host's agent did not answer."""

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(host, reason)
        self.host = host
        self.reason = reason

    def __str__(self) -> str:
        return f"host {self.host}: its agent does not answer: {self.reason}"
