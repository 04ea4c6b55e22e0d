# SPDX-License-Identifier: Apache-2.0
"""How the command ends: which exit code, which words, never a traceback."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import click

from mdev_migrate.cli import json_output, output, signals

DONE, FAILED, USAGE, UNREACHABLE = range(4)
_REPORT_IT = (
    "this is a bug of mdev-migrate: please report it with what the same "
    "command prints with --verbose"
)
#: libvirt-python is there: libvirtmod is the part of it that is compiled.
_NO_LIBRARY = (
    "libvirt-python cannot load libvirt's own library: install libvirt0 "
    "(Debian, Ubuntu) or libvirt-libs (Fedora, RHEL), not older than the "
    "one that libvirt-python was built with"
)
_REINSTALL = "what mdev-migrate needs is not all there: install it again"


class Application(click.Group):
    """A group of commands whose errors fit people and programs."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run the command and exit; see :meth:`click.Command.main`."""
        del standalone_mode, windows_expand_args
        args = list(sys.argv[1:] if args is None else args)
        _make_writable()
        with signals.ended_at_once():
            code = self._run(args, prog_name, complete_var, extra)
        _flush()
        sys.exit(code)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse the call; see :meth:`click.Command.make_context`."""
        with _reader_may_leave():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run what is called; see :meth:`click.Command.invoke`."""
        with _reader_may_leave():
            return super().invoke(ctx)

    def _run(
        self,
        args: list[str],
        prog_name: str | None,
        complete_var: str | None,
        extra: dict[str, Any],
    ) -> int:
        as_json = asked_for(args, "--json")
        try:
            code = super().main(
                args, prog_name, complete_var, standalone_mode=False, **extra
            )
        except click.ClickException as error:
            return _misused(error, as_json=as_json)
        except (click.Abort, KeyboardInterrupt):
            output.complain("interrupted", "", "interrupted")
            return FAILED
        except ImportError as error:
            return _incomplete(error, as_json=as_json)
        except Exception as error:  # noqa: BLE001 - the last place to do so
            return _broken(error, args, as_json=as_json)
        return code if isinstance(code, int) else DONE


@contextlib.contextmanager
def _reader_may_leave() -> Iterator[None]:
    """End with the code for an answer whose reader has closed the pipe.

    click would end with one that says that something has failed.
    """
    try:
        yield
    except BrokenPipeError as error:
        raise click.exceptions.Exit(output.lost(error)) from error


def asked_for(args: Sequence[str], *options: str) -> bool:
    """Tell whether an option is among the arguments.

    For calls that are so wrong that they cannot be parsed.
    """
    end = args.index("--") if "--" in args else len(args)
    return any(option in args[:end] for option in options)


def _misused(error: click.ClickException, *, as_json: bool) -> int:
    """Say what is wrong with the call."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "mdev-migrate"
    hint = f"'{path} --help' explains it"
    if as_json:
        output.print_json(json_output.usage(error.format_message(), hint))
    else:
        output.complain(error.format_message(), hint, "usage")
    return USAGE


def _incomplete(error: ImportError, *, as_json: bool) -> int:
    """Say that what a command needs is not installed as it should be."""
    text = f"this command cannot be loaded: {error}"
    hint = _NO_LIBRARY if error.name == "libvirtmod" else _REINSTALL
    if as_json:
        output.print_json(json_output.not_installed(text, hint))
    else:
        output.complain(text, hint, "not-installed")
    return USAGE


def _broken(error: Exception, args: Sequence[str], *, as_json: bool) -> int:
    """Say that the command has a bug, if it was not the disk that is full."""
    if isinstance(error, OSError) and output.is_lost(error):
        return output.lost(error)
    text = f"{type(error).__name__}: {error}"
    if asked_for(args, "-v", "--verbose"):
        output.say("".join(traceback.format_exception(error)).rstrip())
    if as_json:
        output.print_json(json_output.internal_error(text, _REPORT_IT))
    else:
        output.complain(text, _REPORT_IT, "internal-error")
    return FAILED


def _streams() -> Iterator[io.TextIOWrapper]:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            yield stream


def _make_writable() -> None:
    """Let no character be one that a terminal's encoding cannot show.

    Where there is no stdout, whatever is written there is lost, and is an
    error, as on a disk that is full.
    """
    if sys.stdout is None:
        sys.stdout = output.Closed()
    for stream in _streams():
        stream.reconfigure(errors="backslashreplace")


def _flush() -> None:
    """Write what is left; quietly give up on who does not listen.

    Python would complain at exit about what it still could not write.
    """
    for stream in _streams():
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
