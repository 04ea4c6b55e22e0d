# SPDX-License-Identifier: Apache-2.0
"""Let Nova list a part of a host's devices, where it needs no more.

Nova looks at whatever it lists: that costs it two more calls for each device,
often under the lock that boots wait for.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any, Literal

from mdev_migrate.compute import wrapping

Lists = Literal["list_mediated_devices", "list_mdev_capable_devices"]


def mdev_uuid(name: str) -> str:
    """Return the UUID that libvirt's name of an mdev is made of.

    Since libvirt 7.7.0 its parent's address follows.

    >>> mdev_uuid("mdev_c60cc781_5b3e_4e5b_8b04_5f2b7d6e3a10_0000_06_00_0")
    'c60cc781-5b3e-4e5b-8b04-5f2b7d6e3a10'
    """
    return name.removeprefix("mdev_")[:36].replace("_", "-").lower()


class Listing:
    """What Nova's host lists, thread by thread."""

    def __init__(self) -> None:
        self._thread = threading.local()

    def wrap(self, host: Any) -> None:
        """Let one of Nova's hosts list what a thread wants."""
        lists: Lists
        for lists in ("list_mediated_devices", "list_mdev_capable_devices"):
            around = functools.partial(self._listed, lists)
            wrapping.wrap(host, lists, around)

    def _listed(
        self,
        lists: Lists,
        stock: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        wanted = getattr(self._thread, lists, None)
        names = stock(*args, **kwargs)
        if wanted is None or not names:
            return names
        return [name for name in names if wanted(name)]

    @contextlib.contextmanager
    def _only(
        self, lists: Lists, wanted: Callable[[str], bool]
    ) -> Iterator[None]:
        outer = getattr(self._thread, lists, None)
        setattr(self._thread, lists, wanted)
        try:
            yield
        finally:
            setattr(self._thread, lists, outer)

    def mdevs(
        self, uuids: Collection[str]
    ) -> contextlib.AbstractContextManager[None]:
        """Let this thread list, of the mdevs, those of some UUIDs."""
        known = {uuid.lower() for uuid in uuids}
        return self._only(
            "list_mediated_devices", lambda name: mdev_uuid(name) in known
        )

    def mdevs_besides(
        self, uuids: Collection[str]
    ) -> contextlib.AbstractContextManager[None]:
        """Let this thread list the mdevs that are not of some UUIDs."""
        known = {uuid.lower() for uuid in uuids}
        return self._only(
            "list_mediated_devices", lambda name: mdev_uuid(name) not in known
        )

    def parent(self, parent: str) -> contextlib.AbstractContextManager[None]:
        """Let this thread list one of the parents."""
        return self._only(
            "list_mdev_capable_devices", lambda name: name == parent
        )
