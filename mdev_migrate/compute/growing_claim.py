# SPDX-License-Identifier: Apache-2.0
"""The claim of a check under way, which gets one mdev after the other."""

from __future__ import annotations

import uuid
from dataclasses import replace

from mdev_migrate import model
from mdev_migrate.compute.promises import Promises


class GrowingClaim:
    """A claim, and what it is made of by now.

    :ivar claim: as it is by now.
    :ivar created: UUIDs of what is known to have been created.
    """

    def __init__(self, promises: Promises, claim: model.Claim) -> None:
        self._promises = promises
        self.claim = claim
        self.created: frozenset[str] = frozenset()

    def create(self, mdev_type: str, parent: str) -> str:
        """Claim an mdev that is going to be created; return its UUID."""
        mdev = model.Mdev(str(uuid.uuid4()), mdev_type, parent)
        self._add(mdev, created=True)
        return mdev.uuid

    def take(self, mdev: model.Mdev) -> None:
        """Claim an mdev that Nova chose, unless it was just created.

        :raises ClaimTaken: if somebody else has claimed it meanwhile.
        """
        if mdev.uuid in {each.uuid for each in self.claim.mdevs}:
            self.created |= {mdev.uuid}
        else:
            self._add(mdev, created=False)

    def _add(self, mdev: model.Mdev, *, created: bool) -> None:
        if not self.claim.targets:
            # An attempt before this one may have ended under its token.
            self.claim = replace(self.claim, token=str(uuid.uuid4()))
        target = model.Target(mdev, created, str(uuid.uuid4()))
        self.claim = self._promises.claim(self.claim, target)

    def had(self, parent: str) -> int:
        """Return how many mdevs of a parent are there for the claim."""
        there = {t.mdev.uuid for t in self.claim.targets if not t.created}
        return sum(
            mdev.parent == parent and mdev.uuid in there | self.created
            for mdev in self.claim.mdevs
        )
