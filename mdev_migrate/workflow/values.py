# SPDX-License-Identifier: Apache-2.0
"""What goes into a migration and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from mdev_migrate import exception, model
from mdev_migrate.core import allocation, pairing, precheck, transport
from mdev_migrate.core.phases import Step


@dataclass(frozen=True, slots=True)
class Options:
    """How to migrate.

    :ivar peer_uri: where the source's libvirt daemon reaches the
        destination's; by default the URI that this program uses.
    :ivar migrate_uri: where the guest's memory is sent; None lets libvirt
        choose.
    :ivar max_downtime_ms: how long the guest may stand still; None keeps
        QEMU's default of 300 ms, which a large device state will not meet.
    :ivar bandwidth: MiB/s; None for no limit.
    :ivar timeout_s: aborts a migration that takes longer; None for none.
    :ivar flags: further virDomainMigrateFlags; what a guest with mdevs
        cannot use is dropped.
    """

    peer_uri: str | None = None
    migrate_uri: str | None = None
    max_downtime_ms: int | None = None
    bandwidth: int | None = None
    timeout_s: float | None = None
    flags: int = 0

    def flags_for(self, guest: model.Guest) -> tuple[int, tuple[str, ...]]:
        """Return the flags to migrate a guest with, and what was dropped."""
        flags = self.flags | transport.LIVE | transport.PEER2PEER
        if guest.persistent:
            flags |= transport.PERSIST_DEST | transport.UNDEFINE_SOURCE
        if guest.mdevs:
            return transport.drop_unsupported(flags)
        return flags, ()

    def check(self) -> None:
        """Refuse values out of bounds.

        :raises OptionInvalid: if one is.
        """
        if self.max_downtime_ms is not None:
            transport.check_max_downtime(self.max_downtime_ms)
        for name, value in (
            ("bandwidth", self.bandwidth),
            ("time limit", self.timeout_s),
        ):
            if value is not None and value <= 0:
                raise exception.OptionInvalid(name, f"{value}", "more than 0")


class Observer(Protocol):
    """Is told how a migration goes."""

    def step(self, step: Step, detail: str) -> None:
        """Hear that a step begins."""
        ...

    def warn(self, text: str) -> None:
        """Hear what a human should know."""
        ...

    def progress(self, progress: model.JobProgress, elapsed_s: float) -> None:
        """Hear how far the migration job is."""
        ...


class Silent:
    """An observer that does not listen."""

    def step(self, step: Step, detail: str) -> None:
        """Hear that a step begins."""

    def warn(self, text: str) -> None:
        """Hear what a human should know."""

    def progress(self, progress: model.JobProgress, elapsed_s: float) -> None:
        """Hear how far the migration job is."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the pre-checks found.

    :ivar wanted: what each mdev of the guest asks of its target; empty if
        the guest has none or if they could not be read.
    :ivar plan: None if it was refused.
    """

    guest: model.Guest
    checks: tuple[precheck.Check, ...]
    wanted: tuple[model.WantedMdev, ...] = ()
    plan: allocation.AllocationPlan | None = None

    @property
    def allowed(self) -> bool:
        """Tell whether nothing was refused."""
        return all(check.result != "refused" for check in self.checks)

    @property
    def target_mdevs(self) -> dict[str, str]:
        """Return the planned target mdev of each source mdev."""
        if self.plan is None:
            return {}
        return pairing.pair_mdevs(self.wanted, self.plan.mdevs)


@dataclass(slots=True)
class Outcome:
    """How a migration ended.

    :ivar target_mdevs: target mdev UUID by source mdev UUID; of a failed
        migration, what was tried.
    :ivar downtime_ms: as libvirt measured it; None if it did not say.
    :ivar bytes_moved: of RAM, disks and devices, likewise.
    :ivar step: the step that failed.
    :ivar timings: seconds spent in each step that began.
    """

    guest: str
    instance_uuid: str | None = None
    result: Literal["migrated", "refused", "failed"] = "failed"
    target_mdevs: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    downtime_ms: int | None = None
    bytes_moved: int | None = None
    error: exception.MdevMigrateError | None = None
    step: Step | None = None
    warnings: list[str] = field(default_factory=list)
    timings: dict[Step, float] = field(default_factory=dict)
