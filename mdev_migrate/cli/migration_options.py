# SPDX-License-Identifier: Apache-2.0
"""The options of a migration, and what they are worth."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mdev_migrate.cli import completion
from mdev_migrate.cli.options import WORD, decorate
from mdev_migrate.core import downtime, transport
from mdev_migrate.workflow import Options

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

#: libvirt keeps a bandwidth as bytes in 64 bits with a sign.
_MAX_BANDWIDTH = (2**63 - 1) // 2**20

_FLAGS = {
    "unsafe": (transport.UNSAFE, "Migrate even if libvirt holds it unsafe."),
    "tls": (transport.TLS, "Encrypt what QEMU sends, with TLS."),
    "postcopy": (
        transport.POSTCOPY,
        "Allow post-copy. Dropped for a guest with mdevs.",
    ),
    "auto-converge": (
        transport.AUTO_CONVERGE,
        "Slow the guest down until it fits. Dropped for a guest with mdevs.",
    ),
    "tunnelled": (
        transport.TUNNELLED,
        "Send memory through libvirtd. Dropped for a guest with mdevs.",
    ),
}


if TYPE_CHECKING:
    _NumberType = click.ParamType[float | None]
else:
    _NumberType = click.ParamType


class _Seconds(_NumberType):
    """A time span of more than nothing.

    :param none: 0 means None: no limit.
    """

    name = "seconds"

    def __init__(self, *, none: bool = False) -> None:
        self._none = none

    def convert(
        self,
        value: str | float,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float | None:
        """Return the seconds if they are a number."""
        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)
        if self._none and seconds == 0:
            return None
        if not (math.isfinite(seconds) and seconds > 0):
            self.fail(f"{value} is not more than 0", param, ctx)
        return seconds


def journey(command: Decorated) -> Decorated:
    """Name a guest, its destination, and flags of the migration."""
    return decorate(
        command,
        click.argument("guest", type=WORD, shell_complete=completion.guests),
        click.option(
            "--to",
            metavar="URI",
            type=WORD,
            required=True,
            help="The destination, as this machine reaches it.",
        ),
        *(
            click.option(f"--{name}", is_flag=True, help=text)
            for name, (_, text) in _FLAGS.items()
        ),
    )


def budget(command: Decorated) -> Decorated:
    """Say how long a guest may stand still, and how fast it is sent."""
    return decorate(
        command,
        click.option(
            "--max-downtime",
            "max_downtime_ms",
            metavar="MS",
            type=click.IntRange(1, transport.MAX_DOWNTIME_MS),
            default=downtime.CEILING_MS,
            help="How long the guest may stand still at most, in "
            f"milliseconds. Default: {downtime.CEILING_MS} ms; a large "
            "device state over a slow network needs more.",
        ),
        click.option(
            "--strict-downtime",
            is_flag=True,
            help="Refuse a guest whose devices may need more than "
            "--max-downtime, as far as the names of their types tell their "
            "memory; needs --bandwidth.",
        ),
        click.option(
            "--bandwidth",
            metavar="MIB_S",
            type=click.IntRange(1, _MAX_BANDWIDTH),
            help="The most to send, in MiB/s. Default: no limit.",
        ),
    )


def limits(command: Decorated) -> Decorated:
    """Say by which way and within which limits a guest is migrated."""
    return decorate(
        command,
        click.option(
            "--peer-uri",
            metavar="URI",
            type=WORD,
            help="The destination's libvirt, as the source's libvirt reaches "
            "it. Default: the URI of --to.",
        ),
        click.option(
            "--migrate-uri",
            metavar="URI",
            type=WORD,
            help="Where QEMU sends the guest's memory, as in "
            "tcp://192.0.2.7. Default: libvirt chooses.",
        ),
        click.option(
            "--downtime",
            "downtime_ms",
            metavar="MS",
            type=click.IntRange(1, transport.MAX_DOWNTIME_MS),
            help="How long the guest may stand still at first, in "
            f"milliseconds. Default: {downtime.BEGIN_MS} ms. It is raised "
            "step by step if the migration would not end.",
        ),
        click.option(
            "--stall-timeout",
            "stall_timeout_s",
            metavar="S",
            type=_Seconds(none=True),
            default=downtime.STALL_TIMEOUT_S,
            help="Abort a migration that came no nearer to its end for so "
            f"long, in seconds. Default: {downtime.STALL_TIMEOUT_S:g}; 0: "
            "go on.",
        ),
        click.option(
            "--timeout",
            "timeout_s",
            metavar="S",
            type=_Seconds(),
            help="Abort a migration that takes longer, in seconds. "
            "Default: no limit.",
        ),
    )


def read(values: dict[str, Any]) -> Options:
    """Return the migration's options from click's parameters."""
    chosen = (
        flag
        for name, (flag, _) in _FLAGS.items()
        if values.pop(name.replace("-", "_"))
    )
    return Options(flags=sum(chosen), **values)
