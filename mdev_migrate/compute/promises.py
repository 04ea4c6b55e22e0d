# SPDX-License-Identifier: Apache-2.0
"""Which mdevs of a compute node are promised, without asking anybody.

A compute service is asked for this at every boot, reboot and report, also
for instances without mdevs. The answer is kept in memory: a ledger that is
slow, locked or gone must not disturb them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    MutableMapping,
)

from mdev_migrate.core import claims


class Promises:
    """The mdevs that claims and boots hold and that no guest has yet.

    Empty until :meth:`refresh` is called first.
    """

    def __init__(self, table: claims.ClaimTable) -> None:
        self._table = table
        self._claimed: dict[str, list[str]] = {}
        self._booting: dict[str, str] = {}
        self._refreshing = threading.Lock()
        self._thread = threading.local()

    def refresh(self) -> dict[str, claims.Claim]:
        """Read the claims anew, and return them by instance UUID.

        One thread at a time: what was read earlier must not take the place
        of what was read later.

        :raises LedgerError: if they cannot be read.
        """
        with self._refreshing:
            found = self._table.all()
            self._claimed = {
                instance_uuid: [mdev.uuid for mdev in claim.plan.mdevs]
                for instance_uuid, claim in found.items()
            }
        return found

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

    def boot_holds(self, mdev_uuids: Iterable[str]) -> bool:
        """Tell whether a boot holds any of some mdevs."""
        return not set(mdev_uuids).isdisjoint(list(self._booting))

    def hold(self, chosen: Iterable[str]) -> None:
        """Hold mdevs for the instance that this thread boots, if any.

        They are those that it is allocated, or those of a guest that is
        destroyed and made anew.
        """
        instance_uuid = getattr(self._thread, "instance", None)
        if instance_uuid is not None:
            for uuid in chosen:
                self._booting[uuid] = instance_uuid


class ClaimedMdevs(MutableMapping[str, list[str]]):
    """The claims as ``instance_claimed_mdevs``: mdev UUIDs by instance UUID.

    Nova 29 and later have a dict of that name, which stock code reads and
    pops. Nothing is ever put in from there: the mixin claims by itself.
    """

    def __init__(self, now: Callable[[], dict[str, list[str]]]) -> None:
        self._now = now

    def __getitem__(self, instance_uuid: str) -> list[str]:
        return self._now()[instance_uuid]

    def __setitem__(self, instance_uuid: str, mdevs: list[str]) -> None:
        raise TypeError("target mdevs are claimed by the mixin alone")

    def __delitem__(self, instance_uuid: str) -> None:
        """Leave the claim: the mixin's own hooks end it, and undo it.

        It may have ended since it was looked at, which is no error.
        """

    def items(self) -> ItemsView[str, list[str]]:
        """Return the claims as they are now, all at once."""
        return self._now().items()

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())
