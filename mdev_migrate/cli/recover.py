# SPDX-License-Identifier: Apache-2.0
"""``recover``: settle what commands that were killed have left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import click

from mdev_migrate import exception
from mdev_migrate.cli import (
    application,
    claims,
    json_output,
    options,
    output,
)
from mdev_migrate.cli.session import Session
from mdev_migrate.host import Host
from mdev_migrate.workflow import Recovered, Recovery


@click.command("recover")
@click.option(
    "--source",
    "sources",
    metavar="URI",
    type=options.WORD,
    multiple=True,
    help="A host that guests may have left for this one. Give it again for "
    "each. No URI is ever taken from a claim.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only say what would be done.",
)
@click.option(
    "--abort",
    is_flag=True,
    help="Abort migrations that still go on without the command that began "
    "them. Without it they are waited for, for a minute.",
)
@click.option(
    "--source-gone",
    is_flag=True,
    help="A source that is not named, or cannot be reached, is off for good: "
    "a guest that is not on this host is not anywhere.",
)
@click.option(
    "--nova",
    "nova_too",
    is_flag=True,
    help="Settle Nova's claims too: its compute service on this host does "
    "not run, or has no live migration under way.",
)
@options.shared
@click.pass_context
def command(
    context: click.Context,
    /,
    *,
    sources: Sequence[str],
    dry_run: bool,
    **how: bool,
) -> None:
    """Finish or undo what commands that were killed have left on a host.

    The host of --connect is the destination of those migrations. Whoever
    works on a claim is heard within seconds, and left alone. A guest that
    has arrived keeps its mdevs; for one that has not, what was made is
    removed. What cannot be told, or is still under way, is kept.
    """
    session = Session.of(context)
    empty = as_json(session.settings.source_uri, dry_run=dry_run)
    with (
        session.failing(empty),
        session.source() as host,
        _sources(session, sources, gone=how["source_gone"]) as opened,
    ):
        name = host.facts().name
        place = session.environment.destination(host)
        recovery = Recovery(place, opened, **how)
        settled = recovery.run(dry_run=dry_run)
    session.answer(
        as_json(name, settled, dry_run=dry_run),
        lambda: show(name, settled, dry_run=dry_run),
    )
    kept = any(each.action == "kept" for each in settled)
    code = application.FAILED if kept else application.DONE
    if dry_run:
        session.end(context, code)
    context.exit(code)


@contextlib.contextmanager
def _sources(
    session: Session, uris: Iterable[str], *, gone: bool
) -> Iterator[list[Host]]:
    """Open the hosts that guests may have left.

    :param gone: go on without one that cannot be reached.
    """
    with contextlib.ExitStack() as stack:
        opened = []
        for uri in uris:
            try:
                host = session.environment.opener(uri)
            except exception.HostUnreachable as error:
                if not gone:
                    raise
                session.warn(str(error))
                continue
            opened.append(stack.enter_context(contextlib.closing(host)))
        yield opened


def as_json(
    host: str, settled: Iterable[Recovered] = (), *, dry_run: bool
) -> json_output.Answer:
    """Return what became of the claims that were left."""
    return {
        "host": host,
        "dry_run": dry_run,
        "claims": [
            claims.claim(each.claim)
            | {"action": each.action, "reason": each.reason}
            for each in settled
        ],
    }


def show(host: str, settled: Sequence[Recovered], *, dry_run: bool) -> None:
    """Show what became of the claims that were left."""
    for each in settled:
        output.line(f"would be {each.text}" if dry_run else each.text)
    if not settled:
        output.line(f"nothing was left on {host}")
