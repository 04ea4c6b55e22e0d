# SPDX-License-Identifier: Apache-2.0
"""Which mdevs of a compute node are promised, without asking anybody.

A compute service is asked for this at every boot, reboot and report, also
for instances without mdevs. The answer is kept in memory: a ledger that is
slow, locked or gone must not disturb them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator

from mdev_migrate.core import claims


class Promises:
    """The mdevs that claims and boots hold and that no guest has yet.

    Empty until :meth:`refresh` is called first.
    """

    def __init__(self, table: claims.ClaimTable) -> None:
        self._table = table
        self._claimed: dict[str, list[str]] = {}
        self._booting: dict[str, str] = {}
        self._thread = threading.local()

    def refresh(self) -> None:
        """Read the claims anew.

        :raises LedgerError: if they cannot be read.
        """
        self._claimed = {
            instance_uuid: [mdev.uuid for mdev in claim.plan.mdevs]
            for instance_uuid, claim in self._table.all().items()
        }

    def claimed(self) -> dict[str, list[str]]:
        """Return the UUIDs of claimed mdevs by instance UUID."""
        hidden = getattr(self._thread, "hidden", False)
        return {} if hidden else dict(self._claimed)

    def by_mdev(self) -> dict[str, str]:
        """Return the instance that each promised mdev is promised to."""
        claimed = {
            mdev_uuid: instance_uuid
            for instance_uuid, mdevs in self._claimed.items()
            for mdev_uuid in mdevs
        }
        return {**self._booting, **claimed}

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Let this thread see no claims: it asks what guests have."""
        self._thread.hidden = True
        try:
            yield
        finally:
            self._thread.hidden = False

    @contextlib.contextmanager
    def booting(self, instance_uuid: str) -> Iterator[None]:
        """Hold what is allocated for a boot until its guest has it.

        Nova gives up its lock before it defines the guest.
        """
        outer = getattr(self._thread, "instance", None)
        self._thread.instance = instance_uuid
        try:
            yield
        finally:
            self._thread.instance = outer
            for uuid, holder in list(self._booting.items()):
                if holder == instance_uuid:
                    self._booting.pop(uuid, None)

    def hold(self, chosen: Iterable[str]) -> None:
        """Hold mdevs for the instance that this thread boots, if any."""
        instance_uuid = getattr(self._thread, "instance", None)
        if instance_uuid is not None:
            for uuid in chosen:
                self._booting[uuid] = instance_uuid
