# SPDX-License-Identifier: Apache-2.0
"""Keep Nova from deleting the directory of a guest that runs elsewhere.

Where a claim is the only reason to clean up, some releases delete an
instance's directory though both hosts share it (Launchpad bug 2080436).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mdev_migrate.compute import objects

if TYPE_CHECKING:
    _Driver = Any
else:
    _Driver = object


class SharedDirectoryMixin(_Driver):  # type: ignore[misc]
    """Cleaning up for a LibvirtDriver that spares shared directories."""

    def _prepare_mdevs(self) -> None:
        """Make what these methods need, once the stock driver is made."""
        self._mdev_cleaning = threading.local()

    @contextlib.contextmanager
    def _mdev_sparing_directory(self, migrate_data: Any) -> Iterator[bool]:
        """Guard an instance's directory that both hosts share.

        :returns: whether it is guarded within the block, in this thread.
        """
        spare = objects.has_mdevs(migrate_data) and bool(
            objects.field(migrate_data, "is_shared_instance_path")
        )
        outer = self._mdev_spares_directory
        self._mdev_cleaning.spare = outer or spare
        try:
            yield self._mdev_spares_directory
        finally:
            self._mdev_cleaning.spare = outer

    @property
    def _mdev_spares_directory(self) -> bool:
        return bool(getattr(self._mdev_cleaning, "spare", False))

    def cleanup(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_device_info: Any = None,
        destroy_disks: bool = True,
        migrate_data: Any = None,
        destroy_vifs: bool = True,
        destroy_secrets: bool = True,
    ) -> Any:
        """Clean up, but never delete a directory that both hosts share."""
        with self._mdev_sparing_directory(migrate_data) as spared:
            return super().cleanup(
                context,
                instance,
                network_info,
                block_device_info,
                destroy_disks and not spared,
                migrate_data,
                destroy_vifs,
                destroy_secrets,
            )

    def _cleanup(self, *args: Any, **kwargs: Any) -> Any:
        if self._mdev_spares_directory:
            kwargs["cleanup_instance_dir"] = False
            kwargs["cleanup_instance_disks"] = False
        return super()._cleanup(*args, **kwargs)
