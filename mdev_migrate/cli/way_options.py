# SPDX-License-Identifier: Apache-2.0
"""By which way a guest is sent, and what it is to be: the options."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from mdev_migrate import model
from mdev_migrate.cli.options import WORD, decorate
from mdev_migrate.core import transport

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

if TYPE_CHECKING:
    _TextType = click.ParamType[str]
else:
    _TextType = click.ParamType


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


class _Pair(_TextType):
    """A name with its value."""

    name = "pair"

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
            type=_Pair(),
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
            "--target",
            "targets",
            metavar="SOURCE=TARGET",
            type=_Pair(),
            multiple=True,
            help="The target of a source mdev, by its UUID: an mdev's UUID, "
            "or the parent to create one on; again for each. Default: what "
            "exists, else what has room.",
        ),
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


def read_targets(given: Iterable[str]) -> dict[str, str]:
    """Return what was chosen, by source mdev UUID."""
    targets: dict[str, str] = {}
    for each in given:
        name, _, target = each.partition("=")
        with contextlib.suppress(ValueError):
            target = model.read_uuid(target)
        try:
            source = model.read_uuid(name)
        except ValueError as error:
            raise click.UsageError(f"--target {each}: {error}") from error
        if source in targets:
            raise click.UsageError(f"--target: {source} has two")
        targets[source] = target
    return targets


def read_way(values: dict[str, Any]) -> transport.Way:
    """Take out of click's parameters what says how to send."""
    everything = values.pop("copy_storage_all", False)
    increments = values.pop("copy_storage_inc", False)
    if everything and increments:
        raise click.UsageError(
            "--copy-storage-all and --copy-storage-inc exclude each other"
        )
    listed = values.pop("migrate_disks", None) or ""
    disks = tuple(filter(None, listed.split(",")))
    if listed and not disks:
        raise click.UsageError("--migrate-disks: names no disk")
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
        migrate_disks=disks,
        parameters=transport.read_parameters(values.pop("parameters", ())),
        **given,
    )
