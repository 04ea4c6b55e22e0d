# SPDX-License-Identifier: Apache-2.0
"""Which guests a shell offers to complete a name with.

A shell waits for the answer with a line half typed. So the host is asked by
a connection that may only read, nobody is asked for a password, nothing is
written to the terminal, and what takes too long has no answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from urllib.parse import urlsplit

import click

from mdev_migrate import exception
from mdev_migrate.cli import options
from mdev_migrate.cli.session import Environment

#: Seconds that somebody waits for a completion without wondering.
_PATIENCE_S = 3.0


def guests(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Return the running guests of the source whose names begin so."""
    environment = context.find_object(Environment) or Environment()
    uri = _without_password(options.settings_of(context).source_uri)
    names = _soon(lambda: environment.guest_names(uri))
    return sorted(name for name in names if name.startswith(incomplete))


def _without_password(uri: str) -> str:
    """Return a URI over which ssh does not ask for a password."""
    parts = urlsplit(uri)
    if "ssh" not in parts.scheme or "no_tty=" in parts.query:
        return uri
    query = "&".join(filter(None, (parts.query, "no_tty=1")))
    return parts._replace(query=query).geturl()


def _soon(ask: Callable[[], list[str]]) -> list[str]:
    """Return an answer if it comes soon, else none."""
    answer: list[str] = []

    def run() -> None:
        try:
            answer.extend(ask())
        except exception.MdevMigrateError:
            return

    thread = threading.Thread(target=run, name="completion", daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    return list(answer)
