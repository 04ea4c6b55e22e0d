# SPDX-License-Identifier: Apache-2.0
"""The steps of a migration, and what a failure at each leaves behind.

::

    check -> plan -> claim -> create -> prepare -> migrate -> verify -> release
                       |        |          |          |
                       +--------+----------+----------+
                                     undo

How a step is undone says the claim's own table, :mod:`core.claim_life`.
"""

from __future__ import annotations

import enum

from mdev_migrate.model import Step

__all__ = ["TARGETS", "Step", "Targets"]


class Targets(enum.Enum):
    """What may have happened to the target mdevs when a step failed."""

    NOTHING = "nothing"
    CREATED = "some of them created"
    TOUCHED = "a failed incoming migration left its state in them"
    IN_USE = "the guest runs on them"


TARGETS = {
    Step.CONNECT: Targets.NOTHING,
    Step.CHECK: Targets.NOTHING,
    Step.PLAN: Targets.NOTHING,
    Step.CLAIM: Targets.NOTHING,
    Step.CREATE: Targets.CREATED,
    Step.PREPARE: Targets.CREATED,
    Step.MIGRATE: Targets.TOUCHED,
    Step.VERIFY: Targets.IN_USE,
    Step.RELEASE: Targets.IN_USE,
}
