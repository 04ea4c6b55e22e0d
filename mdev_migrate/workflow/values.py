# SPDX-License-Identifier: Apache-2.0
"""What goes into a migration and what comes out of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from mdev_migrate import exception, model
from mdev_migrate.core import (
    allocation,
    claim_xml,
    downtime,
    estimate,
    guest_xml,
    made,
    pairing,
    precheck,
    transport,
)
from mdev_migrate.host import Host
from mdev_migrate.limits import DEFAULT, Limits
from mdev_migrate.model import Step


def mint() -> str:
    """Return a new UUID."""
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class Destination:
    """A host that guests come to, and what to know of it.

    :ivar mint: returns a UUID for a new mdev.
    """

    host: Host
    limits: Limits = DEFAULT
    mint: Callable[[], str] = mint


@dataclass(frozen=True, slots=True)
class Options:
    """How to migrate.

    :ivar peer_uri: where the source's libvirt daemon reaches the
        destination's; by default the URI that this program uses.
    :ivar migrate_uri: where the guest's memory is sent; None lets libvirt
        choose.
    :ivar downtime_ms: how long the guest may stand still at first; None for
        300 ms, or for ``max_downtime_ms`` if that is less.
    :ivar max_downtime_ms: how long it may stand still at most: the limit is
        raised up to this if the migration would not end otherwise.
    :ivar strict_downtime: refuse if, as far as can be told beforehand, the
        guest's devices may need more than that.
    :ivar stall_timeout_s: aborts a migration that came no nearer to its end
        for so long; None for none.
    :ivar bandwidth: MiB/s; None for no limit.
    :ivar timeout_s: aborts a migration that takes longer; None for none.
    :ivar targets: target mdev's UUID, or its parent's name, by source mdev
        UUID, for who wants to choose.
    :ivar way: how it is sent besides.
    :ivar live_xml: what the guest is on the destination, but for its mdevs;
        None for what it is on the source.
    :ivar persistent_xml: what its definition there becomes, likewise.
    :ivar flags: further virDomainMigrateFlags.
    :ivar shut_off: the guest is off, and its definition is to be moved.
    """

    peer_uri: str | None = None
    migrate_uri: str | None = None
    downtime_ms: int | None = None
    max_downtime_ms: int = downtime.CEILING_MS
    strict_downtime: bool = False
    stall_timeout_s: float | None = downtime.STALL_TIMEOUT_S
    bandwidth: int | None = None
    timeout_s: float | None = None
    targets: Mapping[str, str] = field(default_factory=dict)
    way: transport.Way = field(default_factory=transport.Way)
    live_xml: str | None = field(default=None, repr=False)
    persistent_xml: str | None = field(default=None, repr=False)
    flags: int = 0
    shut_off: bool = False

    def flags_for(self, guest: model.Guest) -> int:
        """Return the flags to migrate a guest with."""
        flags = self.flags | self.way.flags
        if guest.persistent:
            flags |= transport.PERSIST_DEST | transport.UNDEFINE_SOURCE
        return flags | transport.LIVE | transport.PEER2PEER

    @property
    def downtime_bounds(self) -> downtime.Bounds:
        """Return the bounds of the downtime limit."""
        return downtime.Bounds(
            self.downtime_ms, self.max_downtime_ms, self.stall_timeout_s
        )

    def check(self) -> None:
        """Refuse values out of bounds.

        :raises OptionInvalid: if one is.
        """
        self.downtime_bounds.check()
        self.way.check()
        transport.check_flags(self.flags)
        known = self.way.switchover_bandwidth or self.bandwidth
        if self.strict_downtime and known is None:
            raise exception.OptionInvalid(
                "bandwidth", "none", "one to estimate the downtime with"
            )
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

    def downtime(self, advice: downtime.Advice) -> None:
        """Hear what is done about the limits, or that they do not do."""
        ...


class Silent:
    """An observer that does not listen."""

    def step(self, step: Step, detail: str) -> None:
        """Hear that a step begins."""

    def warn(self, text: str) -> None:
        """Hear what a human should know."""

    def progress(self, progress: model.JobProgress, elapsed_s: float) -> None:
        """Hear how far the migration job is."""

    def downtime(self, advice: downtime.Advice) -> None:
        """Hear what is done about the limits, or that they do not do."""


#: A check that passed, and of which a human is told all the same.
_OTHERS = "other-claims"


@dataclass(frozen=True, slots=True)
class Report:
    """What the pre-checks found.

    :ivar wanted: what each mdev of the guest asks of its target; empty if
        the guest has none or if they could not be read.
    :ivar plan: None if it was refused.
    :ivar estimate: how long its devices may take; None if its mdevs could
        not be read.
    :ivar form: of the claims for this guest.
    :ivar made: mdevs of the source that were made for this guest.
    :ivar earlier: there are claims for this guest already.
    :ivar source: name of the host that it leaves.
    :ivar source_uuid: libvirt's UUID of that host.
    :ivar kept: UUIDs of mdevs that only its inactive XML names, and that the
        source does not list: they are left as they are.
    :ivar notes: what is no reason to refuse it, and should be known.
    :ivar there: what the destination was seen to have.
    """

    guest: model.Guest
    checks: tuple[precheck.Check, ...]
    wanted: tuple[model.WantedMdev, ...] = ()
    plan: allocation.AllocationPlan | None = None
    estimate: estimate.Estimate | None = None
    form: claim_xml.Form = claim_xml.PLAIN
    made: tuple[model.Mdev, ...] = ()
    earlier: bool = False
    source: str = ""
    source_uuid: str = ""
    kept: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    there: model.Inventory | None = None

    @property
    def allowed(self) -> bool:
        """Tell whether nothing was refused."""
        return all(check.result != "refused" for check in self.checks)

    def warnings(self) -> Iterator[str]:
        """Yield what a human should know who migrates the guest."""
        for check in self.checks:
            # Of a remote host the kernel is never known: no news.
            if check.name == _OTHERS or (
                check.result == "unknown"
                and not isinstance(check.error, exception.KernelUnknown)
            ):
                yield check.detail
        yield from self.notes

    @property
    def kernels_unknown(self) -> tuple[str, ...]:
        """Return the hosts whose kernel libvirt does not tell."""
        errors = (check.error for check in self.checks)
        return tuple(
            error.host
            for error in errors
            if isinstance(error, exception.KernelUnknown)
        )

    @property
    def target_mdevs(self) -> dict[str, str]:
        """Return the planned target mdev of each source mdev."""
        if self.plan is None:
            return {}
        return pairing.pair_mdevs(self.wanted, self.plan.mdevs)

    @staticmethod
    def rewritten(
        domain_xml: str,
        targets: Mapping[str, str],
        created: Iterable[model.Mdev],
    ) -> str:
        """Return a document of the guest as the destination gets it.

        :param targets: target mdev UUID by source mdev UUID.
        :param created: the target mdevs that are made for this guest.
        :raises PreCheckError: if it cannot be rewritten.
        """
        noted = [mdev.uuid for mdev in created if not mdev.persistent]
        return made.note(guest_xml.replace_mdevs(domain_xml, targets), noted)

    def live_mdevs(self, targets: Mapping[str, str]) -> dict[str, str]:
        """Return what takes the place of each mdev in the live XML."""
        return {
            want.source_uuid: targets[want.source_uuid]
            for want in self.wanted
            if want.live
        }

    def inactive_mdevs(self, targets: Mapping[str, str]) -> dict[str, str]:
        """Return what takes the place of each mdev in the inactive XML."""
        taken = {
            want.source_uuid: targets[want.source_uuid]
            for want in self.wanted
            if want.inactive
        }
        return taken | {uuid: uuid for uuid in self.kept}


@dataclass(slots=True)
class Outcome:
    """How a migration ended.

    :ivar target_mdevs: target mdev UUID by source mdev UUID; of a failed
        migration, what was tried.
    :ivar mdev_types: type of each of these mdevs, by its UUID.
    :ivar downtime_ms: as libvirt measured it; None if it did not say.
    :ivar bytes_moved: of RAM, disks and devices, likewise.
    :ivar last_seen: the last look at the job; None if there was none.
    :ivar step: the step that failed.
    :ivar timings: seconds spent in each step that began.
    :ivar kernels_unknown: hosts whose kernel libvirt does not tell.
    """

    guest: str
    instance_uuid: str | None = None
    result: Literal["migrated", "refused", "failed"] = "failed"
    target_mdevs: dict[str, str] = field(default_factory=dict)
    mdev_types: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    downtime_ms: int | None = None
    bytes_moved: int | None = None
    last_seen: model.JobProgress | None = None
    error: exception.MdevMigrateError | None = None
    step: Step | None = None
    warnings: list[str] = field(default_factory=list)
    timings: dict[Step, float] = field(default_factory=dict)
    kernels_unknown: tuple[str, ...] = ()
