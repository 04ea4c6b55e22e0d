# SPDX-License-Identifier: Apache-2.0
"""The option that lets a command write metrics of its migrations.

The file is about the migrations of one command, and is replaced whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import click

from mdev_migrate import metrics
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

    :raises click.UsageError: if their library is not installed, or they
        cannot be written there.
    """
    if value is not None and not metrics.can_be_written():
        raise click.UsageError(
            "--metrics-file needs prometheus_client: install "
            "'mdev-migrate[metrics]'",
            context,
        )
    if value is not None:
        try:
            metrics.check_replaceable(value)
        except OSError as error:
            raise click.UsageError(f"--metrics-file: {error}") from error
    return value


option = click.option(
    "--metrics-file",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    callback=_require,
    help="Write how it ended as Prometheus reads it, as in "
    "/var/lib/node_exporter/mdev_migrate.prom.",
)


def write(path: str, finished: Iterable[Finished]) -> None:
    """Write what became of some migrations; complain if it cannot be."""
    try:
        metrics.write(path, map(_ended, finished))
    except OSError as error:
        output.say(f"warning: no metrics: {error}")


def _ended(finished: Finished) -> metrics.Ended:
    outcome, types = finished
    last, downtime_ms = outcome.last_seen, outcome.downtime_ms
    return metrics.Ended(
        guest=outcome.guest,
        instance_uuid=outcome.instance_uuid or "",
        mdev_types=types,
        at=time.time(),
        result=outcome.result,
        code=outcome.error.code if outcome.error else "",
        seconds=outcome.seconds,
        steps={step.value: took for step, took in outcome.timings.items()},
        downtime_s=None if downtime_ms is None else downtime_ms / 1000,
        sent_bytes=outcome.bytes_moved,
        device_bytes=last.device_transferred if last else None,
    )
