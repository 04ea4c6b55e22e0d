# SPDX-License-Identifier: Apache-2.0
"""Migrations as Prometheus reads them, for node_exporter's textfiles.

The file is about the migrations of one command, and is replaced whole.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import click

from mdev_migrate.cli import output

if TYPE_CHECKING:
    from mdev_migrate.workflow import Outcome


class Finished(NamedTuple):
    """A migration that has ended.

    :ivar types: the types of the guest's mdevs.
    """

    outcome: Outcome
    types: tuple[str, ...]


def _require(
    context: click.Context, _parameter: click.Parameter, value: str | None
) -> str | None:
    """See that metrics can be written, before anything is done.

    :raises click.UsageError: if their library is not installed.
    """
    if value is not None and not importlib.util.find_spec("prometheus_client"):
        raise click.UsageError(
            "--metrics-file needs prometheus_client: install "
            "'mdev-migrate[metrics]'",
            context,
        )
    return value


option = click.option(
    "--metrics-file",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True),
    callback=_require,
    help="Write how it ended as Prometheus reads it, as in "
    "/var/lib/node_exporter/mdev_migrate.prom.",
)


def write(path: str, finished: Iterable[Finished]) -> None:
    """Write what became of some migrations; complain if it cannot be."""
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

    ended = gauge("result", "1 for how the migration ended", "result", "code")
    when = gauge("ended_timestamp_seconds", "When the migration ended")
    took = gauge("seconds", "What the whole migration took")
    steps = gauge("step_seconds", "What each step took", "step")
    downtime = gauge("downtime_seconds", "How long the guest stood still")
    sent = gauge("sent_bytes", "Memory and disks sent")
    device = gauge("device_bytes", "Device state sent")
    for outcome, types in finished:
        labels = {
            "guest": outcome.guest,
            "instance_uuid": outcome.instance_uuid or "",
            "mdev_types": ",".join(sorted(types)),
        }
        code = outcome.error.code if outcome.error else ""
        ended.labels(result=outcome.result, code=code, **labels).set(1)
        when.labels(**labels).set_to_current_time()
        took.labels(**labels).set(outcome.seconds)
        for step, seconds in outcome.timings.items():
            steps.labels(step=step.value, **labels).set(seconds)
        if outcome.downtime_ms is not None:
            downtime.labels(**labels).set(outcome.downtime_ms / 1000)
        if outcome.bytes_moved is not None:
            sent.labels(**labels).set(outcome.bytes_moved)
        last = outcome.last_seen
        if last is not None and last.device_transferred is not None:
            device.labels(**labels).set(last.device_transferred)
    try:
        write_to_textfile(path, registry)
    except OSError as error:
        output.say(f"warning: no metrics: {error}")
