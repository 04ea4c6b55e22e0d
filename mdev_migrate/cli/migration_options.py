# SPDX-License-Identifier: Apache-2.0
"""The options of a migration, and what they are worth."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mdev_migrate.cli import completion, way_options
from mdev_migrate.cli.options import WORD, decorate
from mdev_migrate.core import downtime, transport
from mdev_migrate.workflow import Options

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_FLAGS = {
    "unsafe": (transport.UNSAFE, "Migrate even if libvirt holds it unsafe."),
    "tls": (transport.TLS, "Encrypt what QEMU sends, with TLS."),
}


#: What only guests without a VFIO device could use.
_CLOSED = {
    "postcopy": transport.POSTCOPY,
    "auto-converge": transport.AUTO_CONVERGE,
    "tunnelled": transport.TUNNELLED,
}


if TYPE_CHECKING:
    _NumberType = click.ParamType[float | None]
    _TextType = click.ParamType[str]
else:
    _NumberType = _TextType = click.ParamType


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
    """Name a guest and its destination."""
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
    )


def journeys(command: Decorated) -> Decorated:
    """Name a guest and hosts that it may go to."""
    return decorate(
        command,
        click.argument("guest", type=WORD, shell_complete=completion.guests),
        click.option(
            "--to",
            "destinations",
            metavar="URI",
            type=WORD,
            required=True,
            multiple=True,
            help="The destination, as this machine reaches it; again for "
            "each, to learn which could take the guest.",
        ),
        click.option(
            "--peer-uri",
            "peer_uris",
            metavar="URI",
            type=WORD,
            multiple=True,
            help="The same host's libvirt, as the source's libvirt reaches "
            "it; as often as --to, in the same order. Default: the URIs of "
            "--to.",
        ),
    )


def one_each(
    uris: Sequence[str], given: Sequence[str], option: str
) -> Sequence[str | None]:
    """Return what was given for each URI of ``--to``.

    :raises click.UsageError: if it was not given as often.
    """
    if given and len(given) != len(uris):
        raise click.UsageError(f"{option}: as often as --to")
    return given or [None] * len(uris)


def flags(command: Decorated) -> Decorated:
    """Say how libvirt is to migrate."""
    return decorate(
        command,
        *(
            click.option(f"--{name}", is_flag=True, help=text)
            for name, (_, text) in _FLAGS.items()
        ),
        *(
            click.option(
                f"--{name}",
                is_flag=True,
                hidden=True,
                help="Not for guests with mdevs: says why.",
                expose_value=False,
                callback=functools.partial(_refuse, flag),
            )
            for name, flag in _CLOSED.items()
        ),
    )


def _refuse(
    flag: int, context: click.Context, parameter: click.Parameter, value: bool
) -> None:
    """Say why an option of virsh's is none of ours."""
    if value:
        text = f"{parameter.opts[0]}: there is {transport.WHY_CLOSED[flag]}"
        raise click.UsageError(text, context)


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
            type=click.IntRange(1, transport.MAX_BANDWIDTH),
            help="The most to send, in MiB/s. Default: no limit.",
        ),
        click.option(
            "--switchover-bandwidth",
            metavar="MIB_S",
            type=click.IntRange(1, transport.MAX_BANDWIDTH),
            help="What there is for the last part, in MiB/s: QEMU reckons "
            "with it in place of what it measured (libvirt 11.1, QEMU 8.2).",
        ),
    )


def peer(command: Decorated) -> Decorated:
    """Say where the destination is for the source's libvirt."""
    return decorate(
        command,
        click.option(
            "--peer-uri",
            metavar="URI",
            type=WORD,
            help="The destination's libvirt, as the source's libvirt reaches "
            "it. Default: the URI of --to.",
        ),
    )


def addresses(command: Decorated) -> Decorated:
    """Say where the destination is for others than this machine."""
    return decorate(
        command,
        peer,
        click.option(
            "--migrate-uri",
            metavar="URI",
            type=WORD,
            help="Where QEMU sends the guest's memory, as in "
            "tcp://192.0.2.7. Default: libvirt chooses.",
        ),
    )


def limits(command: Decorated) -> Decorated:
    """Say within which limits a guest is migrated."""
    return decorate(
        command,
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
            help="Abort a migration that takes longer, in seconds, "
            "connecting included. Default: no limit.",
        ),
    )


def read(values: dict[str, Any]) -> Options:
    """Return the migration's options from click's parameters.

    :raises click.UsageError: if two of them exclude each other.
    """
    chosen = (flag for name, (flag, _) in _FLAGS.items() if values.pop(name))
    return Options(
        flags=sum(chosen),
        way=way_options.read_way(values),
        targets=way_options.read_targets(values.pop("targets", ())),
        **values,
    )
