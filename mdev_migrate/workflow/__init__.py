# SPDX-License-Identifier: Apache-2.0
"""Migrate one guest between two hosts, without Nova.

:class:`GuestCheck` makes every pre-check and plans, changing nothing.
:class:`GuestMigration` does it.
"""

from mdev_migrate.workflow.check import GuestCheck
from mdev_migrate.workflow.migration import GuestMigration
from mdev_migrate.workflow.recovery import Recovered, Recovery
from mdev_migrate.workflow.values import (
    Destination,
    Observer,
    Options,
    Outcome,
    Report,
    Silent,
)

__all__ = [
    "Destination",
    "GuestCheck",
    "GuestMigration",
    "Observer",
    "Options",
    "Outcome",
    "Recovered",
    "Recovery",
    "Report",
    "Silent",
]
