# SPDX-License-Identifier: Apache-2.0
"""Where words go: answers to stdout, all else to stderr.

Nothing here raises if nobody listens any more: a closed pipe or a hung-up
terminal must not come between a guest and its migration. Where the answer is
all that there is, the exit code says that it was lost.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

import click

#: Exit codes of a command whose answer is all that there is: it cannot be
#: written; its reader has closed the pipe, which is told as a shell tells it
#: of a program that SIGPIPE ended (128 + 13).
UNWRITTEN, UNREAD = 1, 141
#: What is said of stdout when an answer does not fit there any more, or when
#: there is none.
_LOST = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EBADF, errno.EPIPE),
)
_BREAKS = re.compile(r"\s*[\t\r\n\v\f\x85\u2028\u2029]\s*")


def one_line(text: str) -> str:
    """Return a text as one line that cannot move a terminal's cursor.

    >>> one_line("unable to execute\\n  'migrate'\\x1b[2J")
    "unable to execute 'migrate'?[2J"
    """
    return "".join(
        letter if letter.isprintable() else "?"
        for letter in _BREAKS.sub(" ", text).strip()
    )


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes.

    >>> columns("web"), columns("\N{CJK RADICAL MOON}")
    (3, 2)
    """
    return sum(map(_columns, text))


def _columns(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Return a text, or the beginning of one that is too wide.

    >>> cut("web", 3), cut("web-1", 4)
    ('web', 'web\N{HORIZONTAL ELLIPSIS}')
    """
    if columns(text) <= width:
        return text
    ends = itertools.accumulate(map(_columns, text))
    shown = sum(end < width for end in ends)
    return f"{text[:shown]}\N{HORIZONTAL ELLIPSIS}"


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


def is_terminal() -> bool:
    """Tell whether answers are written to a terminal."""
    return sys.stdout.isatty()


class Closed(io.TextIOBase):
    """The stdout of a process that was started without: it takes nothing."""

    def write(self, text: str, /) -> int:
        """Say that nothing can be written."""
        del text
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def write(text: str, colour: str = "") -> None:
    """Write a line of an answer as it is, coloured on a terminal.

    :raises OSError: if it cannot be written, see :func:`answer`.
    """
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    styled = click.style(text, fg=colour) if colour else text
    click.echo(styled, color=False if plain else None)


def line(text: str, colour: str = "") -> None:
    """Write one line of an answer, whatever the text has in it.

    :raises OSError: as :func:`write`.
    """
    write(one_line(text), colour)


def answer(write: Callable[[], None]) -> int:
    """Write an answer to stdout, and complain if it cannot be written.

    :returns: the exit code if there is no more to it than the answer.
    """
    try:
        write()
        sys.stdout.flush()
    except OSError as error:
        return lost(error)
    return 0


def is_lost(error: OSError) -> bool:
    """Tell whether an error says that an answer could not be written."""
    return error.errno in _LOST


def lost(error: OSError) -> int:
    """Tell people why an answer could not be written, if they do not know.

    :returns: as :func:`answer`.
    """
    if error.errno == errno.EPIPE:
        return UNREAD
    reason = os.strerror(error.errno) if error.errno else f"{error}"
    say(f"error: cannot write the answer: {reason}")
    return UNWRITTEN


def print_json(value: Mapping[str, Any], *, indent: int | None = 2) -> int:
    """Answer a program with one JSON object.

    :param indent: None for one line.
    :returns: as :func:`answer`.
    """
    return answer(lambda: click.echo(json.dumps(value, indent=indent)))
