# SPDX-License-Identifier: Apache-2.0
"""The options of a migration, and what they are worth."""

from __future__ import annotations

import functools
import math
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

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
    )


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


class _Document(_TextType):
    """A file with a guest's XML."""

    name = "file"

    def convert(
        self,
        value: str,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """Return what stands in the file."""
        try:
            return pathlib.Path(value).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            self.fail(f"{error}", param, ctx)


class _Parameter(_TextType):
    """A parameter of virDomainMigrateToURI3, with its value."""

    name = "parameter"

    def convert(
        self,
        value: str,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """Return it if it has a name and a value."""
        name, sign, content = value.partition("=")
        if not (name.strip() and sign and content.strip()):
            self.fail(f"{value!r} is not NAME=VALUE", param, ctx)
        return value


def way(command: Decorated) -> Decorated:
    """Say by which way a guest is sent."""
    return decorate(
        command,
        click.option(
            "--parallel",
            metavar="N",
            type=click.IntRange(1, 255),
            help="Send over so many connections; from QEMU 10.0 on device "
            "state too, for newer machine types than 9.2.",
        ),
        click.option(
            "--tls-destination",
            metavar="NAME",
            type=WORD,
            help="The name in the destination's certificate; with --tls.",
        ),
        click.option(
            "--listen-address",
            metavar="ADDRESS",
            type=WORD,
            help="Where the destination's QEMU listens. Default: everywhere.",
        ),
        click.option(
            "--copy-storage-all",
            is_flag=True,
            help="Copy disks that the hosts do not share; there must be files "
            "of their size on the destination.",
        ),
        click.option(
            "--copy-storage-inc",
            is_flag=True,
            help="Copy of such disks what differs from their backing files.",
        ),
        click.option(
            "--migrate-disks",
            metavar="TARGET,...",
            type=WORD,
            help="The disks to copy, as in vda,vdb. Default: all that can be.",
        ),
        click.option(
            "--disks-port",
            metavar="PORT",
            type=click.IntRange(1, 65535),
            help="Where the destination takes disks. Default: libvirt "
            "chooses.",
        ),
        click.option(
            "--param",
            "parameters",
            metavar="NAME=VALUE",
            type=_Parameter(),
            multiple=True,
            help="One more parameter of virDomainMigrateToURI3, as in "
            "compression=zstd; again for each.",
        ),
    )


def documents(command: Decorated) -> Decorated:
    """Say what a guest is to be on the destination."""
    return decorate(
        command,
        click.option(
            "--xml",
            "live_xml",
            metavar="FILE",
            type=_Document(),
            help="What the guest is on the destination, in place of what it "
            "is here: other bridges, paths, pinning. Its mdevs are rewritten.",
        ),
        click.option(
            "--persistent-xml",
            metavar="FILE",
            type=_Document(),
            help="What its definition there becomes, likewise.",
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
        click.option(
            "--switchover-bandwidth",
            metavar="MIB_S",
            type=click.IntRange(1, _MAX_BANDWIDTH),
            help="What there is for the last part, in MiB/s: QEMU reckons "
            "with it in place of what it measured (libvirt 11.1, QEMU 8.2).",
        ),
    )


def addresses(command: Decorated) -> Decorated:
    """Say where the destination is for others than this machine."""
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
            help="Abort a migration that takes longer, in seconds. "
            "Default: no limit.",
        ),
    )


def read(values: dict[str, Any]) -> Options:
    """Return the migration's options from click's parameters.

    :raises click.UsageError: if two of them exclude each other.
    """
    chosen = (flag for name, (flag, _) in _FLAGS.items() if values.pop(name))
    return Options(flags=sum(chosen), way=_read_way(values), **values)


def _read_way(values: dict[str, Any]) -> transport.Way:
    """Take out of click's parameters what says how to send."""
    everything = values.pop("copy_storage_all", False)
    increments = values.pop("copy_storage_inc", False)
    if everything and increments:
        raise click.UsageError(
            "--copy-storage-all and --copy-storage-inc exclude each other"
        )
    disks = values.pop("migrate_disks", None) or ""
    given = {
        name: values.pop(name, None)
        for name in (
            "parallel",
            "tls_destination",
            "listen_address",
            "switchover_bandwidth",
            "disks_port",
        )
    }
    storage: Literal["all", "inc"] | None = "inc" if increments else None
    return transport.Way(
        copy_storage="all" if everything else storage,
        migrate_disks=tuple(filter(None, disks.split(","))),
        parameters=transport.read_parameters(values.pop("parameters", ())),
        **given,
    )
