# SPDX-License-Identifier: Apache-2.0
"""Which mdevs of a compute node are promised, without asking anybody.

Theory of operation. A compute service is asked for this at every boot,
reboot and report, also for instances without mdevs: the answer is in memory,
and a libvirt that is slow or gone disturbs nobody. libvirt keeps the same
claims as domains, for others and for a service that starts anew. From time
to time the two are compared. What this service still needs and libvirt has
lost is written again; what it has ended and libvirt has kept is released;
what it does not know it takes over, for it was here before.
"""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from mdev_migrate import exception, model
from mdev_migrate.compute.driver_host import DriverHost
from mdev_migrate.core import claim_life, claim_xml
from mdev_migrate.model import Step

#: How many ended claims are remembered: far more than end within the time
#: that a look at libvirt takes.
_REMEMBERED = 1_000


class Promises:
    """The mdevs that claims and boots hold and that no guest has yet.

    A claim of Nova's belongs to a migration; others are the command's.

    :param form: returns what the host's guests are like.
    :ivar view: ``instance_claimed_mdevs``: mdev UUIDs by instance UUID. What
        others put in counts, what they take out does not end a claim.
    """

    def __init__(
        self, host: DriverHost, form: Callable[[], claim_xml.Form]
    ) -> None:
        self.view: dict[str, list[str]] = {}
        self._host = host
        self._form = form
        self._shown: dict[str, list[str]] = {}
        self._ours: dict[str, model.Claim] = {}
        self._others = model.Claims()
        self._ended: collections.deque[str] = collections.deque(
            maxlen=_REMEMBERED
        )
        self._booting: dict[str, str] = {}
        self._looks: dict[object, dict[str, str]] = {}
        self._changing = threading.RLock()
        self._refreshing = threading.Lock()
        self._thread = threading.local()

    # Nova's claims ----------------------------------------------------

    def all(self) -> tuple[model.Claim, ...]:
        """Return Nova's claims."""
        with self._changing:
            return tuple(self._ours.values())

    def of(self, instance_uuid: str) -> tuple[model.Claim, ...]:
        """Return Nova's claims of an instance."""
        return tuple(c for c in self.all() if c.instance_uuid == instance_uuid)

    def get(self, claim: model.Claim) -> model.Claim | None:
        """Return a claim as it is now, None if it was ended."""
        return self._ours.get(claim.token)

    def others(self, instance_uuid: str) -> tuple[model.Claim, ...]:
        """Return the claims of an instance that are not Nova's."""
        return self._others.of(instance_uuid)

    def claim(self, claim: model.Claim, new: model.Target) -> model.Claim:
        """Claim one more target mdev, and return the claim with it.

        :raises ClaimTaken: if somebody else has claimed it.
        :raises ClaimsDenied: if this service may not define domains.
        """
        grown = replace(claim, targets=(*claim.targets, new))
        try:
            self._define(grown, [new])
        except BaseException:
            if not claim.targets:
                # What may be left of it is undefined by the next look.
                self.forget(claim)
            raise
        self._keep(grown)
        return grown

    def advance(self, claim: model.Claim, step: Step) -> None:
        """Note how far a claim's migration is.

        If libvirt has lost the claim it is written again.

        :raises ClaimTaken: if somebody else has claimed an mdev of it.
        """
        further = claim_life.advanced(claim, step)
        try:
            self._host.claims.write(further)
        except exception.ClaimLost:
            self._write_again(further, self._host.claims.read())
        self._keep(further)

    def release(self, claim: model.Claim) -> None:
        """Release a claim: its guest has the mdevs, or they are gone.

        :raises LibvirtFailed: if that cannot be done: it stays.
        """
        self._host.claims.undefine(claim)
        self.forget(claim)

    def _define(
        self, claim: model.Claim, targets: Iterable[model.Target]
    ) -> None:
        for target in targets:
            part = replace(claim, targets=(target,))
            self._host.claims.define(part, self._form())

    def _keep(self, claim: model.Claim) -> None:
        with self._changing:
            self._ours[claim.token] = claim
            self._show()

    def forget(self, claim: model.Claim) -> None:
        """Forget a claim that libvirt has no more: it does not come back."""
        with self._changing:
            self._ended.append(claim.token)
            self._ours.pop(claim.token, None)
            self._show()

    # Memory and libvirt -----------------------------------------------

    def refresh(self) -> model.Claims:
        """Read the claims anew, and return them.

        One thread at a time: what was read earlier must not take the place
        of what was read later. Of a host without mdev types nothing is asked.

        :raises LibvirtFailed: if they cannot be read.
        """
        if not self._host.has_types:
            return model.Claims()
        with self._refreshing:
            found = self._host.claims.read()
            self._take(found)
        return found

    def mend(self, claim: model.Claim, found: model.Claims) -> None:
        """Make one claim in libvirt what it is in memory.

        :param found: what was read before.
        :raises ClaimTaken: if somebody else has claimed an mdev of it: it
            counts all the same.
        """
        if claim.token in self._ended:
            self._host.claims.undefine(claim)
        elif claim.migration:
            self._write_again(self._ours.get(claim.token, claim), found)

    def _take(self, found: model.Claims) -> None:
        """Take over what was found."""
        others = tuple(c for c in found.all if not c.migration)
        with self._changing:
            for claim in found.all:
                if claim.migration and claim.token not in self._ended:
                    self._ours.setdefault(claim.token, claim)
            self._others = replace(found, all=others)
            self._show()

    def _write_again(self, claim: model.Claim, found: model.Claims) -> None:
        """Define those domains of a claim that were not found."""
        there = {
            target.domain_uuid
            for other in found.all
            if other.token == claim.token
            for target in other.targets
        }
        lost = [t for t in claim.targets if t.domain_uuid not in there]
        self._define(claim, lost)

    # Who is told what ---------------------------------------------------

    def _show(self) -> None:
        """Bring the view up to date, as far as claims have changed."""
        now: dict[str, list[str]] = {}
        for claim in (*self._ours.values(), *self._others.all):
            mdevs = now.setdefault(claim.instance_uuid, [])
            mdevs += [mdev.uuid for mdev in claim.mdevs]
        for instance_uuid in self._shown.keys() - now.keys():
            self.view.pop(instance_uuid, None)
        for instance_uuid, mdevs in now.items():
            if self._shown.get(instance_uuid) != mdevs:
                self.view[instance_uuid] = list(mdevs)
        self._shown = now
        self._note()

    def claimed(self) -> dict[str, list[str]]:
        """Return the view; an empty one to a thread that it is hidden from."""
        hidden = getattr(self._thread, "hidden", False)
        return {} if hidden else self.view

    def by_mdev(self) -> dict[str, str]:
        """Return the instance that each promised mdev is promised to.

        What keeps others from an mdev and is no claim stands by its name.
        """
        with self._changing:
            strange = {
                mdev_uuid: each.name
                for each in self._others.strange
                for mdev_uuid in each.mdevs
            }
            claimed = {
                mdev_uuid: instance_uuid
                for mdevs_by_instance in (self.view, self._shown)
                for instance_uuid, mdevs in list(mdevs_by_instance.items())
                for mdev_uuid in mdevs
            }
            return {**strange, **self._booting, **claimed}

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Let this thread see no claims: it asks what guests have."""
        outer = getattr(self._thread, "hidden", False)
        self._thread.hidden = True
        try:
            yield
        finally:
            self._thread.hidden = outer

    # A look at guests ---------------------------------------------------

    @contextlib.contextmanager
    def seeing(self, look: Callable[[], Mapping[str, str]]) -> Iterator[None]:
        """Look at what guests hold, and let this thread go by that.

        For a lock under which no guest is to be read. Whoever gets an mdev
        after the look has it promised when the look begins, or later: what
        is promised meanwhile counts until the end of the block, though the
        promise may have been kept by then.

        :param look: returns the guest of each mdev.
        """
        key = object()
        outer = getattr(self._thread, "seen", None)
        with self._changing:
            self._looks[key] = {}
            self._note()
        try:
            self._thread.seen = key, look()
            yield
        finally:
            self._thread.seen = outer
            with self._changing:
                del self._looks[key]

    def _note(self) -> None:
        """Let all looks under way know what is promised now."""
        for promised in self._looks.values():
            promised.update(self.by_mdev())

    def seen(self) -> dict[str, str] | None:
        """Return who holds each mdev as this thread sees it.

        :returns: None if it has not looked.
        """
        seen = getattr(self._thread, "seen", None)
        if seen is None:
            return None
        key, guests = seen
        with self._changing:
            return {**self._looks[key], **self.by_mdev(), **guests}

    # Boots --------------------------------------------------------------

    @contextlib.contextmanager
    def booting(self, instance_uuid: str) -> Iterator[None]:
        """Hold what is allocated for a boot until its guest has it.

        Nova gives up its lock before it defines the guest.
        """
        outer = getattr(self._thread, "instance", None)
        self._thread.instance = instance_uuid
        try:
            yield
        finally:
            self._thread.instance = outer
            with self._changing:
                self._booting = {
                    uuid: holder
                    for uuid, holder in self._booting.items()
                    if holder != instance_uuid
                }

    def boot_holds(self, mdev_uuids: Iterable[str]) -> bool:
        """Tell whether a boot holds any of some mdevs."""
        return not set(mdev_uuids).isdisjoint(self._booting)

    def hold(self, chosen: Iterable[str]) -> None:
        """Hold mdevs for the instance that this thread boots, if any.

        They are those that it is allocated, or those of a guest that is
        destroyed and made anew.
        """
        instance_uuid = getattr(self._thread, "instance", None)
        if instance_uuid is not None:
            with self._changing:
                held = dict.fromkeys(chosen, instance_uuid)
                self._booting = {**self._booting, **held}
                self._note()
