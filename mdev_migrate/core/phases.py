# SPDX-License-Identifier: Apache-2.0
"""The stand-alone workflow as one transition table.

::

    check -> plan -> claim -> create -> prepare -> migrate -> verify -> release
                       |        |          |          |          |
                       +--------+----------+----------+          +-> release
                                     undo

A step that fails is undone by what its row says of the target mdevs, and so
is a claim whose owner died in that step: this table is all that a recovery
needs to know besides where the guest runs.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mdev_migrate import model
from mdev_migrate.core import allocation
from mdev_migrate.model import Step

__all__ = ["TABLE", "Row", "Step", "Targets", "Undo"]


class Targets(enum.Enum):
    """What may have happened to the target mdevs when a step failed."""

    NOTHING = "nothing"
    CREATED = "some of them created"
    TOUCHED = "a failed incoming migration left its state in them"
    IN_USE = "the guest runs on them"


@dataclass(frozen=True, slots=True)
class Row:
    """What follows a step, and what its failure leaves behind."""

    then: Step | None
    targets: Targets


TABLE = {
    Step.CONNECT: Row(Step.CHECK, Targets.NOTHING),
    Step.CHECK: Row(Step.PLAN, Targets.NOTHING),
    Step.PLAN: Row(Step.CLAIM, Targets.NOTHING),
    Step.CLAIM: Row(Step.CREATE, Targets.NOTHING),
    Step.CREATE: Row(Step.PREPARE, Targets.CREATED),
    Step.PREPARE: Row(Step.MIGRATE, Targets.CREATED),
    Step.MIGRATE: Row(Step.VERIFY, Targets.TOUCHED),
    Step.VERIFY: Row(Step.RELEASE, Targets.IN_USE),
    Step.RELEASE: Row(None, Targets.IN_USE),
}


@dataclass(frozen=True, slots=True)
class Undo:
    """What to do with target mdevs after a failed step.

    :ivar destroy: we made them.
    :ivar recycle: they were there before, and must be destroyed and created
        again before anybody may use them.
    """

    destroy: tuple[model.Mdev, ...] = ()
    recycle: tuple[model.Mdev, ...] = ()


def guest_may_have_moved(step: Step) -> bool:
    """Tell whether a guest may run on its targets after a step failed."""
    return TABLE[step].targets in (Targets.TOUCHED, Targets.IN_USE)


def undo(step: Step, plan: allocation.AllocationPlan) -> Undo:
    """Return what must be undone after a step that failed.

    For a guest that stayed on the source: one that runs on its target mdevs
    keeps them, whatever step failed.
    """
    match TABLE[step].targets:
        case Targets.CREATED:
            return Undo(destroy=plan.create)
        case Targets.TOUCHED:
            return Undo(destroy=plan.create, recycle=plan.reuse)
        case _:
            return Undo()
