# SPDX-License-Identifier: Apache-2.0
"""Let one thread at a time do something for an instance."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Turns:
    """One thread at a time for each instance, and all instances at once."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._taken: set[str] = set()

    def is_taken(self, instance_uuid: str) -> bool:
        """Tell whether somebody holds an instance's turn now."""
        with self._change:
            return instance_uuid in self._taken

    @contextlib.contextmanager
    def taken(
        self, instance_uuid: str, *, wait: bool = True
    ) -> Iterator[bool]:
        """Take an instance's turn and hold it.

        :param wait: until it is free.
        :returns: whether it was taken: always, if it was waited for.
        """
        with self._change:
            if wait:
                self._change.wait_for(lambda: instance_uuid not in self._taken)
            mine = instance_uuid not in self._taken
            if mine:
                self._taken.add(instance_uuid)
        try:
            yield mine
        finally:
            if mine:
                with self._change:
                    self._taken.discard(instance_uuid)
                    self._change.notify_all()
