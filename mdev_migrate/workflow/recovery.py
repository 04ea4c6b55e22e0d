# SPDX-License-Identifier: Apache-2.0
"""Finish or undo what an owner left that ended in the middle.

A claim says which step its migration had come to; its beat, whether its
owner lives. If the guest cannot have moved by then, what the step left is
undone; otherwise both hosts are asked where it is first. The table of
:mod:`core.claim_life` says what follows. What cannot be told is kept.

No host is asked but those that the caller named: a claim only says what the
source is called, which is compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mdev_migrate import exception, model, undoing
from mdev_migrate.core import claim_life, whereabouts
from mdev_migrate.core.claim_life import End, Owner
from mdev_migrate.core.whereabouts import Whereabouts
from mdev_migrate.host import Host
from mdev_migrate.model import Step
from mdev_migrate.workflow import settling
from mdev_migrate.workflow.keeping import Watch, take_over
from mdev_migrate.workflow.values import Destination

_ACTIONS: dict[End, Literal["finished", "undone", "kept"]] = {
    End.KEEP: "kept",
    End.UNDO: "undone",
    End.RECYCLE: "undone",
    End.HAND_OVER: "finished",
}


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of a claim.

    :ivar action: ``finished``: the guest has its targets, the claim is
        released; ``undone``: it stayed away, and so is all that was made
        for it; ``kept``: nothing was changed, for the ``reason``.
    :ivar reason: what was found, for people.
    """

    claim: model.Claim
    action: Literal["finished", "undone", "kept"]
    reason: str

    @property
    def text(self) -> str:
        """Return what became of it, in one sentence."""
        return (
            f"{self.action}: what {self.claim.owner} claimed for guest "
            f"{self.claim.subject}: {self.reason}"
        )


class Recovery:
    """Settles the claims of a destination that nobody works on.

    :param sources: the hosts that guests may have left.
    :param abort: abort migrations that still go on without their owner;
        otherwise they are waited for, for ``limits.settle_s``.
    :param source_gone: a source that is not among them, or does not answer,
        runs nothing any more: somebody has seen to it.
    :param nova_too: settle Nova's claims as well: somebody has seen to it
        that Nova does not migrate here.
    """

    def __init__(
        self,
        destination: Destination,
        sources: Iterable[Host] = (),
        *,
        abort: bool = False,
        source_gone: bool = False,
        nova_too: bool = False,
    ) -> None:
        self._host = destination.host
        self._limits = destination.limits
        self._sources = tuple(sources)
        self._abort = abort
        self._source_gone = source_gone
        self._watch = Watch(destination.limits, nova_too=nova_too)

    def run(
        self, instance_uuid: str | None = None, *, dry_run: bool = False
    ) -> list[Recovered]:
        """Settle the claims that nobody works on; watch first who lives.

        :param instance_uuid: only those of this instance.
        :param dry_run: only say what would be done.
        :returns: what became of each.
        :raises HostError: if the claims cannot be read.
        """

        def read() -> tuple[model.Claim, ...]:
            claims = self._host.claims.read()
            return claims.of(instance_uuid) if instance_uuid else claims.all

        settled = [
            self.settle(claim, owner, dry_run=dry_run)
            for claim, owner in self._watch.until_known(read)
            if owner is not Owner.WORKS
        ]
        return [each for each in settled if each is not None]

    def settle(
        self, claim: model.Claim, owner: Owner, *, dry_run: bool = False
    ) -> Recovered | None:
        """Settle one claim, or only say what would become of it.

        :returns: None if it has ended meanwhile.
        """
        try:
            found, reason = self._find_guest(claim, look=True)
            if not dry_run:
                # Not one whose guest cannot be looked for.
                claim = take_over(self._host, claim)
                found, reason = self._find_guest(claim, look=False)
            end = claim_life.end(claim, owner, found)
            problems = () if dry_run else self._end(claim, end)
        except exception.ClaimLost:
            return None
        except exception.MdevMigrateError as error:
            return Recovered(claim, "kept", str(error))
        if problems:
            return Recovered(claim, "kept", str(problems[0]))
        return Recovered(claim, _ACTIONS[end], reason)

    def _end(self, claim: model.Claim, end: End) -> undoing.Problems:
        return undoing.end_claim(
            self._host,
            claim,
            end,
            self._limits,
            unanswered=claim.step is Step.CREATE,
        )

    def _find_guest(
        self, claim: model.Claim, *, look: bool
    ) -> tuple[Whereabouts | None, str]:
        """Return where a guest is, and that in words.

        :param look: look once, and change nothing.
        :raises MdevMigrateError: if it cannot be told.
        """
        if not claim_life.may_be_sent(claim.step):
            return None, f"its owner ended in the step '{claim.step.value}'"
        try:
            found = self._ask(claim, look=look)
        except (
            *exception.UNASKABLE,
            exception.OutcomeUnknown,
            exception.SourceNotNamed,
        ) as error:
            found = self._ask_here(claim, error)
        return found, f"the guest {found.value}"

    def _ask(self, claim: model.Claim, *, look: bool) -> Whereabouts:
        source, uuid = self._source_of(claim), claim.instance_uuid
        if look:
            return settling.tell(source, self._host, uuid)
        return settling.find_out(
            source,
            self._host,
            uuid,
            self._limits,
            name=claim.subject,
            abort=self._abort,
            # Whoever had it sent may have been killed a moment ago.
            doubt_s=lambda: self._limits.stable_s,
        )

    def _source_of(self, claim: model.Claim) -> Host:
        """Return the host that a guest left, if it was named to us.

        :raises SourceNotNamed: if it was not.
        :raises HostError: if it may be one that does not answer.
        """
        silent: exception.HostError | None = None
        for source in self._sources:
            try:
                facts = source.facts()
            except exception.HostError as error:
                silent = silent or error
                continue
            if facts.name == claim.source and claim.source_uuid in (
                "",
                facts.host_uuid,
            ):
                return source
        raise silent or exception.SourceNotNamed(claim.subject, claim.source)

    def _ask_here(
        self, claim: model.Claim, error: exception.MdevMigrateError
    ) -> Whereabouts:
        """Return where a guest is without its source, if that is enough.

        :raises MdevMigrateError: the error given, if it is not.
        """
        guest = settling.find(self._host, claim.instance_uuid)
        if whereabouts.has_come(guest):
            return Whereabouts.ARRIVED
        # A host that denies access is not gone.
        denied = isinstance(error, exception.AccessDenied)
        if guest is None and self._source_gone and not denied:
            return Whereabouts.NOWHERE
        raise error
