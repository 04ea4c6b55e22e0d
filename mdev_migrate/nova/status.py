# SPDX-License-Identifier: Apache-2.0
"""``mdev-migrate-status upgrade check``, as nova-status has it.

On a compute, as the user that nova-compute runs as, with its configuration.
Ends with 0 if all is well, 1 if something wants to be looked at, 2 if guests
with mdevs would not be migrated, 255 if it could not be found out.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import nova.conductor
import nova.conf
from nova.objects import migrate_data
from oslo_upgradecheck import upgradecheck

from mdev_migrate import exception, libvirt_host
from mdev_migrate.compute import conf, readiness
from mdev_migrate.core import claim_xml

CONF = nova.conf.CONF
conf.register(CONF)

_CODES = {
    "well": upgradecheck.Code.SUCCESS,
    "look": upgradecheck.Code.WARNING,
    "bad": upgradecheck.Code.FAILURE,
}


def _shown(look: Callable[[], readiness.Finding]) -> Any:
    """Return what a check found, as oslo.upgradecheck shows it."""
    try:
        found = look()
    except exception.MdevMigrateError as error:
        found = readiness.Finding(
            "bad", f"{error} ({error.code}: {error.hint})"
        )
    return upgradecheck.Result(_CODES[found.level], found.details)


class Checks(upgradecheck.UpgradeCommands):  # type: ignore[misc]
    """What must be there before guests with mdevs are live-migrated."""

    display_title = "Live migration of guests with mdevs"

    def _configured(
        self, check: Callable[[Any], readiness.Finding]
    ) -> upgradecheck.Result:
        return _shown(functools.partial(check, CONF))

    def _object(self) -> upgradecheck.Result:
        fields = migrate_data.LibvirtLiveMigrateData.fields
        return _shown(functools.partial(readiness.check_object, fields))

    def _on_host(
        self, check: Callable[[libvirt_host.LibvirtHost], readiness.Finding]
    ) -> upgradecheck.Result:
        def look() -> readiness.Finding:
            libvirt_host.own_process()
            host = libvirt_host.LibvirtHost.open(
                CONF.libvirt.connection_uri or "qemu:///system"
            )
            try:
                return check(host)
            finally:
                host.close()

        return _shown(look)

    _upgrade_checks = (
        ("Options", (_configured, {"check": readiness.check_options})),
        ("Downtime", (_configured, {"check": readiness.check_downtime})),
        (
            "Timeout action",
            (_configured, {"check": readiness.check_timeout_action}),
        ),
        ("Bandwidth", (_configured, {"check": readiness.check_bandwidth})),
        ("Secrecy", (_configured, {"check": readiness.check_secrecy})),
        ("Compute RPC", (_configured, {"check": readiness.check_rpc})),
        ("Conductors", _object),
        ("Versions", (_on_host, {"check": readiness.check_versions})),
        (
            "Enabled types",
            (
                _on_host,
                {"check": lambda host: readiness.check_types(CONF, host)},
            ),
        ),
        ("mdevctl", (_configured, {"check": readiness.check_mdevctl})),
        (
            "Claims",
            (
                _on_host,
                {
                    "check": lambda host: readiness.check_claims(
                        host, claim_xml.Form(CONF.libvirt.virt_type)
                    )
                },
            ),
        ),
    )


def main() -> int:
    """Check what the command line asks for, and return the exit status."""
    status: int = upgradecheck.main(
        CONF, project="nova", upgrade_command=Checks(), argv=sys.argv[1:]
    )
    return status
