# SPDX-License-Identifier: Apache-2.0
"""Migrations as Prometheus reads them, for node_exporter's textfiles."""

from __future__ import annotations

import errno
import importlib.util
import os
import pathlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A migration that has ended, as far as its host knows of it.

    :ivar guest: its name.
    :ivar mdev_types: the types of its mdevs.
    :ivar at: when it ended, in seconds since the epoch.
    :ivar result: how it ended, in one word; None if another host knows.
    :ivar code: the error's code; empty without one.
    :ivar seconds: what the whole migration took.
    :ivar steps: what each step took, in seconds.
    :ivar sent_bytes: memory and disks.
    """

    guest: str
    instance_uuid: str
    mdev_types: tuple[str, ...]
    at: float
    result: str | None = None
    code: str = ""
    seconds: float | None = None
    steps: Mapping[str, float] = field(default_factory=dict)
    downtime_s: float | None = None
    sent_bytes: int | None = None
    device_bytes: int | None = None


def can_be_written() -> bool:
    """Tell whether the library for that is installed, which is an extra."""
    return importlib.util.find_spec("prometheus_client") is not None


def check_replaceable(path: str) -> pathlib.Path:
    """Return where a file of metrics is, without links.

    It is written beside and put in its place at once: a device or a pipe
    would be gone.

    :raises OSError: if something else than a file is there, or it cannot be
        made there.
    """
    real = pathlib.Path(path).resolve()
    if real.exists() and not real.is_file():
        raise OSError(errno.EINVAL, "not a file that can be replaced", path)
    if not real.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, "no such folder", str(real.parent)
        )
    if not os.access(real.parent, os.W_OK | os.X_OK):
        raise PermissionError(
            errno.EACCES, "nothing can be made in", str(real.parent)
        )
    return real


def write(path: str, migrations: Iterable[Ended]) -> None:
    """Replace a file by what became of some migrations.

    :raises OSError: if it cannot be written.
    :raises ImportError: if the library is not installed.
    """
    real = check_replaceable(path)
    from prometheus_client import (  # noqa: PLC0415 - an extra
        CollectorRegistry,
        Gauge,
        write_to_textfile,
    )

    registry = CollectorRegistry()
    about = ("guest", "instance_uuid", "mdev_types")

    def gauge(name: str, text: str, *more: str) -> Gauge:
        return Gauge(
            f"mdev_migrate_{name}", text, (*about, *more), registry=registry
        )

    result = gauge("result", "1 for how the migration ended", "result", "code")
    at = gauge("ended_timestamp_seconds", "When the migration ended")
    seconds = gauge("seconds", "What the whole migration took")
    steps = gauge("step_seconds", "What each step took", "step")
    downtime = gauge("downtime_seconds", "How long the guest stood still")
    sent = gauge("sent_bytes", "Memory and disks sent")
    device = gauge("device_bytes", "Device state sent")
    for each in migrations:
        labels = {
            "guest": each.guest,
            "instance_uuid": each.instance_uuid,
            "mdev_types": ",".join(sorted(each.mdev_types)),
        }
        at.labels(**labels).set(each.at)
        if each.result is not None:
            how = {"result": each.result, "code": each.code}
            result.labels(**how, **labels).set(1)
        for step, took in each.steps.items():
            steps.labels(step=step, **labels).set(took)
        for known, value in (
            (seconds, each.seconds),
            (downtime, each.downtime_s),
            (sent, each.sent_bytes),
            (device, each.device_bytes),
        ):
            if value is not None:
                known.labels(**labels).set(value)
    write_to_textfile(str(real), registry)
