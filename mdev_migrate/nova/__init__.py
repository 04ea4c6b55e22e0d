# SPDX-License-Identifier: Apache-2.0
"""What a Nova fork, or a plain Nova, imports.

``from mdev_migrate.nova import LibvirtDriver`` in
``nova/virt/libvirt/__init__.py`` is the whole change to a fork;
:func:`install` makes the same change in a running process. nova-conductor
needs :mod:`mdev_migrate.nova.conductor`.

Nothing of Nova is imported before it is asked for: nova-compute must patch
the standard library first.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """Compose the driver class when it is first asked for."""
    if name == "LibvirtDriver":
        from mdev_migrate.nova import composed  # noqa: PLC0415 - see above

        return composed.LibvirtDriver
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def install() -> None:
    """Put the composed driver and the extended object in place.

    Nova's driver loader finds the composed class, and the migrate data
    knows mdevs. May be called more than once.

    :raises mdev_migrate.nova.migrate_data.ObjectConflict: if this Nova's
        migrate data uses version 1.11 for something else.
    """
    from nova.virt import libvirt  # noqa: PLC0415 - see above

    from mdev_migrate.nova import composed  # noqa: PLC0415

    libvirt.LibvirtDriver = composed.LibvirtDriver
