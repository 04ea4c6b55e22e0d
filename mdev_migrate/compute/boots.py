# SPDX-License-Identifier: Apache-2.0
"""Hold the mdevs of a guest that is being booted until it has them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from mdev_migrate.compute import objects

#: The driver's methods that boot a guest with what Nova allocated for it.
BOOTS = ("spawn", "finish_migration", "_hard_reboot")


def while_booting(base: type, name: str) -> Callable[..., Any]:
    """Wrap a method that boots a guest: what it is allocated stays its own.

    :param base: the driver whose method is called.
    :returns: a method of the same signature.
    """
    stock = getattr(base, name)
    signature = inspect.signature(stock)

    @functools.wraps(stock)
    def booting(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind(self, *args, **kwargs).arguments
        instance_uuid = objects.instance_uuid(given["instance"])
        with self.mdev_compute.promises.booting(instance_uuid):
            return getattr(base, name)(self, *args, **kwargs)

    booting.__signature__ = signature  # type: ignore[attr-defined]
    return booting
