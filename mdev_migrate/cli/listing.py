# SPDX-License-Identifier: Apache-2.0
"""Which mdevs a host has, and who holds each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from mdev_migrate import model
from mdev_migrate.core import claims


class Row(NamedTuple):
    """An mdev as ``list`` shows it.

    :ivar held_by: a guest's name, else a claim; None if it is available.
    """

    uuid: str
    mdev_type: str
    parent: str
    state: Literal["active", "defined"]
    held_by: str | None


def rows(
    inventory: model.Inventory, claimed: Mapping[str, claims.Claim]
) -> list[Row]:
    """Return a host's mdevs, in the order of its inventory.

    :param claimed: the claims on this host's mdevs, by instance UUID.
    """
    holders = {
        mdev.uuid: f"claim of {instance_uuid}"
        for instance_uuid, claim in claimed.items()
        for mdev in claim.plan.mdevs
    }
    holders |= {
        uuid: guest.name for uuid, guest in inventory.assigned().items()
    }
    return [
        Row(
            uuid=mdev.uuid,
            mdev_type=mdev.mdev_type,
            parent=mdev.parent,
            state="active" if mdev.active else "defined",
            held_by=holders.get(mdev.uuid),
        )
        for mdev in inventory.mdevs
    ]
