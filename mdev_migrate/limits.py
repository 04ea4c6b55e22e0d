# SPDX-License-Identifier: Apache-2.0
"""How long to wait for what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait for what, in seconds.

    :ivar listed_s: for a created mdev to be listed by the host.
    :ivar busy_s: for a busy mdev to be let go, and for a host that cannot
        be reached to come back, while undoing.
    :ivar settle_s: for a migration to come to an end after an error or an
        abort, and for a libvirt that is restarted meanwhile.
    :ivar stable_s: for a guest to be seen where it was, when its source may
        still begin to send it for somebody who hears no answer.
    :ivar poll_s: between two looks.
    :ivar beat_s: between two beats of a claim.
    :ivar silent_s: for a beat that does not come: whoever has not been heard
        for so long is gone.
    :ivar tries: how often to choose again when others were faster.
    """

    listed_s: float = 10.0
    busy_s: float = 60.0
    settle_s: float = 60.0
    stable_s: float = 5.0
    poll_s: float = 0.25
    beat_s: float = 5.0
    silent_s: float = 20.0
    tries: int = 5

    def pauses(self) -> Iterator[float]:
        """Return how long to wait before each next look, in seconds.

        What is not there at once is looked for ever less often, up to eight
        times ``poll_s``.
        """
        pause_s = self.poll_s
        while True:
            yield pause_s
            pause_s = min(1.5 * pause_s, 8 * self.poll_s)


DEFAULT = Limits()
