# SPDX-License-Identifier: Apache-2.0
"""The options of a compute service, group ``[mdev_migrate]``."""

from __future__ import annotations

from typing import Any

from oslo_config import cfg

from mdev_migrate.core import transport
from mdev_migrate.service import Limits


def _flow(text: str) -> str:
    """Return a help text in one line: what shows it wraps it."""
    return " ".join(text.split())


GROUP = cfg.OptGroup(
    "mdev_migrate",
    title="Live migration of guests with mediated devices",
)

OPTIONS = [
    cfg.IntOpt(
        "max_downtime",
        default=10_000,
        min=0,
        max=transport.MAX_DOWNTIME_MS,
        mutable=True,
        help=_flow("""\
How long a guest with mdevs may stand still at most while it switches over to
the destination, in milliseconds. The state of its devices is sent in that
time, so a vGPU with some GiB of frame buffer needs far more than a guest
without: divide the frame buffer by the bandwidth of the migration network.
The limit is reached in the steps of ``[libvirt]live_migration_downtime_steps``
and ``live_migration_downtime_delay``, so that a guest that needs less stops
for less. Applies to guests with mdevs alone; 0 gives them the limit of all
others, ``[libvirt]live_migration_downtime``.
"""),
    ),
    cfg.StrOpt(
        "state_dir",
        default="/var/lib/mdev-migrate",
        help=_flow("""\
Folder for the ledger of target mdevs that are claimed for incoming
migrations. The user of this service must be able to write there, and it must
survive a restart. By default it is where the ``mdev-migrate`` command looks,
so that it and Nova see each other's claims on this host; give the command any
other folder with ``--state-dir``.
"""),
    ),
    cfg.FloatOpt(
        "listed_timeout",
        default=10.0,
        min=0.0,
        help=_flow("""\
How long to wait, in seconds, for a created mdev to be listed by libvirt.
"""),
    ),
    cfg.FloatOpt(
        "busy_timeout",
        default=60.0,
        min=0.0,
        help=_flow("""\
How long a rollback tries, in seconds, to remove a target mdev that is busy.
One that stays busy is not given to any guest.
"""),
    ),
]


def register(configuration: Any) -> None:
    """Register the options on a ConfigOpts."""
    configuration.register_group(GROUP)
    configuration.register_opts(OPTIONS, GROUP)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """Return the options for oslo-config-generator."""
    return [(GROUP, OPTIONS)]


def limits(configuration: Any) -> Limits:
    """Return the time limits that are configured."""
    group = configuration.mdev_migrate
    return Limits(listed_s=group.listed_timeout, busy_s=group.busy_timeout)
