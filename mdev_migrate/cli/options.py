# SPDX-License-Identifier: Apache-2.0
"""The options of the commands, and what they are worth."""

from __future__ import annotations

import functools
import math
import os
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mdev_migrate import ledger
from mdev_migrate.core import transport
from mdev_migrate.workflow import Options

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

#: Where virsh looks for a URI, in its order, and libvirt after it.
URI_VARIABLES = ("VIRSH_DEFAULT_CONNECT_URI", "LIBVIRT_DEFAULT_URI")
DEFAULT_URI = "qemu:///system"
#: libvirt keeps a bandwidth as bytes in 64 bits with a sign.
_MAX_BANDWIDTH = (2**63 - 1) // 2**20
#: Names the ledger's folder if no option does.
STATE_DIR_VARIABLE = "MDEV_MIGRATE_STATE_DIR"
_SETTINGS = "mdev_migrate.cli.settings"

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


@dataclass(slots=True)
class Settings:
    """What the options say that every command has.

    :ivar uri: None if the user named none.
    :ivar state_dir: likewise.
    """

    uri: str | None = None
    state_dir: str | None = None
    as_json: bool = False
    verbose: bool = False

    @property
    def source_uri(self) -> str:
        """Return where the source is, as virsh finds it."""
        named = (os.environ.get(variable) for variable in URI_VARIABLES)
        return self.uri or next(filter(None, named), DEFAULT_URI)

    @property
    def ledger_folder(self) -> pathlib.Path:
        """Return where claims are kept.

        :raises LedgerUnusable: if there is no such place.
        """
        named = self._named_folder
        return pathlib.Path(named) if named else ledger.default_folder()

    @property
    def keeps_to_itself(self) -> bool:
        """Tell whether claims are kept where others will not look.

        A folder that the user named is known to him.

        :raises LedgerUnusable: if there is no place for them.
        """
        return not self._named_folder and self.ledger_folder != ledger.SHARED

    @property
    def _named_folder(self) -> str | None:
        return self.state_dir or os.environ.get(STATE_DIR_VARIABLE)


def settings_of(context: click.Context) -> Settings:
    """Return the settings of this call; the last word of an option holds."""
    settings: Settings = context.meta.setdefault(_SETTINGS, Settings())
    return settings


def _remember(
    context: click.Context, parameter: click.Parameter, value: object
) -> None:
    if value:
        setattr(settings_of(context), str(parameter.name), value)


if TYPE_CHECKING:
    # click 8.5 made the class generic; 8.1 to 8.4 do not know [].
    _TextType = click.ParamType[str]
    _NumberType = click.ParamType[float]
else:
    _TextType = _NumberType = click.ParamType


class _Word(_TextType):
    """A text that libvirt can be given."""

    name = "text"

    def convert(
        self,
        value: str,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """Return the text if it is one."""
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail("is not UTF-8", param, ctx)
        if not value.strip():
            self.fail("is empty", param, ctx)
        return value


class _Seconds(_NumberType):
    """A time span of more than nothing."""

    name = "seconds"

    def convert(
        self,
        value: str | float,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Return the seconds if they are a number."""
        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)
        if not (math.isfinite(seconds) and seconds > 0):
            self.fail(f"{value} is not more than 0", param, ctx)
        return seconds


WORD = _Word()


def _decorate(command: Decorated, *options: Callable[..., Any]) -> Decorated:
    for option in reversed(options):
        command = option(command)
    return command


def shared(command: Decorated) -> Decorated:
    """Add the options that stand before or after a command's name."""
    option = functools.partial(
        click.option, expose_value=False, callback=_remember
    )
    return _decorate(
        command,
        option(
            "-c",
            "--connect",
            "uri",
            metavar="URI",
            type=WORD,
            help="The host that guests leave, as for virsh. Default: "
            f"{' or '.join(f'${name}' for name in URI_VARIABLES)} if set, "
            f"else {DEFAULT_URI}.",
        ),
        option(
            "--state-dir",
            metavar="DIR",
            type=WORD,
            help="The folder of the ledger, where the claims of all commands "
            f"are kept. Default: ${STATE_DIR_VARIABLE} if set, else "
            f"{ledger.SHARED}; for a user who may not make it, while there "
            "is none, a folder of his own.",
        ),
        option(
            "--json",
            "as_json",
            is_flag=True,
            help="Answer with one JSON object, for programs.",
        ),
        option(
            "-v",
            "--verbose",
            is_flag=True,
            help="Tell more on stderr: log messages, seconds of each step.",
        ),
    )


def journey(command: Decorated) -> Decorated:
    """Name a guest, its destination, and flags of the migration."""
    return _decorate(
        command,
        click.argument("guest", type=WORD),
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


def limits(command: Decorated) -> Decorated:
    """Say by which way and within which limits a guest is migrated."""
    return _decorate(
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
            "--max-downtime",
            "max_downtime_ms",
            metavar="MS",
            type=click.IntRange(1, transport.MAX_DOWNTIME_MS),
            help="How long the guest may stand still, in milliseconds. "
            "Default: 300 ms, QEMU's own; a large device state needs more.",
        ),
        click.option(
            "--bandwidth",
            metavar="MIB_S",
            type=click.IntRange(1, _MAX_BANDWIDTH),
            help="The most to send, in MiB/s. Default: no limit.",
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
