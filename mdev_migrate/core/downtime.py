# SPDX-License-Identifier: Apache-2.0
"""How long may a guest stand still, so that its migration ends?

QEMU copies in rounds, which libvirt calls iterations: each sends what the
guest has dirtied meanwhile. It stops the guest for the last one as soon as it
expects that to take no longer than the downtime limit. What a round begins
with tells whether the migration comes nearer to its end: in a round itself
what remains always falls.

So the limit begins low. Each round that begins with about as much as the best
before it raises the limit: to twice of what it was, or to what QEMU expects
to need if that is more, and never above a ceiling. If the ceiling does not do,
that is said, with what would; and after a while without coming nearer it is
time to give up.

A bandwidth limit can keep a guest that writes much from ending whatever its
downtime limit is: memory uses up the bandwidth of each tenth of a second, so
that devices which copy beforehand (``VFIO_MIGRATION_PRE_COPY``) never get
their turn, and until the destination has their first bytes it does not let
QEMU switch over (capability ``switchover-ack``; seen with QEMU 10.0). Then the
bandwidth limit is lifted for a moment: QEMU sends the rest without it anyway.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mdev_migrate import exception, model
from mdev_migrate.core import progress, transport

#: QEMU's own limit, migration parameter downtime-limit.
BEGIN_MS = 300
#: Some GiB over 10 Gbit/s; what [mdev_migrate]max_downtime is for Nova.
CEILING_MS = 10_000
#: How long to go on without coming nearer.
STALL_TIMEOUT_S = 300.0
#: A round comes nearer that begins with less than this share of the best.
_NEARER = 0.9
#: How many looks without coming nearer there are, at the least, to a step;
#: and rounds that might have been the last, to a lift of the bandwidth limit.
PATIENCE = 8


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a guest may stand still.

    :ivar begin_ms: the limit at first; None for :data:`BEGIN_MS`, or the
        ceiling if that is lower.
    :ivar ceiling_ms: the limit is never raised above this.
    :ivar stall_timeout_s: how long to go on at the ceiling without coming
        nearer; None for ever.
    """

    begin_ms: int | None = None
    ceiling_ms: int = CEILING_MS
    stall_timeout_s: float | None = STALL_TIMEOUT_S

    def check(self) -> None:
        """Refuse what QEMU would not take, or what cannot be meant.

        :raises OptionInvalid: if it is so.
        """
        transport.check_max_downtime(self.ceiling_ms)
        if self.begin_ms is not None and not (
            1 <= self.begin_ms <= self.ceiling_ms
        ):
            raise exception.OptionInvalid(
                "downtime",
                f"{self.begin_ms} ms",
                f"1 to {self.ceiling_ms}, the maximal downtime",
            )
        if self.stall_timeout_s is not None and self.stall_timeout_s <= 0:
            raise exception.OptionInvalid(
                "stall time limit", f"{self.stall_timeout_s:g}", "more than 0"
            )

    @property
    def first_ms(self) -> int:
        """Return the limit to begin with."""
        return self.begin_ms or min(BEGIN_MS, self.ceiling_ms)


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do after a look at the job.

    :ivar action: ``raise``: set the limit to ``limit_ms``. ``lift``: take
        the bandwidth limit away until the next look. ``say``: tell that it
        will not end. ``give-up``: abort the job.
    :ivar limit_ms: the limit from now on.
    :ivar needed_ms: the one that would do; None if that is not known.
    :ivar why: for people.
    """

    action: Literal["raise", "lift", "say", "give-up"]
    limit_ms: int
    needed_ms: int | None
    why: str


class Policy:
    """The downtime limit of one job, look by look. Not safe for threads.

    :param device_bytes: how much state the guest's devices may have, as far
        as that can be known beforehand.
    :param bandwidth_limited: the job has a bandwidth limit.
    :ivar limit_ms: the limit now.
    """

    def __init__(
        self,
        bounds: Bounds,
        *,
        device_bytes: int | None = None,
        bandwidth_limited: bool = False,
    ) -> None:
        self.limit_ms = bounds.first_ms
        self._bounds = bounds
        self._device_bytes = device_bytes
        self._bandwidth_limited = bandwidth_limited
        self._rounds = _Rounds()
        self._looks = 0
        self._raised_in: int | None = None
        self._said = False
        self._hopeful_at: float | None = None
        self._fitting_round: int | None = None
        self._fitting_rounds = 0

    def look(self, job: model.JobProgress, now_s: float) -> Advice | None:
        """Return what to do about the job as it is now.

        :param job: without figures as long as there are none.
        :param now_s: by a clock that only goes forward.
        :returns: None if there is nothing to do.
        """
        if self._hopeful_at is None:
            self._hopeful_at = now_s
        if job.data_total and job.data_remaining is not None:
            nearer = self._rounds.see(job.iteration, job.data_remaining)
            self._looks = 0 if nearer else self._looks + 1
            if nearer or (self._rounds.moving and not self._at_ceiling):
                self._hopeful_at = now_s
            if self._bandwidth_limited and self._is_held_up(job):
                return self._lift()
            if self._is_due(job):
                if not self._at_ceiling:
                    return self._raise(job, now_s)
                if not self._said:
                    self._said = True
                    return self._say(job)
        return self._give_up(job, now_s)

    @property
    def _at_ceiling(self) -> bool:
        return self.limit_ms >= self._bounds.ceiling_ms

    def _is_due(self, job: model.JobProgress) -> bool:
        """Tell whether a round has shown that the limit does not do."""
        # What fits already may want nothing but its turn.
        if self._looks < PATIENCE or 0 < self._fitting_rounds < PATIENCE:
            return False
        if job.iteration is None:
            return True
        if self._rounds.hopeful:
            return False
        return (
            job.iteration != self._raised_in
            or (job.downtime_ms or 0) > self._bounds.ceiling_ms
        )

    def _is_held_up(self, job: model.JobProgress) -> bool:
        """Tell whether round after round could be the last, and is not."""
        needed = needed_ms(job, self._device_bytes)
        if needed is None or needed > self.limit_ms:
            self._fitting_rounds = 0
            return False
        if job.iteration == self._fitting_round:
            return False
        self._fitting_round = job.iteration
        self._fitting_rounds += 1
        return self._fitting_rounds % PATIENCE == 0

    def _lift(self) -> Advice:
        return Advice(
            "lift",
            self.limit_ms,
            None,
            "bandwidth limit lifted for a moment: what remains fits the "
            f"downtime limit of {self.limit_ms} ms, but beside memory the "
            "devices do not get their turn",
        )

    def _raise(self, job: model.JobProgress, now_s: float) -> Advice:
        before = self.limit_ms
        wanted = max(2 * before, job.downtime_ms or 0)
        self.limit_ms = min(wanted, self._bounds.ceiling_ms)
        self._looks = 0
        self._raised_in = job.iteration
        self._hopeful_at = now_s
        return Advice(
            "raise",
            self.limit_ms,
            self._needed(job),
            f"downtime limit raised from {before} to {self.limit_ms} ms: "
            f"{_standstill(job)}",
        )

    def _say(self, job: model.JobProgress) -> Advice:
        needed = self._needed(job)
        return Advice(
            "say",
            self.limit_ms,
            needed,
            f"it will not end: {self.limit_ms} ms, the maximal downtime, do "
            f"not do; {_would(needed) or 'what would is not known'}",
        )

    def _needed(self, job: model.JobProgress) -> int | None:
        """Return what would do, if it is more than what does not."""
        needed = needed_ms(job, self._device_bytes)
        if needed is None or needed <= self.limit_ms:
            return None
        return needed

    def _give_up(self, job: model.JobProgress, now_s: float) -> Advice | None:
        patience_s = self._bounds.stall_timeout_s
        since = now_s if self._hopeful_at is None else self._hopeful_at
        if patience_s is None or now_s - since < patience_s:
            return None
        if not job.data_total:
            why = f"nothing was sent for {patience_s:g} s"
            return Advice("give-up", self.limit_ms, None, why)
        needed = self._needed(job)
        why = (
            f"it came no nearer to its end for {patience_s:g} s with a "
            f"downtime limit of {self.limit_ms} ms"
        )
        if needed is not None:
            why = f"{why}; {_would(needed)}"
        return Advice("give-up", self.limit_ms, needed, why)


class _Rounds:
    """What the rounds of a copy begin with.

    :ivar hopeful: the present one began with less than the best before it.
    :ivar moving: at the last look less remained, or a round began.
    """

    def __init__(self) -> None:
        self.hopeful = True
        self.moving = True
        self._iteration = -1
        self._best = 0.0
        self._lowest = float("inf")

    def see(self, iteration: int | None, remaining: int) -> bool:
        """Tell whether the copy is nearer to its end than it ever was.

        Rounds only go forward: a number that is missing, or is less than
        one before it, begins none.
        """
        number = max(iteration or 0, self._iteration)
        if number == self._iteration:
            self.moving = remaining < self._lowest
            self._lowest = min(self._lowest, remaining)
            return self.hopeful and self.moving
        # What comes before the second round is sent for the first time:
        # disks, then all memory.
        self.hopeful = number < 2 or remaining < _NEARER * self._best
        if self.hopeful:
            self._best = remaining
        self._iteration = number
        self._lowest = remaining
        self.moving = True
        return self.hopeful


def needed_ms(
    job: model.JobProgress, device_bytes: int | None = None
) -> int | None:
    """Return with which downtime limit a job would end.

    QEMU's own expectation is of memory alone.

    :param device_bytes: how much state the devices may have.
    :returns: milliseconds; None if it cannot be told.
    """
    devices_ms = None
    rate = progress.rate(job)
    if device_bytes and rate:
        devices_ms = math.ceil(1000 * device_bytes / rate)
    parts = [ms for ms in (job.downtime_ms, devices_ms) if ms]
    return sum(parts) if parts else None


def _would(needed: int | None) -> str:
    return "" if needed is None else f"about {needed} ms would"


def _standstill(job: model.JobProgress) -> str:
    """Return why the limit is raised."""
    left = f"{(job.data_remaining or 0) / 2**20:.1f} MiB"
    if job.iteration is None:
        return f"{left} remain, and it does not become less"
    return (
        f"iteration {job.iteration} has {left} to send, no less than those "
        "before"
    )
