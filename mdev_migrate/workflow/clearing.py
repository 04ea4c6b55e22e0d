# SPDX-License-Identifier: Apache-2.0
"""Remove the mdevs that were made for a guest from the host that it leaves.

They are claimed on that host before the guest is sent: nobody is given one
meanwhile, and if whoever sends it is killed, a recovery there finds what is
to be removed. A guest that is still there holds its mdevs, whatever is
claimed. What is defined to survive a reboot stays.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

from mdev_migrate import exception, model, undoing
from mdev_migrate.core import claim_xml
from mdev_migrate.core.claim_life import End
from mdev_migrate.host import Host
from mdev_migrate.limits import Limits
from mdev_migrate.model import Step
from mdev_migrate.workflow.keeping import KeptClaim
from mdev_migrate.workflow.values import mint


class Clearing:
    """What was made for one guest on the host that it is about to leave.

    :param who: the claim to make, without targets.
    """

    def __init__(
        self,
        host: Host,
        who: model.Claim,
        mdevs: Iterable[model.Mdev],
        form: claim_xml.Form,
        limits: Limits,
    ) -> None:
        self._host = host
        self._limits = limits
        self._kept: list[KeptClaim] = []
        self.problems: list[exception.MdevMigrateError] = []
        for mdev in mdevs:
            claim = replace(
                who,
                token=mint(),
                targets=(
                    model.Target(mdev, created=True, domain_uuid=mint()),
                ),
                step=Step.CREATE,
                beat=time.time(),
            )
            try:
                host.claims.define(claim, form)
            except exception.MdevMigrateError as error:
                self.problems.append(error)
            else:
                self._kept.append(KeptClaim(host, claim, limits))

    def finish(self) -> None:
        """Remove them: the guest has left.

        What is in the way is added to ``problems``. What could not be
        removed stays claimed, unless access control denied it.
        """
        for kept in self._kept:
            try:
                problems = undoing.end_claim(
                    self._host, kept.claim, End.UNDO, self._limits
                )
            finally:
                kept.let_go()
            self.problems += problems
            if problems and undoing.all_denied(problems):
                # What is left is as it was, and others may have a use for it.
                self._give_up(kept)
            elif problems:
                kept.leave()

    def cancel(self) -> None:
        """Give them up: the guest stays."""
        for kept in self._kept:
            self._give_up(kept)

    def leave(self) -> None:
        """Leave them to a recovery: it is not known where the guest is."""
        for kept in self._kept:
            kept.leave()

    def _give_up(self, kept: KeptClaim) -> None:
        kept.let_go()
        try:
            self._host.claims.undefine(kept.claim)
        except exception.MdevMigrateError as error:
            self.problems.append(error)
            kept.leave()
