# SPDX-License-Identifier: Apache-2.0
"""Migrate a guest: provide its targets, move it, see that it is there.

The steps are those of :mod:`core.phases`. A failure before the migration
began is undone at once. A failure during it says little by itself: an
answer may be lost while the migration goes on. Then both hosts are asked,
again and again and within a limit, until it is known where the guest is; only
then is anything undone, and if it does not become known, nothing is.
"""

from __future__ import annotations

import functools
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from mdev_migrate import exception, model
from mdev_migrate.core import (
    allocation,
    claims,
    downtime,
    guest_xml,
    pairing,
    phases,
    precheck,
    whereabouts,
)
from mdev_migrate.core.phases import Step
from mdev_migrate.core.whereabouts import Whereabouts
from mdev_migrate.host import Host, Journey
from mdev_migrate.service import MdevMigration
from mdev_migrate.workflow import settling
from mdev_migrate.workflow.check import GuestCheck
from mdev_migrate.workflow.clearing import clear_behind
from mdev_migrate.workflow.job import Job
from mdev_migrate.workflow.limit import DowntimeLimit
from mdev_migrate.workflow.recovery import settle
from mdev_migrate.workflow.values import (
    Observer,
    Options,
    Outcome,
    Report,
    Silent,
)

#: The guest is active on neither host.
_GONE = (exception.GuestLost, exception.GuestStopped)
#: Raised only after both hosts were asked: the guest is not on its targets.
_STAYED = (
    exception.MigrationFailed,
    exception.MigrationAborted,
    *_GONE,
)


