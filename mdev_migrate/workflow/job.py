# SPDX-License-Identifier: Apache-2.0
"""The migration call in a thread of its own, watched and aborted."""

from __future__ import annotations

import functools
import math
import threading
import time

from mdev_migrate import exception, model
from mdev_migrate.host import Host, Journey
from mdev_migrate.limits import Limits
from mdev_migrate.workflow.limit import DowntimeLimit
from mdev_migrate.workflow.settling import after
from mdev_migrate.workflow.stopping import Stopping
from mdev_migrate.workflow.values import Observer


class Job:
    """One migration job of one guest.

    ``virDomainMigrateToURI3`` blocks until the guest has moved, so it runs
    in a thread; the statistics are read and an abort is sent meanwhile.

    :ivar ended: the call came back.
    :ivar begun: something of the guest has been sent.
    :ivar error: what it raised, if it did.
    :ivar last_seen: the last look at it.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - collaborators
        self,
        source: Host,
        instance_uuid: str,
        journey: Journey,
        limits: Limits,
        observer: Observer,
        downtime_limit: DowntimeLimit,
    ) -> None:
        self._source = source
        self._instance_uuid = instance_uuid
        self._limits = limits
        self._observer = observer
        self._downtime_limit = downtime_limit
        self._started = time.monotonic()
        self.ended = threading.Event()
        self.begun = False
        self.error: BaseException | None = None
        self.last_seen: model.JobProgress | None = None
        run = functools.partial(self._run, journey)
        threading.Thread(target=run, name="migrate", daemon=True).start()

    def _run(self, journey: Journey) -> None:
        try:
            self._source.migrate(self._instance_uuid, journey)
        except BaseException as error:  # noqa: BLE001 - raised by the watcher
            self.error = error
        finally:
            self.ended.set()

    def doubt_s(self) -> float:
        """Return for how long the host may yet begin what it was told.

        :returns: seconds: none once it has answered, a while if the
            connection broke, for ever if the call has not come back.
        """
        if not self.ended.is_set():
            return math.inf
        if isinstance(self.error, exception.HostUnreachable):
            return self._limits.stable_s
        return 0.0

    def watch(self, stopping: Stopping) -> str | None:
        """Watch the job until it ends, or is to be aborted.

        :param stopping: says when it is.
        :returns: why it must be aborted; None if it ended by itself.
        """
        while not self.ended.wait(self._pause_s()):
            reason = stopping.reason() or self._look()
            if reason is not None:
                return reason
        return None

    def _pause_s(self) -> float:
        """Return how long to wait for the end before the next look.

        The longer a job takes, the less often it is looked at.
        """
        elapsed = time.monotonic() - self._started
        poll_s = self._limits.poll_s
        return min(max(poll_s, elapsed / 20), 4 * poll_s)

    def _look(self) -> str | None:
        """Report how far the job is; return why it is to be aborted."""
        try:
            progress = self._source.progress(self._instance_uuid)
        except exception.HostError:
            progress = None
        if progress is not None:
            self.begun = self.begun or bool(progress.data_processed)
            elapsed = time.monotonic() - self._started
            self.last_seen = self._downtime_limit.see(progress)
            self._observer.progress(self.last_seen, elapsed)
        reason = self._downtime_limit.look(progress or model.JobProgress())
        if self.last_seen is not None:
            # It may have been raised just now, and the job may end for that.
            self.last_seen = self._downtime_limit.see(self.last_seen)
        return reason

    def _is_ours(self) -> bool:
        """Tell whether the guest's job may be this one."""
        job = self._source.progress(self._instance_uuid)
        return job is None or job.operation in (None, model.MIGRATION_OUT)

    def abort(self) -> None:
        """Abort the job until it ends, for ``limits.settle_s`` at most.

        Sent again and again: one that arrives before libvirt has begun the
        job has no effect. A job of another kind is somebody else's, for which
        ours still waits.
        """
        deadline = after(self._limits.settle_s)
        while time.monotonic() < deadline:
            try:
                if self._is_ours():
                    self._source.abort(self._instance_uuid)
            except exception.HostError as error:
                self._observer.warn(f"abort: {error}")
                if isinstance(error, exception.AccessDenied):
                    return
            if self.ended.wait(self._limits.poll_s):
                return
