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
from collections.abc import Callable, Iterator
from typing import Any

from oslo_log import log

from mdev_migrate import model, undoing
from mdev_migrate.compute import objects
from mdev_migrate.compute.driver_host import DriverHost
from mdev_migrate.compute.migration_log import MigrationLog
from mdev_migrate.compute.noting_host import NotingHost
from mdev_migrate.compute.promises import Promises
from mdev_migrate.compute.turns import Turns
from mdev_migrate.core import claim_life
from mdev_migrate.core.claim_life import Owner
from mdev_migrate.core.whereabouts import Whereabouts
from mdev_migrate.limits import Limits
from mdev_migrate.model import Step

LOG = log.getLogger(__name__)

_KEPT = "a target mdev is kept out of use"


def _about(claim: model.Claim, text: str) -> str:
    """Return a text with the migration that it is about, if there is one."""
    if not claim.migration:
        return f"{text[0].upper()}{text[1:]}"
    return f"Migration {claim.migration}: {text}"


class ClaimEnds:
    """Ends the claims on a compute node's mdevs.

    :param is_over: tells from its UUID whether a migration is over, or goes
        to another host.
    """

    def __init__(
        self,
        host: DriverHost,
        promises: Promises,
        limits: Limits,
        is_over: Callable[[str], bool],
    ) -> None:
        self.host = host
        self.promises = promises
        self.limits = limits
        self.is_over = is_over
        self._turns = Turns()
        self._said: dict[str, str] = {}

    def advance(self, claim: model.Claim, step: Step) -> bool:
        """Note how far a claim's migration is, when nobody ends the claim.

        :returns: False if it is not there any more.
        """
        with self._turns.taken(claim.instance_uuid):
            found = self.promises.get(claim)
            if found is not None and found.step is not step:
                self.promises.advance(found, step)
            return found is not None

    def give_up(self, claim: model.Claim) -> None:
        """Undo a claim whose check failed, if it is still there."""
        text = _about(claim, "a claim is not undone")
        with self._tolerating(text, claim.instance_uuid):
            self.undo_claim(claim, patient=True)

    def finish(self, instance_uuid: str) -> None:
        """Release the claim of a guest that arrived."""
        for claim in self.promises.of(instance_uuid):
            text = _about(claim, "a claim is not released")
            with (
                self._tolerating(text, instance_uuid),
                self._turns.taken(instance_uuid),
            ):
                self.promises.release(claim)
                MigrationLog(instance_uuid, claim.migration).released(
                    mdev.uuid for mdev in claim.mdevs
                )

    def undo(self, instance_uuid: str, migrate_data: Any = None) -> None:
        """Undo what was made for a guest that did not arrive.

        :param migrate_data: of the migration that failed: a claim of a
            later one is left alone.
        """
        failed = objects.migration_uuid(migrate_data)
        for claim in self.promises.of(instance_uuid):
            if failed in (None, claim.migration):
                self.give_up(claim)

    def undo_claim(
        self,
        claim: model.Claim,
        found: Whereabouts = Whereabouts.STAYED,
        *,
        patient: bool,
    ) -> bool:
        """End a claim whose migration is over; tell if nothing is left of it.

        :param found: where its guest is.
        :param patient: wait for busy mdevs.
        """
        with self._turns.taken(claim.instance_uuid):
            now = self.promises.get(claim)
            if now is None:
                return True
            if self.promises.boot_holds(mdev.uuid for mdev in now.mdevs):
                return False
            host = NotingHost(self.host)
            problems = undoing.end_claim(
                host,
                now,
                claim_life.end(now, Owner.OVER, found),
                self.limits,
                patient=patient,
            )
            if not problems:
                self.promises.forget(now)
                self._tell(now, host, found)
        self._say(
            _about(claim, _KEPT),
            claim.instance_uuid,
            "; ".join(map(str, problems)),
        )
        return not problems

    @staticmethod
    def _tell(
        claim: model.Claim, host: NotingHost, found: Whereabouts
    ) -> None:
        """Say what became of the mdevs of a claim that has ended."""
        told = MigrationLog(claim.instance_uuid, claim.migration)
        touched = {*host.removed, *host.recycled}
        left = [m.uuid for m in claim.mdevs if m.uuid not in touched]
        if found is Whereabouts.ARRIVED:
            told.released(left)
        if found is not Whereabouts.ARRIVED or touched:
            told.undone(host.removed, host.recycled, left)

    def drop_ended(self) -> None:
        """End the claims whose migrations are over, however they ended.

        Trouble is logged: it must not stop the service of a host that has
        other guests, and what is left is looked at again later.
        """
        self.refresh()
        for claim in self.promises.all():
            text = _about(claim, "a claim may have ended")
            with self._tolerating(text, claim.instance_uuid):
                self._drop_if_ended(claim)

    def _drop_if_ended(self, claim: model.Claim) -> None:
        """End a claim whose migration is over.

        One that somebody is ending already is not waited for. A guest is
        left alone that is not defined while it is rebooted, and so is the
        paused half of one, which libvirt is about to give up. It is looked
        for twice: a reboot may end between the first look and the question
        whether there is one.
        """
        if not self.is_over(claim.migration):
            return
        uuids = frozenset(mdev.uuid for mdev in claim.mdevs)
        find = functools.partial(
            self.host.find_guest, claim.instance_uuid, uuids
        )
        if find() is None and self.promises.boot_holds(uuids):
            return
        guest = find()
        if self._turns.is_taken(claim.instance_uuid):
            return
        if guest is None:
            self.undo_claim(claim, patient=False)
        elif guest.running or guest.persistent:
            self.undo_claim(claim, Whereabouts.ARRIVED, patient=False)

    # What goes wrong ----------------------------------------------------

    @contextlib.contextmanager
    def _tolerating(self, text: str, instance_uuid: str) -> Iterator[None]:
        """Log whatever goes wrong in the block."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - tried again each period
            self._say(text, instance_uuid, str(error))
        else:
            self._say(text, instance_uuid, "")

    def _say(self, text: str, instance_uuid: str, trouble: str) -> None:
        """Log trouble once, and again when it changes.

        :param trouble: empty if there is none (any more).
        """
        about = f"{text} {instance_uuid}"
        before = self._said.pop(about, "")
        if not trouble:
            return
        self._said[about] = trouble
        if trouble != before:
            LOG.warning(
                "%(text)s: %(trouble)s",
                {"text": text, "trouble": trouble},
                instance_uuid=instance_uuid,
            )

    def refresh(self) -> None:
        """Compare the claims in memory with libvirt's, and mend them.

        Goes on with what is known if that fails: most guests need none. A
        claim that is being ended, or noted, is left to who does that.
        """
        with self._tolerating("Claims cannot be read", ""):
            found = self.promises.refresh()
            for claim in (*found.all, *self.promises.all()):
                uuid = claim.instance_uuid
                text = _about(claim, "a claim is not mended")
                with (
                    self._tolerating(text, uuid),
                    self._turns.taken(uuid, wait=False) as mine,
                ):
                    if mine:
                        self.promises.mend(claim, found)