class GuestMigration:
    """The migration of one guest.

    :param guest: its name, UUID or number.
    :param stop: setting this event aborts the migration, from any thread or
        signal handler.
    :param note: what the claim says about who made it.
    :param may_replace: raises if an older claim of the instance must stay.
    :param source_claims: the claims on the source's mdevs. With them, mdevs
        that were made there for this guest are removed when it has left.
    """

    def __init__(  # noqa: PLR0913 - collaborators by name
        self,
        source: Host,
        destination: MdevMigration[Host],
        guest: str,
        options: Options | None = None,
        *,
        observer: Observer | None = None,
        stop: threading.Event | None = None,
        note: claims.Note | None = None,
        may_replace: Callable[[claims.Claim], None] = claims.refuse_unfinished,
        source_claims: claims.ClaimTable | None = None,
    ) -> None:
        self._source = source
        self._destination = destination
        self._options = options or Options()
        self._check = GuestCheck(
            source,
            destination,
            guest,
            self._options,
            may_replace=may_replace,
        )
        self._observer = observer or Silent()
        self._stop = stop or threading.Event()
        self._note = note or claims.Note(token=str(uuid.uuid4()))
        self._source_claims = source_claims
        self._may_replace = may_replace
        self._outcome = Outcome(guest)
        self._entered = time.monotonic()

    def run(self) -> Outcome:
        """Migrate the guest, or leave it and both hosts as they were.

        :returns: how it ended; errors of this package are in it.
        """
        outcome = self._outcome
        started = time.monotonic()
        try:
            self._run()
        except exception.MdevMigrateError as error:
            outcome.error = error
            refused = isinstance(error, exception.PreCheckError)
            outcome.result = "refused" if refused else "failed"
        else:
            outcome.result = "migrated"
        finally:
            self._leave_step()
            self._leave_claim()
            outcome.seconds = time.monotonic() - started
        return outcome

    def _enter(self, step: Step, detail: str = "") -> None:
        self._leave_step()
        self._outcome.step = step
        self._observer.step(step, detail)

    def _leave_step(self) -> None:
        now = time.monotonic()
        step, timings = self._outcome.step, self._outcome.timings
        if step is not None:
            timings[step] = timings.get(step, 0.0) + now - self._entered
        self._entered = now

    def _leave_claim(self) -> None:
        """Leave what this migration still claims to whoever can end it."""
        instance_uuid = self._outcome.instance_uuid
        if instance_uuid is None:
            return
        try:
            left = self._destination.claims.leave(instance_uuid, self._note)
            if left and not any(map(_tells_of_rest, self._outcome.warnings)):
                self._warn(
                    "not undone: the claim is kept; 'mdev-migrate recover' "
                    "settles it"
                )
        except exception.LedgerError as error:
            self._warn(f"ledger: {error}")

    def _advance(self, step: Step, guest: model.Guest) -> None:
        """Enter a step, noting it in the claim first."""
        self._destination.advance(guest.instance_uuid, step, self._note)
        self._enter(step)

    def _warn(self, text: str) -> None:
        self._outcome.warnings.append(text)
        self._observer.warn(text)

    def _run(self) -> None:
        self._enter(Step.CHECK)
        report = self._check.check()
        if self._settle_earlier(report.guest):
            report = self._check.check()
        guest = report.guest
        self._note = replace(self._note, guest=guest.name)
        self._outcome.guest = guest.name
        self._outcome.instance_uuid = guest.instance_uuid
        precheck.refuse(report.checks)
        for check in report.checks:
            if check.result == "unknown":
                self._warn(check.detail)
        self._enter(Step.PLAN)
        if self._stop.is_set():
            raise exception.MigrationAborted(guest.name, "on request")
        plan = self._destination.provide(
            guest.instance_uuid,
            report.wanted,
            note=self._note,
            may_replace=self._may_replace,
            entering=self._enter,
        )
        limit = self._downtime_limit(report)
        with self._undone_on_failure(guest, plan, limit):
            targets = pairing.pair_mdevs(report.wanted, plan.mdevs)
            self._outcome.target_mdevs = targets
            journey = self._prepare(guest, targets, limit)
            self._migrate(guest, journey, limit)
        try:
            self._verify(guest, targets)
        finally:
            # Verified or not: the guest itself holds its mdevs by now.
            self._finish(guest, plan)
        self._enter(Step.RELEASE)
        self._clear_source(guest)

    def _settle_earlier(self, guest: model.Guest) -> bool:
        """Settle what an earlier migration of this guest left claimed.

        :returns: True if there was something and it is settled.
        """
        claim = self._destination.claims.get(guest.instance_uuid)
        if claim is None or not claim.note.over or claim.note.migration:
            return False
        recovered = settle(
            claim,
            self._destination,
            lambda: nullcontext(self._source),
            replace(self._note, over=False),
        )
        self._warn(recovered.text)
        return recovered.action != "kept"

    def _finish(
        self, guest: model.Guest, plan: allocation.AllocationPlan
    ) -> None:
        """Give up the claim, remembering what was made for the guest."""
        table = self._destination.claims
        try:
            table.remember(guest.instance_uuid, plan.create)
            table.release(guest.instance_uuid, self._note)
        except exception.LedgerError as error:
            self._warn(f"the claim is kept: {error}")

    def _clear_source(self, guest: model.Guest) -> None:
        """Remove the mdevs that were made on the source for this guest."""
        if self._source_claims is not None:
            place = MdevMigration(
                self._source,
                self._source_claims,
                limits=self._destination.limits,
            )
            for text in clear_behind(place, self._note, guest.instance_uuid):
                self._warn(text)

    @contextmanager
    def _undone_on_failure(
        self,
        guest: model.Guest,
        plan: allocation.AllocationPlan,
        limit: DowntimeLimit,
    ) -> Iterator[None]:
        """Undo what the failed step left; the guest stayed where it was.

        Once the migration began, nothing is undone before it is known where
        the guest is: the claim stays, for whoever finds that out.
        """
        try:
            yield
        except BaseException as error:
            step = self._outcome.step or Step.CREATE
            if phases.guest_may_have_moved(step) and not isinstance(
                error, _STAYED
            ):
                raise
            if not isinstance(error, _GONE):
                self._put_back(limit)
            for problem in self._destination.roll_back(
                guest.instance_uuid,
                step,
                plan,
                note=self._note,
            ):
                self._warn(f"not undone: {problem}")
            raise

    def _prepare(
        self,
        guest: model.Guest,
        targets: dict[str, str],
        limit: DowntimeLimit,
    ) -> Journey:
        """Rewrite the guest's documents and set its downtime limit.

        :raises GuestStopped: if it was shut off since it was looked at.
        """
        self._advance(Step.PREPARE, guest)
        try:
            return self._make_journey(guest, targets, limit)
        except exception.LibvirtFailed:
            settling.refuse_stopped(self._source, guest)
            raise

    def _make_journey(
        self,
        guest: model.Guest,
        targets: dict[str, str],
        limit: DowntimeLimit,
    ) -> Journey:
        uuid = guest.instance_uuid
        rewrite = functools.partial(
            guest_xml.replace_mdevs, target_mdevs=targets
        )
        options = self._options
        live = rewrite(
            options.live_xml or self._source.live_xml(uuid, secure=True)
        )
        inactive = None
        if guest.persistent:
            inactive = rewrite(
                options.persistent_xml
                or self._source.inactive_xml(uuid, secure=True)
            )
        self._destination.await_targets(frozenset(targets.values()))
        limit.begin()
        if self._stop.is_set():
            raise exception.MigrationAborted(guest.name, "on request")
        return Journey(
            peer_uri=self._options.peer_uri or self._destination.host.uri,
            destination_xml=live,
            persistent_xml=inactive,
            migrate_uri=self._options.migrate_uri,
            bandwidth=self._options.bandwidth,
            flags=self._options.flags_for(guest),
            parameters=self._options.way.as_parameters(),
        )

    def _downtime_limit(self, report: Report) -> DowntimeLimit:
        found = report.estimate
        policy = downtime.Policy(
            self._options.downtime_bounds,
            device_bytes=found.device_bytes if found else None,
        )
        return DowntimeLimit(
            self._source, report.guest.instance_uuid, policy, self._observer
        )

    def _put_back(self, limit: DowntimeLimit) -> None:
        """Leave the guest the downtime limit that it had before."""
        try:
            limit.put_back()
        except exception.HostError as error:
            self._warn(f"not undone: the downtime limit: {error}")

    def _migrate(
        self, guest: model.Guest, journey: Journey, limit: DowntimeLimit
    ) -> None:
        """Run the migration job and see how it ends.

        :raises MigrationFailed: if the guest stayed on the source.
        :raises MigrationAborted: if it did so on request or for the time.
        :raises OutcomeUnknown: if it is not found within the limit.
        """
        self._advance(Step.MIGRATE, guest)
        job = Job(
            self._source,
            guest.instance_uuid,
            journey,
            self._destination.limits,
            self._observer,
            limit,
        )
        aborted = self._watch(job)
        if job.ended.is_set() and job.error is None:
            return
        if job.error is not None and not isinstance(job.error, Exception):
            raise job.error
        try:
            found = settling.find_out(
                self._source,
                self._destination.host,
                guest.instance_uuid,
                self._destination.limits,
                doubt_s=job.doubt_s,
            )
        except exception.OutcomeUnknown as error:
            raise exception.OutcomeUnknown(guest.name, error.reason) from error
        if found is Whereabouts.ARRIVED:
            self._warn(f"the guest arrived in spite of: {job.error}")
        elif found is Whereabouts.NOWHERE:
            raise settling.explain_loss(
                self._source, self._destination.host, guest, str(job.error)
            )
        elif aborted is not None:
            raise exception.MigrationAborted(guest.name, aborted)
        else:
            raise _failure(job.error)(
                guest.name,
                self._source.uri,
                self._destination.host.uri,
                getattr(job.error, "reason", str(job.error)),
            ) from job.error

    def _watch(self, job: Job) -> str | None:
        """Watch the job, and abort it for the reason that is returned."""
        try:
            reason = job.watch(self._stop, self._options.timeout_s)
        except KeyboardInterrupt:
            reason = "on request"
        if reason is not None:
            job.abort()
        self._outcome.last_seen = job.last_seen
        return reason

    def _verify(self, guest: model.Guest, targets: dict[str, str]) -> None:
        """See that the guest runs on its target mdevs.

        A host that fails to answer is asked again, and after
        ``limits.settle_s`` that is a warning: the guest has moved, whether
        or not anybody can look at it now.

        :raises GuestNotOnTargets: if it does not.
        """
        self._enter(Step.VERIFY)
        limits = self._destination.limits
        deadline = settling.after(limits.settle_s)
        while True:
            try:
                return self._look_there(guest, targets)
            except exception.HostError as error:
                if time.monotonic() > deadline:
                    return self._warn(f"not verified: {error}")
            time.sleep(limits.poll_s)

    def _look_there(self, guest: model.Guest, targets: dict[str, str]) -> None:
        host, uuid = self._destination.host, guest.instance_uuid
        there = settling.find(host, uuid)
        if there is None or not there.active:
            raise exception.GuestNotOnTargets(
                guest.name,
                host.uri,
                whereabouts.describe(
                    there, "that host", transient=not guest.persistent
                ),
            )
        if not there.running:
            self._warn(
                f"the guest is not running on {host.uri}: is it paused?"
            )
        documents = [host.live_xml(uuid)]
        if there.persistent:
            documents.append(host.inactive_xml(uuid))
        for found in map(guest_xml.named_mdevs, documents):
            if found != frozenset(targets.values()):
                raise exception.GuestNotOnTargets(
                    guest.name,
                    host.uri,
                    f"its XML names the mdevs {sorted(found)}, "
                    f"{sorted(targets.values())} were planned",
                )
        statistics = host.completed(uuid)
        if statistics is not None:
            self._outcome.downtime_ms = statistics.downtime_ms
            self._outcome.bytes_moved = statistics.bytes_moved()


def _failure(
    error: BaseException | None,
) -> type[exception.MigrationFailed]:
    """Return the kind of failure that a migration job ended with."""
    if isinstance(error, exception.AccessDenied):
        return exception.MigrationDenied
    return exception.MigrationFailed


def _tells_of_rest(warning: str) -> bool:
    return warning.startswith("not undone")
