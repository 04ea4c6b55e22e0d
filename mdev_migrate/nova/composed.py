# SPDX-License-Identifier: Apache-2.0
"""The composed driver class: the mixin first, Nova's class second.

Nova's own code says ``super(LibvirtDriver, self)`` and looks that name up in
its module when it runs: nothing here may be bound to that name there.
"""

from __future__ import annotations

from nova.virt.libvirt import driver

from mdev_migrate.compute.boots import BOOTS, while_booting
from mdev_migrate.nova.mixin import NovaMixin


class LibvirtDriver(
    NovaMixin,
    driver.LibvirtDriver,  # type: ignore[misc]
):
    """Nova's LibvirtDriver with live migration of guests with mdevs.

    :raises OptionInvalid: if an option of the group cannot be used.
    """


for _name in BOOTS:
    setattr(LibvirtDriver, _name, while_booting(driver.LibvirtDriver, _name))
