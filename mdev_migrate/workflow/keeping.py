# SPDX-License-Identifier: Apache-2.0
"""Who lives: owners keep their claims by a beat, others watch for it.

No clocks are compared: what a beat says is only looked at for a change, by
the watcher's own monotonic clock. It is courtesy and not safety: an owner
whose connection is cut is not heard, while his migration may go on. What is
ended is always looked for first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from mdev_migrate import exception, model
from mdev_migrate.core import claim_life
from mdev_migrate.core.claim_life import Owner
from mdev_migrate.host import Host
from mdev_migrate.limits import Limits
from mdev_migrate.model import Step


class KeptClaim:
    """A claim that this process works on, and says so until it lets go.

    :ivar claim: as it was written last.
    """

    def __init__(self, host: Host, claim: model.Claim, limits: Limits) -> None:
        self._host = host
        self._limits = limits
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.claim = claim
        threading.Thread(target=self._beat, name="beat", daemon=True).start()

    def __enter__(self) -> KeptClaim:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()

    def _beat(self) -> None:
        """Raise the beat; give up when nobody can have heard it for long.

        What goes wrong the owner himself will learn, and of more use.
        """
        heard = time.monotonic()
        while not self._ended.wait(self._limits.beat_s):
            try:
                with self._lock:
                    if not self._ended.is_set():
                        self._write(self.claim)
            except exception.ClaimLost:
                return
            except exception.MdevMigrateError:
                if time.monotonic() > heard + self._limits.settle_s:
                    return
            except BaseException:  # noqa: BLE001 - the process is ending
                return
            else:
                heard = time.monotonic()

    def _write(self, claim: model.Claim) -> None:
        claim = replace(claim, beat=time.time())
        self._host.claims.write(claim)
        self.claim = claim

    def advance(self, step: Step) -> None:
        """Note that the migration comes to a step.

        :raises ClaimLost: if the claim is not there any more, or somebody
            ends it.
        """
        with self._lock:
            further = claim_life.advanced(self.claim, step)
            further = replace(further, beat=time.time())
            self._host.claims.write(further)
            if step is not Step.CREATE:
                # Others are told next, or the guest is sent.
                self._host.claims.confirm(further)
            self.claim = further

    def let_go(self) -> None:
        """Stop the beat: the claim is about to be ended."""
        self._ended.set()

    def leave(self) -> exception.MdevMigrateError | None:
        """Leave the claim to whoever can end it.

        :returns: why that could not be noted: then its silence will tell.
        """
        self.let_go()
        try:
            with self._lock:
                self._host.claims.close(self.claim)
        except exception.MdevMigrateError as error:
            return error
        return None


def take_over(host: Host, claim: model.Claim) -> model.Claim:
    """Take a claim from an owner that is not heard; return it as it is now.

    What was read of it may be old, and its owner live after all. Once it is
    said that the claim is over, he sends no guest; if he came to that step
    before, he is heard now: see :meth:`host.Claims.confirm`. Of Nova's claims
    somebody has seen to it that nobody works on them.

    :param claim: as it was read when its owner was judged.
    :raises ClaimLost: if it is not there any more.
    :raises ClaimHeld: if its owner is heard again.
    """
    found = _read_anew(host, claim)
    if found.over or found.migration:
        return found
    host.claims.close(found)
    return _read_anew(host, claim)


def _read_anew(host: Host, claim: model.Claim) -> model.Claim:
    for found in host.claims.read().of(claim.instance_uuid):
        if found.token != claim.token:
            continue
        if found.beat != claim.beat:
            raise exception.ClaimHeld(claim.instance_uuid, claim.owner)
        return found
    raise exception.ClaimLost(claim.instance_uuid, host.facts().name)


class Watch:
    """Tells whose owners live, from one look at the claims to the next.

    :param nova_too: Nova's claims have no owner either: somebody has seen to
        it that Nova does not migrate here.
    """

    def __init__(self, limits: Limits, *, nova_too: bool = False) -> None:
        self._limits = limits
        self._nova_too = nova_too
        self._beats: dict[str, tuple[float, float]] = {}
        self._heard: set[str] = set()

    def look(self, claims: Iterable[model.Claim]) -> None:
        """Look at the beats of claims."""
        now = time.monotonic()
        for claim in claims:
            beat, _ = self._beats.get(claim.token, (None, now))
            if beat is not None and beat != claim.beat:
                self._heard.add(claim.token)
            if beat != claim.beat:
                self._beats[claim.token] = (claim.beat, now)

    def owner(self, claim: model.Claim) -> Owner | None:
        """Return what is known of a claim's owner; None if nothing is yet."""
        if claim.over:
            return Owner.OVER
        if claim.migration:
            return Owner.GONE if self._nova_too else Owner.WORKS
        if claim.token not in self._beats:
            return None
        silent = time.monotonic() - self._beats[claim.token][1]
        if silent >= self._limits.silent_s:
            return Owner.GONE
        return Owner.WORKS if claim.token in self._heard else None

    def until_known(
        self,
        read: Callable[[], Iterable[model.Claim]],
    ) -> list[tuple[model.Claim, Owner]]:
        """Watch claims until of each it is known whether its owner lives.

        Of those that are there at first: others may come all the time.

        :param read: returns them as they are now.
        """
        claims = list(read())
        at_first = {claim.token for claim in claims}
        while True:
            self.look(claims)
            found = [(claim, self.owner(claim)) for claim in claims]
            known = [(c, owner) for c, owner in found if owner is not None]
            if len(known) == len(found):
                return known
            time.sleep(self._limits.poll_s)
            claims = [claim for claim in read() if claim.token in at_first]
