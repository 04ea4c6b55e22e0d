# SPDX-License-Identifier: Apache-2.0
"""Migrate a guest: provide its targets, move it, see that it is there.

The steps are those of :mod:`core.phases`. A failure before the migration
began is undone at once. A failure during it says little by itself: an
answer may be lost while the migration goes on. Then both hosts are asked,
again and again and within a limit, until it is known where the guest is; only
then is anything undone, and if it does not become known, nothing is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mdev_migrate import exception, model, undoing
from mdev_migrate.core import claim_life, downtime, pairing, precheck
from mdev_migrate.core.claim_life import End, Owner
from mdev_migrate.core.whereabouts import Whereabouts
from mdev_migrate.host import Host, Journey
from mdev_migrate.model import Step
from mdev_migrate.workflow import durable, settling
from mdev_migrate.workflow.attempt import Attempt
from mdev_migrate.workflow.clearing import Clearing
from mdev_migrate.workflow.job import Job
from mdev_migrate.workflow.keeping import KeptClaim
from mdev_migrate.workflow.limit import DowntimeLimit
from mdev_migrate.workflow.provide import Provider
from mdev_migrate.workflow.sending import Sending
from mdev_migrate.workflow.stopping import Stopping
from mdev_migrate.workflow.values import (
    Destination,
    Observer,
    Options,
    Report,
)

#: Raised only after both hosts were asked: the guest is not on its targets.
_FOUND = {
    exception.MigrationFailed: Whereabouts.STAYED,
    exception.MigrationAborted: Whereabouts.STAYED,
    exception.GuestLost: Whereabouts.NOWHERE,
    exception.GuestStopped: Whereabouts.NOWHERE,
}
#: Raised only while the guest is known to be, and to stay, on the source.
_STAYED: tuple[type[exception.MdevMigrateError], ...] = (
    exception.PreCheckError,
    *tuple(_FOUND),
)


class GuestMigration(Attempt):
    """The migration of one guest.

    :param guest: its name, UUID or number.
    :param stop: setting this event aborts the migration, from any thread or
        signal handler.
    :param owner: names who migrates, for people who look at the claims.
    :param began: when connecting began, by the monotonic clock: from then on
        time is counted, and limited. None for now.
    """

    def __init__(  # noqa: PLR0913 - collaborators by name
        self,
        source: Host,
        destination: Destination,
        guest: str,
        options: Options | None = None,
        *,
        observer: Observer | None = None,
        stop: threading.Event | None = None,
        owner: str | None = None,
        began: float | None = None,
    ) -> None:
        super().__init__(
            source,
            destination,
            guest,
            options or Options(),
            observer=observer,
            owner=owner,
            began=began,
        )
        self._stopping = Stopping(
            stop or threading.Event(), self._options.timeout_s, began
        )

    def _run(self) -> None:
        report = self._checked()
        self._heed_stop(report.guest)
        who = self._claim_for(report)
        provider = self._provider(report, who)
        clearing = Clearing(
            self._source,
            who,
            report.made,
            report.form,
            self._destination.limits,
        )
        try:
            while not self._attempt(report, provider):
                pass
            self._enter(Step.RELEASE)
            clearing.finish()
        except exception.GuestNotOnTargets:
            clearing.finish()
            raise
        except _STAYED:
            clearing.cancel()
            raise
        except BaseException:
            clearing.leave()
            raise
        finally:
            for problem in clearing.problems:
                self._warn(f"not removed from the source: {problem}")

    def _heed_stop(self, guest: model.Guest) -> None:
        """Stop before anything was sent, if that is wanted.

        :raises MigrationAborted: if it is.
        """
        reason = self._stopping.reason()
        if reason is not None:
            raise exception.MigrationAborted(guest.name, reason)

    def _attempt(self, report: Report, provider: Provider) -> bool:
        """Migrate to targets that are chosen now.

        :returns: False if one turned out to be somebody else's, which
            libvirt told before anything was sent.
        """
        with provider.provide() as kept:
            return self._attempt_with(kept, report, provider)

    def _attempt_with(
        self, kept: KeptClaim, report: Report, provider: Provider
    ) -> bool:
        limit = self._downtime_limit(report)
        targets = pairing.pair_mdevs(report.wanted, kept.claim.mdevs)
        sending = Sending(
            self._source,
            self._destination,
            report.guest,
            frozenset(report.live_mdevs(targets).values()),
            frozenset(report.inactive_mdevs(targets).values()),
            warn=self._warn,
            tell=self._observer.warn,
        )
        try:
            with self._undone_on_failure(kept, limit):
                self._target(report, targets)
                self._enter(Step.PREPARE)
                with self._explaining_loss(report.guest):
                    starts = durable.starts_with_host(
                        self._source, report.guest, self._warn
                    )
                    journey = self._prepare(report, kept.claim, targets, limit)
                kept.advance(Step.MIGRATE)
                self._enter(Step.MIGRATE)
                self._send(sending, report.guest, journey, limit)
        except exception.TargetMdevTaken as error:
            left = any(map(_tells_of_rest, self._outcome.warnings))
            if left or not provider.avoid(kept.claim, error):
                raise
            return False
        on_targets = True
        try:
            self._enter(Step.VERIFY)
            sending.verify(self._outcome)
            define = pairing.to_define(report.wanted, kept.claim.mdevs)
            for text in durable.keep(
                self._there, report.guest, define, starts=starts
            ):
                self._warn(text)
        except exception.GuestNotOnTargets:
            on_targets = False
            raise
        finally:
            self._release(kept, on_targets=on_targets)
        return True

    def _release(self, kept: KeptClaim, *, on_targets: bool) -> None:
        """Give up the claim of a guest that has arrived.

        :param on_targets: as far as is known it holds them all itself.
        """
        kept.let_go()
        if on_targets:
            with suppress(exception.MdevMigrateError):
                self._there.claims.undefine(kept.claim)
                return
        problems = undoing.end_claim(
            self._there,
            kept.claim,
            End.HAND_OVER,
            self._destination.limits,
        )
        for problem in problems:
            self._warn(f"the claim is kept: {problem}")
        if problems:
            kept.leave()

    @contextmanager
    def _undone_on_failure(
        self, kept: KeptClaim, limit: DowntimeLimit
    ) -> Iterator[None]:
        """Undo what the failed step left; the guest stayed where it was.

        Once the migration began, nothing is undone before it is known where
        the guest is: the claim stays, for whoever finds that out.
        """
        try:
            yield
        except BaseException as error:
            found = next(
                (w for kind, w in _FOUND.items() if isinstance(error, kind)),
                None,
            )
            end = claim_life.end(kept.claim, Owner.OVER, found)
            if end is not End.KEEP and found is not Whereabouts.NOWHERE:
                self._put_back(limit)
            self._end(kept, end, getattr(error, "uuids", frozenset()))
            raise

    def _end(self, kept: KeptClaim, end: End, busy: frozenset[str]) -> None:
        """End the claim of a guest that did not arrive, or leave it.

        Meanwhile it is kept, so that nobody else ends it too.
        """
        problems = undoing.end_claim(
            self._there,
            kept.claim,
            end,
            self._destination.limits,
            busy=busy,
        )
        kept.let_go()
        for problem in problems:
            self._warn(f"not undone: {problem}")
        if end is End.KEEP:
            self._warn(
                "not undone: the claim is kept; 'mdev-migrate recover' "
                "settles it"
            )
        if problems or end is End.KEEP:
            kept.leave()

    @contextmanager
    def _explaining_loss(self, guest: model.Guest) -> Iterator[None]:
        """Tell of a guest that is not active any more why it is not.

        :raises GuestStopped: if it was shut off since it was looked at;
            GuestLost if it is not known why it is not active.
        """
        try:
            yield
        except exception.LibvirtFailed as error:
            settling.refuse_lost(self._source, self._there, guest, error)
            raise

    def _prepare(
        self,
        report: Report,
        claim: model.Claim,
        targets: dict[str, str],
        limit: DowntimeLimit,
    ) -> Journey:
        """Rewrite the guest's documents and set its downtime limit."""
        uuid = report.guest.instance_uuid
        made = [target.mdev for target in claim.targets if target.created]
        options = self._options
        live = report.rewritten(
            options.live_xml or self._source.live_xml(uuid, secure=True),
            report.live_mdevs(targets),
            made,
        )
        inactive = None
        if report.guest.persistent:
            inactive = report.rewritten(
                options.persistent_xml
                or self._source.inactive_xml(uuid, secure=True),
                report.inactive_mdevs(targets),
                made,
            )
        self._heed_others(report.guest)
        limit.begin()
        self._heed_stop(report.guest)
        return Journey(
            peer_uri=self._options.peer_uri or self._there.uri,
            destination_xml=live,
            persistent_xml=inactive,
            migrate_uri=self._options.migrate_uri,
            bandwidth=self._options.bandwidth,
            flags=self._options.flags_for(report.guest),
            parameters=self._options.way.as_parameters(),
        )

    def _heed_others(self, guest: model.Guest) -> None:
        """Leave a guest alone that somebody has begun something with.

        libvirt would wait for the end of that, and an abort would end it.

        :raises GuestBusy: if somebody has.
        """
        job = self._source.progress(guest.instance_uuid)
        precheck.check_no_job(guest, self._source.uri, job)

    def _downtime_limit(self, report: Report) -> DowntimeLimit:
        found = report.estimate
        policy = downtime.Policy(
            self._options.downtime_bounds,
            device_bytes=found.device_bytes if found else None,
            bandwidth_limited=self._options.bandwidth is not None,
        )
        return DowntimeLimit(
            self._source,
            report.guest.instance_uuid,
            policy,
            self._observer,
            self._options.bandwidth,
        )

    def _put_back(self, limit: DowntimeLimit) -> None:
        """Leave the guest the downtime limit that it had before."""
        try:
            limit.put_back()
        except exception.HostError as error:
            self._warn(f"not undone: the downtime limit: {error}")

    def _send(
        self,
        sending: Sending,
        guest: model.Guest,
        journey: Journey,
        limit: DowntimeLimit,
    ) -> None:
        job = Job(
            self._source,
            guest.instance_uuid,
            journey,
            self._destination.limits,
            self._observer,
            limit,
        )
        sending.send(job, self._stopping, self._outcome)


def _tells_of_rest(warning: str) -> bool:
    return warning.startswith("not undone")
