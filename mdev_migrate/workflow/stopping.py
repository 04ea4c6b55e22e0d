# SPDX-License-Identifier: Apache-2.0
"""Is a migration to stop, on request or because its time is up?"""

from __future__ import annotations

import math
import threading
import time


class Stopping:
    """What stops a migration.

    :param stop: stops it when set.
    :param timeout_s: how long it may take; None for no limit.
    :param began: when it began, by the monotonic clock; None for now.
    """

    def __init__(
        self,
        stop: threading.Event,
        timeout_s: float | None,
        began: float | None = None,
    ) -> None:
        self._stop = stop
        self._timeout_s = timeout_s
        began = time.monotonic() if began is None else began
        self._deadline = began + (math.inf if timeout_s is None else timeout_s)

    def reason(self) -> str | None:
        """Return why it is to stop; None if it is not."""
        if self._stop.is_set():
            return "on request"
        if time.monotonic() > self._deadline:
            return f"not done within {self._timeout_s:g} s"
        return None
