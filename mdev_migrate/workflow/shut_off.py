# SPDX-License-Identifier: Apache-2.0
"""Move the definition of a guest that is off, and provide its mdevs there.

libvirt defines it on the destination and undefines it on the source. Nothing
runs, so nothing can be harmed but the definition: which host has it is looked
up if libvirt says that it failed.
"""

from __future__ import annotations

from dataclasses import replace

from mdev_migrate import exception, model, undoing
from mdev_migrate.core import guest_xml, pairing, precheck, transport
from mdev_migrate.core.claim_life import End
from mdev_migrate.host import Host, Journey
from mdev_migrate.model import Step
from mdev_migrate.workflow import durable, settling
from mdev_migrate.workflow.attempt import Attempt
from mdev_migrate.workflow.keeping import KeptClaim
from mdev_migrate.workflow.values import (
    Destination,
    Observer,
    Options,
    Report,
)

_FLAGS = (
    transport.OFFLINE
    | transport.PEER2PEER
    | transport.PERSIST_DEST
    | transport.UNDEFINE_SOURCE
)


class DefinitionMove(Attempt):
    """The move of one guest's definition.

    :param guest: its UUID.
    """

    def __init__(  # noqa: PLR0913 - collaborators by name
        self,
        source: Host,
        destination: Destination,
        guest: str,
        options: Options,
        *,
        observer: Observer | None = None,
        began: float | None = None,
    ) -> None:
        super().__init__(
            source,
            destination,
            guest,
            replace(options, shut_off=True),
            observer=observer,
            began=began,
        )
        self._starts = False

    def _run(self) -> None:
        report = self._checked()
        provider = self._provider(report, self._claim_for(report))
        with provider.provide() as kept:
            targets = pairing.pair_mdevs(report.wanted, kept.claim.mdevs)
            self._target(report, targets)
            end = End.UNDO
            try:
                self._move(report, kept, targets)
                end = End.HAND_OVER
                self._verify(report, kept.claim, targets)
            finally:
                # What a definition there names is kept by either end.
                self._end(kept, end)

    def _move(
        self, report: Report, kept: KeptClaim, targets: dict[str, str]
    ) -> None:
        self._enter(Step.PREPARE)
        guest = report.guest
        self._starts = durable.starts_with_host(
            self._source, guest, self._warn
        )
        document = report.rewritten(
            self._source.inactive_xml(guest.instance_uuid, secure=True),
            report.inactive_mdevs(targets),
            [target.mdev for target in kept.claim.targets if target.created],
        )
        precheck.check_off(
            self._source.find_guest(guest.instance_uuid), report.source
        )
        # No further: a guest that is off is not looked for among those active.
        kept.advance(Step.PREPARE)
        self._enter(Step.MIGRATE)
        try:
            self._source.migrate(
                guest.instance_uuid,
                Journey(
                    peer_uri=self._options.peer_uri or self._there.uri,
                    destination_xml=document,
                    persistent_xml=document,
                    migrate_uri=None,
                    bandwidth=None,
                    flags=_FLAGS,
                ),
            )
        except exception.MdevMigrateError as error:
            self._find_out(guest, error)

    def _find_out(
        self, guest: model.Guest, error: exception.MdevMigrateError
    ) -> None:
        """See which host has the definition after an error.

        :raises DefinitionNotMoved: if it is the source.
        :raises DefinitionUnknown: if it cannot be told.
        :raises GuestStarted: if somebody started the guest, which stayed.
        """
        try:
            if isinstance(error, exception.HostUnreachable):
                self._source.reconnect()
            here, there = (
                settling.find(host, guest.instance_uuid)
                for host in (self._source, self._there)
            )
        except exception.MdevMigrateError as unknown:
            raise exception.DefinitionUnknown(
                guest.name, str(unknown), self._source.uri, self._there.uri
            ) from error
        if there is not None and (here is None or not here.persistent):
            self._warn(f"the definition arrived in spite of: {error}")
            return
        if here is None:
            raise exception.DefinitionUnknown(
                guest.name,
                f"neither has it any more, after: {error}",
                self._source.uri,
                self._there.uri,
            ) from error
        precheck.check_off(here, self._source.uri)
        raise exception.DefinitionNotMoved(
            guest.name,
            self._source.uri,
            self._there.uri,
            str(getattr(error, "reason", error)),
        ) from error

    def _verify(
        self, report: Report, claim: model.Claim, targets: dict[str, str]
    ) -> None:
        """See that the definition names its targets, and is all that is."""
        self._enter(Step.VERIFY)
        guest = report.guest
        here = settling.find(self._source, guest.instance_uuid)
        if here is not None and here.active:
            raise exception.GuestStartedMeanwhile(
                guest.name, self._source.uri, self._there.uri
            )
        found = guest_xml.named_mdevs(
            self._there.inactive_xml(guest.instance_uuid)
        )
        planned = frozenset(report.inactive_mdevs(targets).values())
        if found != planned:
            raise exception.DefinitionChanged(
                guest.name, self._there.uri, found, planned
            )
        define = pairing.to_define(report.wanted, claim.mdevs)
        for text in durable.keep(
            self._there, guest, define, starts=self._starts
        ):
            self._warn(text)
        self._enter(Step.RELEASE)

    def _end(self, kept: KeptClaim, end: End) -> None:
        kept.let_go()
        problems = undoing.end_claim(
            self._there, kept.claim, end, self._destination.limits
        )
        for problem in problems:
            self._warn(f"not undone: {problem}")
        if problems:
            kept.leave()
