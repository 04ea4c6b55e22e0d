# SPDX-License-Identifier: Apache-2.0
"""The two ends of a migration, as a command has opened them."""

from __future__ import annotations

from dataclasses import dataclass

from mdev_migrate import ledger
from mdev_migrate.core.claims import ClaimTable
from mdev_migrate.host import Host
from mdev_migrate.service import MdevMigration


@dataclass(frozen=True, slots=True)
class Places:
    """The two hosts of a migration, and who migrates.

    :ivar source_claims: the claims on the source's mdevs.
    """

    source: Host
    destination: MdevMigration[Host]
    source_claims: ClaimTable
    owners: ledger.Owners
