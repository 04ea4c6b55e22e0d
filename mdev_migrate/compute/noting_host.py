# SPDX-License-Identifier: Apache-2.0
"""A host that notes what is done to its mdevs, for the log."""

from __future__ import annotations

from collections.abc import Collection

from mdev_migrate import model
from mdev_migrate.compute.driver_host import DriverHost


class NotingHost:
    """Passes everything on, and notes which mdevs went; see ``MdevHost``."""

    def __init__(self, host: DriverHost) -> None:
        self._host = host
        self.claims = host.claims
        self.removed: list[str] = []
        self.recycled: list[str] = []

    def inventory(self) -> model.Inventory:
        """Return the host's mdevs, guests and claims."""
        return self._host.inventory()

    def inventory_of(self, mdev_uuids: Collection[str]) -> model.Inventory:
        """Return some of its mdevs."""
        return self._host.inventory_of(mdev_uuids)

    def remove_mdev(self, mdev: model.Mdev) -> bool:
        """Remove an mdev."""
        removed = self._host.remove_mdev(mdev)
        self.removed.append(mdev.uuid)
        return removed

    def recycle_mdev(self, mdev: model.Mdev) -> None:
        """Recycle an mdev."""
        self._host.recycle_mdev(mdev)
        self.recycled.append(mdev.uuid)

    def reconnect(self) -> None:
        """Open the connection anew."""
        self._host.reconnect()
