# SPDX-License-Identifier: Apache-2.0
"""The options that every command has, and what they are worth."""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

#: Where virsh looks for a URI, in its order, and libvirt after it.
URI_VARIABLES = ("VIRSH_DEFAULT_CONNECT_URI", "LIBVIRT_DEFAULT_URI")
DEFAULT_URI = "qemu:///system"
_SETTINGS = "mdev_migrate.cli.settings"


@dataclass(slots=True)
class Settings:
    """What the options say that every command has.

    :ivar uri: None if the user named none.
    """

    uri: str | None = None
    as_json: bool = False
    verbose: bool = False

    @property
    def source_uri(self) -> str:
        """Return where the source is, as virsh finds it."""
        named = (os.environ.get(variable) for variable in URI_VARIABLES)
        return self.uri or next(filter(None, named), DEFAULT_URI)


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
else:
    _TextType = click.ParamType


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


class NewFile(click.Path):
    """A file that can be written, or made where it is to be.

    Seen before anything else is done: later it would be too late.

    :param allow_dash: ``-`` is stdout.
    """

    def __init__(self, *, allow_dash: bool = False) -> None:
        super().__init__(dir_okay=False, writable=True, allow_dash=allow_dash)

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """Return its name."""
        path = pathlib.Path(os.fsdecode(super().convert(value, param, ctx)))
        folder = path.resolve().parent
        made = not path.exists() and not (self.allow_dash and value == "-")
        if made and not os.access(folder, os.W_OK | os.X_OK):
            self.fail(f"nothing can be made in {folder}", param, ctx)
        return value


WORD = _Word()


def decorate(command: Decorated, *options: Callable[..., Any]) -> Decorated:
    for option in reversed(options):
        command = option(command)
    return command


def shared(command: Decorated) -> Decorated:
    """Add the options that stand before or after a command's name."""
    option = functools.partial(
        click.option, expose_value=False, callback=_remember
    )
    return decorate(
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
            "--json",
            "as_json",
            is_flag=True,
            help="Answer with one JSON object, for programs.",
        ),
        option(
            "-v",
            "--verbose",
            is_flag=True,
            help="Tell more: what libvirt is asked, on stderr, and the "
            "seconds of each step.",
        ),
        click.option(
            "--state-dir",
            expose_value=False,
            hidden=True,
            help="Of earlier versions: claims are kept on the destination.",
        ),
    )
