# SPDX-License-Identifier: Apache-2.0
"""Let a guest survive a reboot of its new host as it did on its old one.

libvirt takes its definition along, but not whether it is started with the
host; and a target mdev that was reused may be gone after a boot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from mdev_migrate import exception, model
from mdev_migrate.host import Host


def starts_with_host(
    source: Host, guest: model.Guest, warn: Callable[[str], None]
) -> bool:
    """Tell whether a guest is started when its host boots.

    :param warn: is told if libvirt does not say: no guest stays for that.
    :raises HostUnreachable: if the source is not there any more.
    """
    try:
        return guest.persistent and source.starts_with_host(
            guest.instance_uuid
        )
    except exception.LibvirtFailed as error:
        warn(
            "the guest is not started when its new host boots ('virsh "
            f"autostart'): whether it was on the source is not known: {error}"
        )
        return False


def keep(
    host: Host,
    guest: model.Guest,
    define: Mapping[str, bool],
    *,
    starts: bool,
) -> Iterator[str]:
    """Define target mdevs, and let the guest start with its new host.

    :param define: UUIDs of the mdevs to define, and whether they start with
        the host.
    :param starts: the guest does.
    :returns: in words what could not be done.
    """
    for mdev_uuid, autostart in define.items():
        try:
            host.define_mdev(mdev_uuid, autostart=autostart)
        except exception.MdevMigrateError as error:
            yield (
                f"mdev {mdev_uuid} does not survive a reboot of {host.uri}, "
                f"as the guest's mdev on the source did: {error}"
            )
    if starts:
        try:
            host.start_with_host(guest.instance_uuid)
        except exception.MdevMigrateError as error:
            yield (
                f"the guest is not started when {host.uri} boots, as it was "
                f"on the source ('virsh autostart'): {error}"
            )
