# SPDX-License-Identifier: Apache-2.0
"""The options of a compute service, group ``[mdev_migrate]``.

They are read when the service starts, which it does not with one that
cannot be used, and again before each migration. Nothing reads them while a
migration is under way: what fails there hurts a guest that runs well.
"""

from __future__ import annotations

import math
import os
import weakref
from dataclasses import dataclass
from typing import Any

from oslo_config import cfg, types
from oslo_log import log

from mdev_migrate import exception, metrics
from mdev_migrate.core import transport
from mdev_migrate.limits import Limits

LOG = log.getLogger(__name__)


class _Unusable(ValueError):
    """What was found in place of what is needed."""

    def __init__(self, found: Any, needed: str) -> None:
        super().__init__(f"{found!r} found, {needed} needed")
        self.found = repr(found)
        self.needed = needed


class _Milliseconds(types.Integer):
    """A downtime limit that QEMU takes, or 0."""

    def __init__(self) -> None:
        super().__init__(min=0, max=transport.MAX_DOWNTIME_MS)

    def __call__(self, value: Any) -> int:
        needed = f"0 to {transport.MAX_DOWNTIME_MS} milliseconds"
        try:
            found = super().__call__(value)
        except ValueError as error:
            raise _Unusable(value, needed) from error
        if found is None:
            raise _Unusable(value, needed)
        return int(found)


class _Seconds(types.Float):
    """A time that one can wait for; types.Float takes nan, too."""

    def __init__(self) -> None:
        super().__init__(min=0.0)

    def __call__(self, value: Any) -> float:
        needed = "0 or more seconds"
        try:
            found = super().__call__(value)
        except ValueError as error:
            raise _Unusable(value, needed) from error
        if found is None or not math.isfinite(found):
            raise _Unusable(value, needed)
        return float(found)


class _File(types.String):
    """An absolute path, or nothing."""

    def __call__(self, value: Any) -> str:
        found = str(super().__call__(value))
        if found and not os.path.isabs(found):
            raise _Unusable(value, "an absolute path, or nothing")
        if found and not metrics.can_be_written():
            raise _Unusable(value, "the Python library prometheus_client")
        return found


def _flow(text: str) -> str:
    """Return a help text in one line: what shows it wraps it."""
    return " ".join(text.split())


GROUP = cfg.OptGroup(
    "mdev_migrate",
    title="Live migration of guests with mediated devices",
)

OPTIONS = [
    cfg.Opt(
        "max_downtime",
        type=_Milliseconds(),
        default=10_000,
        mutable=True,
        help=_flow("""\
How long a guest with mdevs may stand still at most while it switches over to
the destination, in milliseconds. The state of its devices is sent in that
time, so a vGPU with some GiB of frame buffer needs far more than a guest
without: divide the frame buffer by the bandwidth of the migration network.
The limit is reached in the steps of ``[libvirt]live_migration_downtime_steps``
and ``live_migration_downtime_delay``, so that a guest that needs less stops
for less. Applies to guests with mdevs alone; 0 gives them the limit of all
others, ``[libvirt]live_migration_downtime``.
"""),
    ),
    cfg.Opt(
        "metrics_file",
        type=_File(),
        default="",
        mutable=True,
        help=_flow("""\
Where to write metrics of the live migrations of guests with mdevs that leave
or reach this compute, for the textfile collector of Prometheus' node_exporter:
an absolute path whose name ends with ``.prom``. Needs the Python library
prometheus_client. Empty writes none.
"""),
    ),
    cfg.Opt(
        "listed_timeout",
        type=_Seconds(),
        default=10.0,
        help=_flow("""\
How long to wait, in seconds, for a created mdev to be listed by libvirt.
"""),
    ),
    cfg.Opt(
        "busy_timeout",
        type=_Seconds(),
        default=60.0,
        help=_flow("""\
How long a rollback tries, in seconds, to remove a target mdev that is busy.
One that stays busy is not given to any guest.
"""),
    ),
]


def register(configuration: Any) -> None:
    """Register the options on a ConfigOpts."""
    configuration.register_group(GROUP)
    configuration.register_opts(OPTIONS, GROUP)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """Return the options for oslo-config-generator."""
    return [(GROUP, OPTIONS)]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the options say.

    :ivar max_downtime_ms: 0 if it is that of all other guests.
    :ivar others_downtime_ms: that of all other guests, which is Nova's; None
        if Nova cannot use it either.
    :ivar metrics_file: empty for none.
    """

    max_downtime_ms: int
    others_downtime_ms: int | None
    metrics_file: str
    limits: Limits

    @property
    def downtime_factor(self) -> float:
        """How many times longer than others a guest with mdevs may stop."""
        if not self.max_downtime_ms or not self.others_downtime_ms:
            return 1.0
        return self.max_downtime_ms / self.others_downtime_ms


def _value(group: Any, name: str) -> Any:
    """Return an option of ours.

    :raises OptionInvalid: if it cannot be used.
    """
    try:
        return getattr(group, name)
    except (cfg.Error, ValueError) as error:
        why = error.__context__
        unusable = (
            why
            if isinstance(why, _Unusable)
            else _Unusable(str(error), "something that can be used")
        )
        raise exception.OptionInvalid(
            f"[{GROUP.name}]{name}", unusable.found, unusable.needed
        ) from error


def read(configuration: Any) -> Settings:
    """Read the options.

    :raises OptionInvalid: if one of ours cannot be used.
    """
    ours = configuration.mdev_migrate
    try:
        others = int(configuration.libvirt.live_migration_downtime)
    except (cfg.Error, ValueError):
        others = None
    return Settings(
        max_downtime_ms=_value(ours, "max_downtime"),
        others_downtime_ms=others,
        metrics_file=_value(ours, "metrics_file"),
        limits=Limits(
            listed_s=_value(ours, "listed_timeout"),
            busy_s=_value(ours, "busy_timeout"),
        ),
    )


class Options:
    """The options as they were when all of them could last be used.

    :raises OptionInvalid: if one cannot be used from the beginning.
    :ivar now: what they say; no look at them can fail.
    """

    def __init__(self, configuration: Any) -> None:
        self._configuration = configuration
        self._complaint = ""
        self.now = read(configuration)
        options = weakref.ref(self)

        def mutated(*_: Any) -> None:
            this = options()
            if this is not None:
                this.refresh()

        configuration.register_mutate_hook(mutated)

    def refresh(self) -> None:
        """Read them anew; say of one that cannot be used, and go on."""
        complaint = ""
        try:
            self.now = read(self._configuration)
        except exception.OptionInvalid as error:
            complaint = str(error)
        if complaint and complaint != self._complaint:
            LOG.error(
                "Options of [mdev_migrate] are left as they were: "
                "%(complaint)s",
                {"complaint": complaint},
            )
        self._complaint = complaint

    def check(self) -> None:
        """Read them anew before a migration begins.

        :raises OptionInvalid: if it would fail while it is under way.
        """
        self.refresh()
        if self.now.others_downtime_ms is None:
            raise exception.OptionInvalid(
                "[libvirt]live_migration_downtime",
                "nothing that Nova can use",
                "a number of milliseconds",
            )
