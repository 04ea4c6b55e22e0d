# SPDX-License-Identifier: Apache-2.0
"""Tell from what both hosts say where a guest runs after a migration."""

from __future__ import annotations

import enum

from mdev_migrate import model


class Whereabouts(enum.Enum):
    """Where a guest is."""

    STAYED = "runs on the source"
    ARRIVED = "runs on the destination"
    MOVING = "a migration is still under way"


def tell(
    source: model.Guest | None,
    destination: model.Guest | None,
    *,
    job: bool,
) -> Whereabouts:
    """Return where a guest is.

    During a migration the guest is active on both hosts: the source runs
    it, the destination holds it paused. At the switch-over neither runs it
    for a moment, which is a migration under way too.

    :param source: the guest as the source knows it, None if it does not.
    :param destination: likewise.
    :param job: the source has a migration job for it.
    """
    left = source is None or not source.active
    if destination is not None and destination.running and left:
        return Whereabouts.ARRIVED
    incoming = destination is not None and destination.active
    if source is not None and source.running and not incoming and not job:
        return Whereabouts.STAYED
    return Whereabouts.MOVING
