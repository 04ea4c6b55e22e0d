# SPDX-License-Identifier: Apache-2.0
"""Where words go: answers to stdout, all else to stderr.

Nothing here raises if nobody listens any more: a closed pipe or a hung-up
terminal must not come between a guest and its migration.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click
from rich import console


class Console(console.Console):
    """A rich console that does not exit when its pipe is closed."""

    def on_broken_pipe(self) -> None:
        """Fall silent."""
        self.quiet = True


def one_line(text: str) -> str:
    """Return a text as one line that cannot move a terminal's cursor.

    >>> one_line("unable to execute\\n  'migrate'\\x1b[2J")
    "unable to execute 'migrate'?[2J"
    """
    return "".join(
        letter if letter.isprintable() else "?"
        for letter in " ".join(text.split())
    )


def say(text: str) -> None:
    """Tell people something on stderr."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(text, err=True)


def complain(message: str, hint: str, code: str) -> None:
    """Tell people on stderr about an error."""
    say(f"error: {one_line(message)}")
    if hint:
        say(f"hint: {one_line(hint)}")
    say(f"code: {code}")


def answer(write: Callable[[], None]) -> None:
    """Write an answer to stdout, and complain if it cannot be written.

    The exit code stays what it was: it tells about the hosts.
    """
    try:
        write()
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        if error.errno != errno.EPIPE:
            reason = os.strerror(error.errno) if error.errno else f"{error}"
            say(f"error: cannot write the answer: {reason}")


def print_json(value: Mapping[str, Any]) -> None:
    """Answer a program with one JSON object."""
    answer(lambda: click.echo(json.dumps(value, indent=2)))
