# SPDX-License-Identifier: Apache-2.0
"""Names that programs know from before claims lived on the destination.

New programs use :class:`workflow.Destination` and :mod:`limits`. Old ones use
these, though nothing else in the package does: they stay, as does
:class:`core.claims.ClaimTable`, until a release that says otherwise.
"""

from __future__ import annotations

from mdev_migrate.core import claims
from mdev_migrate.host import Host
from mdev_migrate.limits import DEFAULT, Limits
from mdev_migrate.workflow.values import Destination

__all__ = ["Limits", "MdevMigration"]


def MdevMigration(  # noqa: N802 - was a class
    host: Host,
    claim_table: claims.ClaimTable | None = None,
    *,
    limits: Limits = DEFAULT,
) -> Destination:
    """Return a host that guests come to.

    :param claim_table: is not needed any more.
    """
    del claim_table
    return Destination(host, limits)
