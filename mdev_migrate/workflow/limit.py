# SPDX-License-Identifier: Apache-2.0
"""Hold a guest's limits while it migrates, and put them back."""

from __future__ import annotations

import time
from dataclasses import replace

from mdev_migrate import exception, model
from mdev_migrate.core.downtime import Advice, Policy
from mdev_migrate.host import Host
from mdev_migrate.workflow.values import Observer


class DowntimeLimit:
    """The downtime limit of one guest on its source, and its bandwidth limit.

    libvirt keeps them for whoever migrates the guest next: so those that were
    there are put back if it stays.

    :param policy: says when to raise the one, and to lift the other.
    :param bandwidth: the other one, in MiB/s; None if there is none.
    """

    def __init__(
        self,
        source: Host,
        instance_uuid: str,
        policy: Policy,
        observer: Observer,
        bandwidth: int | None = None,
    ) -> None:
        self._source = source
        self._instance_uuid = instance_uuid
        self._policy = policy
        self._observer = observer
        self._bandwidth = bandwidth
        self._bandwidth_before: int | None = None
        self._lifted = False
        self._before: int | None = None
        self._holds: int | None = None
        self._begun = False
        self._stopped_at: float | None = None

    def begin(self) -> None:
        """Set the limit to begin with.

        :raises HostError: if that is not possible.
        """
        self._before = self._source.max_downtime(self._instance_uuid)
        self._holds = self._before
        if self._bandwidth is not None:
            self._bandwidth_before = self._source.max_bandwidth(
                self._instance_uuid
            )
        self._set(self._policy.limit_ms)

    def see(self, job: model.JobProgress) -> model.JobProgress:
        """Return a job's figures with the limit that holds meanwhile."""
        return replace(job, limit_ms=self._holds)

    def look(self, job: model.JobProgress) -> str | None:
        """Raise the limit if the job does not come nearer to its end.

        A bandwidth limit that was lifted at the last look holds again.

        :param job: without figures as long as there are none.
        :returns: why the job is to be aborted, None if it is not.
        """
        if not self._begun and job.data_total:
            # libvirt may have set its own when it began the job.
            self._begun = True
            self._try_to_set(self._policy.limit_ms)
        if self._lifted:
            self._lifted = not self._limit_bandwidth(self._bandwidth)
        advice = self._policy.look(job, time.monotonic())
        if advice is None:
            return None
        if advice.action == "give-up":
            return None if self._is_switching_over() else advice.why
        if self._follow(advice):
            self._observer.downtime(advice)
        return None

    def _follow(self, advice: Advice) -> bool:
        """Do what was advised; tell whether that was possible."""
        if advice.action == "lift":
            self._lifted = self._limit_bandwidth(None)
            return self._lifted
        return advice.action == "say" or self._try_to_set(advice.limit_ms)

    def put_back(self) -> None:
        """Set the limits to what they were before.

        :raises HostError: if that is not possible.
        """
        if self._bandwidth_before is not None:
            self._source.set_max_bandwidth(
                self._instance_uuid, self._bandwidth_before
            )
        if self._before is not None and self._before != self._holds:
            self._set(self._before)

    def _is_switching_over(self) -> bool:
        """Tell whether the guest stands still for the last of its state.

        That is not aborted: it is what the limit was raised for. But a
        guest that stands still for far longer is let go on.
        """
        now = time.monotonic()
        try:
            guest = self._source.find_guest(self._instance_uuid)
        except exception.MdevMigrateError:
            return False
        if guest.running or guest.suspended:
            self._stopped_at = None
            return False
        if self._stopped_at is None:
            self._stopped_at = now
        return now - self._stopped_at < 2 * self._policy.limit_ms / 1000

    def _set(self, limit_ms: int) -> None:
        self._source.set_max_downtime(self._instance_uuid, limit_ms)
        self._holds = limit_ms

    def _limit_bandwidth(self, bandwidth: int | None) -> bool:
        try:
            self._source.set_max_bandwidth(self._instance_uuid, bandwidth)
        except exception.HostError as error:
            self._warn(f"the bandwidth limit may not hold: {error}")
            return False
        return True

    def _try_to_set(self, limit_ms: int) -> bool:
        try:
            self._set(limit_ms)
        except exception.HostError as error:
            self._warn(f"the downtime limit may not hold: {error}")
            return False
        return True

    def _warn(self, text: str) -> None:
        """Warn of a limit, unless the guest has left and needs none."""
        try:
            left = not self._source.find_guest(self._instance_uuid).active
        except exception.MdevMigrateError as error:
            left = isinstance(error, exception.GuestNotFound)
        if not left:
            self._observer.warn(text)
