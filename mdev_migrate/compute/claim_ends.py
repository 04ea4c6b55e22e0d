# SPDX-License-Identifier: Apache-2.0
"""How the claims of a compute node end, whoever says so or nobody does.

Theory of operation. A claim ends well when its guest has arrived, and is
undone when it has not. Nova says so by a hook, or does not: ports that
cannot be bound, an abort in the queue, a service that was restarted. So the
claims are compared with the migration records too, again and again. Who
undoes a claim has it for himself: a target that was recycled and given to
somebody else must not be recycled once more.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

from oslo_log import log

from mdev_migrate.compute import objects
from mdev_migrate.compute.driver_host import DriverHost
from mdev_migrate.compute.promises import Promises
from mdev_migrate.core import claims, phases
from mdev_migrate.service import MdevMigration

LOG = log.getLogger(__name__)


class _Turns:
    """One thread at a time for each instance, and all instances at once."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._taken: set[str] = set()

    def is_taken(self, instance_uuid: str) -> bool:
        """Tell whether somebody holds an instance's turn now."""
        with self._change:
            return instance_uuid in self._taken

    @contextlib.contextmanager
    def taken(self, instance_uuid: str) -> Iterator[None]:
        """Wait for an instance's turn and hold it."""
        with self._change:
            self._change.wait_for(lambda: instance_uuid not in self._taken)
            self._taken.add(instance_uuid)
        try:
            yield
        finally:
            with self._change:
                self._taken.discard(instance_uuid)
                self._change.notify_all()


class ClaimEnds:
    """Ends the claims on a compute node's mdevs.

    :param is_over: tells from its UUID whether a migration is over, or goes
        to another host.
    """

    def __init__(
        self,
        service: MdevMigration[DriverHost],
        promises: Promises,
        is_over: Callable[[str], bool],
    ) -> None:
        self._service = service
        self._promises = promises
        self._is_over = is_over
        self._turns = _Turns()

    def is_kept(self, claim: claims.Claim) -> bool:
        """Tell whether a claim is there, when nobody ends it any more."""
        with self._turns.taken(claim.instance_uuid):
            found = self._service.claims.get(claim.instance_uuid)
            return found is not None and found.note == claim.note

    def give_up(self, claim: claims.Claim) -> None:
        """Undo a claim whose check failed, if it is still the one given."""
        with self._tolerating("A claim is not undone", claim.instance_uuid):
            self.undo_claim(claim, patient=True)

    def advance(self, claim: claims.Claim, step: phases.Step) -> bool:
        """Note how far a claim's migration is, when nobody ends the claim.

        :returns: False if it is not there any more.
        """
        with self._turns.taken(claim.instance_uuid):
            return self._service.claims.advance(
                claim.instance_uuid, step, claim.note
            )

    def finish(self, instance_uuid: str) -> None:
        """Release the claim of a guest that arrived."""
        with (
            self._tolerating("A claim is not released", instance_uuid),
            self._turns.taken(instance_uuid),
        ):
            claim = self._service.claims.get(instance_uuid)
            if claim is not None and claim.note.migration:
                self._service.claims.release(instance_uuid, claim.note)
                self.refresh()

    def undo(self, instance_uuid: str, migrate_data: Any = None) -> None:
        """Undo what was made for a guest that did not arrive.

        :param migrate_data: of the migration that failed: a claim of a
            later one is left alone.
        """
        with self._tolerating("A claim is not undone", instance_uuid):
            claim = self._service.claims.get(instance_uuid)
            failed = objects.migration_uuid(migrate_data)
            if claim is not None and failed in (None, claim.note.migration):
                self.undo_claim(claim, patient=True)

    def undo_claim(self, claim: claims.Claim, *, patient: bool) -> bool:
        """Undo a claim, if it is still the one given; tell if that is all.

        :param patient: wait for busy mdevs.
        """
        with self._turns.taken(claim.instance_uuid):
            found = self._service.claims.get(claim.instance_uuid)
            if found is None or found.note != claim.note:
                return True
            uuids = [mdev.uuid for mdev in found.plan.mdevs]
            if not found.note.migration or self._promises.boot_holds(uuids):
                return False
            problems = self._service.roll_back(
                found.instance_uuid,
                found.step,
                found.plan,
                note=found.note,
                patient=patient,
            )
        self.refresh()
        for problem in problems:
            LOG.warning(
                "A target mdev is kept out of use: %(problem)s",
                {"problem": problem},
                instance_uuid=claim.instance_uuid,
            )
        return not problems

    def drop_ended(self) -> None:
        """End the claims whose migrations are over, however they ended.

        Trouble is logged: it must not stop the service of a host that has
        other guests, and what is left is looked at again later.
        """
        for instance_uuid, claim in self.refresh().items():
            with self._tolerating("A claim may have ended", instance_uuid):
                self._drop_if_ended(claim)

    def _drop_if_ended(self, claim: claims.Claim) -> None:
        """End a claim whose migration is over.

        One that somebody is ending already is not waited for. A guest is
        left alone that is not defined while it is rebooted, and so is the
        paused half of one, which libvirt is about to give up. It is looked
        for twice: a reboot may end between the first look and the question
        whether there is one.
        """
        migration = claim.note.migration
        if not migration or not self._is_over(migration):
            return
        uuids = frozenset(mdev.uuid for mdev in claim.plan.mdevs)
        find = functools.partial(
            self._service.host.find_guest, claim.instance_uuid, uuids
        )
        if find() is None and self._promises.boot_holds(uuids):
            return
        guest = find()
        if self._turns.is_taken(claim.instance_uuid):
            return
        if guest is None:
            self.undo_claim(claim, patient=False)
        elif guest.running or guest.persistent:
            self.finish(claim.instance_uuid)

    @staticmethod
    @contextlib.contextmanager
    def _tolerating(text: str, instance_uuid: str) -> Iterator[None]:
        """Log whatever goes wrong in the block."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - tried again each period
            LOG.warning(
                "%(text)s: %(error)s",
                {"text": text, "error": error},
                instance_uuid=instance_uuid,
            )

    def refresh(self) -> dict[str, claims.Claim]:
        """Read the claims anew; go on with what is known if that fails.

        :returns: the claims by instance UUID: none if it fails.
        """
        try:
            return self._promises.refresh()
        except Exception as error:  # noqa: BLE001 - most guests need none
            LOG.warning("Claims cannot be read: %(error)s", {"error": error})
            return {}
