# SPDX-License-Identifier: Apache-2.0
"""``doctor``: what is well with hosts, and what is to be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

from mdev_migrate.cli import json_output, options, output, table
from mdev_migrate.cli.session import Session
from mdev_migrate.core import diagnosis
from mdev_migrate.core.diagnosis import Finding
from mdev_migrate.host import Host
from mdev_migrate.workflow import doctor


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found of a host."""

    uri: str
    findings: tuple[Finding, ...]


@click.command("doctor")
@click.option(
    "--to",
    metavar="URI",
    type=options.WORD,
    help="The destination of migrations to come, which is looked at too.",
)
@click.option(
    "--peer-uri",
    metavar="URI",
    type=options.WORD,
    help="The destination's libvirt, as the source's libvirt reaches it. "
    "Default: the URI of --to.",
)
@options.shared
@click.pass_context
def command(
    context: click.Context, to: str | None, peer_uri: str | None
) -> None:
    """Look at hosts: what is well for migrations, and what is to be done.

    What only a machine itself can tell is looked at if it is this one. To
    see that it may be done, a claim on an mdev that does not exist is made
    and released at once.

    Exit code 0 says that nothing is wrong; what is unknown is not wrong.
    """
    session = Session.of(context)
    if peer_uri and not to:
        raise click.UsageError("--peer-uri needs --to", context)
    with session.failing(_as_json([])):
        found = _look(session, to, peer_uri)
    session.answer(_as_json(found), lambda: _show(found))
    session.end_showing(context, allowed=_is_well(found))


def _look(
    session: Session, to: str | None, peer_uri: str | None
) -> list[_Found]:
    uri = session.settings.source_uri
    if to is None:
        with session.source() as source:
            return [_examined(session, source, uri)]
    with session.hosts(to) as hosts:
        there = hosts.destination.host
        peer = doctor.examine_peer(hosts.source, peer_uri or there.uri)
        here = _examined(session, hosts.source, uri, peer)
        return [here, _examined(session, there, to)]


def _examined(
    session: Session, host: Host, uri: str, *more: Finding
) -> _Found:
    machine = session.environment.machine(uri)
    return _Found(uri, (*doctor.examine(host, machine), *more))


def _is_well(found: Sequence[_Found]) -> bool:
    return all(diagnosis.is_well(each.findings) for each in found)


def _as_json(found: Sequence[_Found]) -> json_output.Answer:
    return {
        "well": bool(found) and _is_well(found),
        "hosts": [
            {
                "uri": each.uri,
                "findings": [
                    {
                        "name": finding.name,
                        "result": finding.result,
                        "detail": finding.detail,
                        "hint": finding.advice or None,
                    }
                    for finding in each.findings
                ],
            }
            for each in found
        ],
    }


def _show(found: Sequence[_Found]) -> None:
    for each in found:
        output.line(f"{each.uri}:")
        rows = [(f.name, f.result, f.detail) for f in each.findings]
        table.show(("WHAT", "RESULT", "DETAIL"), rows, sentences=True)
        for finding in each.findings:
            if finding.advice:
                output.line(f"hint: {finding.name}: {finding.advice}")
    if _is_well(found):
        output.line("well: nothing is wrong", "green")
    else:
        wrong = sum(
            finding.result == "wrong"
            for each in found
            for finding in each.findings
        )
        output.line(f"{wrong} to be mended, see the hints", "red")
