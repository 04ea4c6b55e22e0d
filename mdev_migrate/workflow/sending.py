# SPDX-License-Identifier: Apache-2.0
"""Send a guest, and find out whether it stayed or arrived, and on what."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from mdev_migrate import exception, model
from mdev_migrate.core import claim_life, guest_xml, whereabouts
from mdev_migrate.core.whereabouts import Whereabouts
from mdev_migrate.host import Host
from mdev_migrate.workflow import settling
from mdev_migrate.workflow.job import Job
from mdev_migrate.workflow.stopping import Stopping
from mdev_migrate.workflow.values import Destination, Outcome


class Sending:
    """One guest on its way from one host to another.

    :param targets: UUIDs of the target mdevs that it runs on.
    :param later: UUIDs of those that it starts with next.
    :param warn: is told what a human should know, also afterwards.
    :param tell: is told what a human should know meanwhile.
    """

    def __init__(  # noqa: PLR0913 - facts by name
        self,
        source: Host,
        destination: Destination,
        guest: model.Guest,
        targets: frozenset[str],
        later: frozenset[str],
        *,
        warn: Callable[[str], None],
        tell: Callable[[str], None],
    ) -> None:
        self._source = source
        self._there = destination.host
        self._limits = destination.limits
        self._guest = guest
        self._targets = targets
        self._later = later
        self._warn = warn
        self._tell = tell

    def send(
        self,
        job: Job,
        stopping: Stopping,
        outcome: Outcome,
    ) -> None:
        """Watch the migration job and see how it ends.

        :param stopping: says when to abort it.
        :param outcome: gets what was seen last.
        :raises MigrationFailed: if the guest stayed on the source.
        :raises MigrationAborted: if it did so on request or for the time.
        :raises GuestLost: if it is active on neither host; GuestStopped if
            the source knows why.
        :raises OutcomeUnknown: if it is not found within the limit.
        """
        aborted = self._watch(job, stopping)
        outcome.last_seen = job.last_seen
        if job.ended.is_set() and job.error is None:
            return
        if job.error is not None and not isinstance(job.error, Exception):
            raise job.error
        found = self._find_out(job)
        if found is Whereabouts.ARRIVED:
            self._warn(f"the guest arrived in spite of: {job.error}")
        elif found is Whereabouts.NOWHERE:
            raise settling.explain_loss(
                self._source, self._there, self._guest, str(job.error)
            )
        elif aborted is not None:
            raise exception.MigrationAborted(self._guest.name, aborted)
        else:
            raise self._failure(job) from job.error

    def _watch(self, job: Job, stopping: Stopping) -> str | None:
        """Watch the job, and abort it for the reason that is returned."""
        try:
            reason = job.watch(stopping)
        except KeyboardInterrupt:
            reason = "on request"
        if reason is not None:
            self._tell(
                f"aborting: {reason}; waiting for {self._source.uri} to end "
                "the migration"
            )
            job.abort()
        return reason

    def _find_out(self, job: Job) -> Whereabouts:
        return settling.find_out(
            self._source,
            self._there,
            self._guest.instance_uuid,
            self._limits,
            name=self._guest.name,
            doubt_s=job.doubt_s,
        )

    def _failure(self, job: Job) -> exception.MigrationFailed:
        """Return how a migration job failed whose guest stayed."""
        reason = getattr(job.error, "reason", str(job.error))
        facts = (
            self._guest.name,
            self._source.uri,
            self._there.uri,
            str(reason),
        )
        if isinstance(job.error, exception.AccessDenied):
            return exception.MigrationDenied(*facts)
        if whereabouts.ended_on_the_way(
            str(reason)
        ) and settling.was_restarted(self._source, self._guest):
            return exception.GuestRestarted(*facts)
        taken = claim_life.named_as_taken(str(reason), self._targets)
        if taken and not job.begun:
            return exception.TargetMdevTaken(*facts, taken)
        return exception.MigrationFailed(*facts)

    def verify(self, outcome: Outcome) -> None:
        """See that the guest runs on its target mdevs.

        A host that fails to answer is asked again, and after
        ``limits.settle_s`` that is a warning: the guest has moved, whether
        or not anybody can look at it now.

        :param outcome: gets the figures of the migration.
        :raises GuestNotOnTargets: if it does not.
        """
        deadline = settling.after(self._limits.settle_s)
        while True:
            try:
                return self._look_there(outcome)
            except exception.HostError as error:
                if time.monotonic() > deadline:
                    return self._warn(f"not verified: {error}")
            time.sleep(self._limits.poll_s)

    def _look_there(self, outcome: Outcome) -> None:
        host, uuid = self._there, self._guest.instance_uuid
        there = settling.find(host, uuid)
        if there is None or not there.active:
            raise exception.GuestNotOnTargets(
                self._guest.name,
                host.uri,
                *whereabouts.describe_arrived(
                    there, transient=not self._guest.persistent
                ),
            )
        if self._guest.running and not there.running:
            self._warn(
                f"the guest is not running on {host.uri}: is it paused?"
            )
        documents = [("it runs", host.live_xml(uuid), self._targets)]
        if there.persistent:
            later = host.inactive_xml(uuid)
            documents.append(("it will start next", later, self._later))
        for what, document, planned in documents:
            found = guest_xml.named_mdevs(document)
            if found != planned:
                raise exception.GuestNotOnTargets(
                    self._guest.name,
                    host.uri,
                    f"{what} {_with(found)}, as its XML says; planned was: "
                    f"{_with(planned)}",
                    "changed",
                )
        statistics = host.completed(uuid)
        if statistics is not None:
            outcome.downtime_ms = statistics.downtime_ms
            outcome.bytes_moved = statistics.bytes_moved()


def _with(uuids: Collection[str]) -> str:
    listed = ", ".join(sorted(uuids))
    return f"with the mdevs {listed}" if uuids else "without mdevs"
