# SPDX-License-Identifier: Apache-2.0
"""``plan``: what a migration would reuse, create and rewrite."""

from __future__ import annotations

from typing import Any

import click

from mdev_migrate.cli import (
    check,
    json_output,
    migration_options,
    options,
    output,
    table,
    way_options,
)
from mdev_migrate.cli.session import Session
from mdev_migrate.model import Step
from mdev_migrate.workflow import Options, Report

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


@click.command("plan")
@migration_options.journey
@migration_options.peer
@migration_options.flags
@migration_options.budget
@way_options.way
@way_options.documents
@options.shared
@click.pass_context
def command(
    context: click.Context, /, guest: str, to: str, **flags: Any
) -> None:
    """Show what a migration would reuse, create and rewrite; change nothing.

    GUEST is a name, UUID or number. UUIDs of mdevs to be created are
    examples: the migration mints its own.
    """
    session = Session.of(context)
    report = answer(session, guest, to, migration_options.read(flags))
    session.end_showing(context, allowed=report.allowed)


def answer(session: Session, guest: str, to: str, how: Options) -> Report:
    """Answer with the plan of a migration."""
    with session.failing(as_json(guest)), session.hosts(to) as hosts:
        checking = check.checking(hosts, guest, how)
        report = check.make_report(checking)
        session.step = Step.PLAN
        difference = checking.difference(report) if report.allowed else ""
    session.answer(
        as_json(guest, report, difference), lambda: show(report, difference)
    )
    return report


def as_json(
    guest: str, report: Report | None = None, difference: str = ""
) -> json_output.Answer:
    """Return the pre-checks and the plan; an empty one if it is refused."""
    found = report.plan if report is not None and report.allowed else None
    created = found.create if found else ()
    return check.as_json(guest, report) | {
        "target_mdevs": report.target_mdevs if report and found else {},
        "create": [json_output.mdev(each) for each in created],
        "reuse": [mdev.uuid for mdev in found.reuse] if found else [],
        "difference": difference,
    }


def show(report: Report, difference: str) -> None:
    """Show the pre-checks, the target mdevs and the XML difference."""
    check.show(report)
    if not report.allowed or report.plan is None:
        return
    created = {mdev.uuid for mdev in report.plan.create}
    there = {mdev.uuid: mdev for mdev in report.plan.mdevs}
    rows = [
        (
            source,
            target,
            there[target].mdev_type,
            there[target].parent,
            "create" if target in created else "reuse",
        )
        for source, target in report.target_mdevs.items()
    ]
    titles = ("SOURCE MDEV", "TARGET MDEV", "TYPE", "PARENT", "ACTION")
    if rows:
        table.show(titles, rows)
        _show_difference(difference)
    else:
        output.line(
            "nothing is to be reused, created or rewritten: it has no mdevs"
        )


def _show_difference(difference: str) -> None:
    """Show what changes in the guest's XML."""
    for text in difference.splitlines():
        printable = "".join(c if c.isprintable() else "?" for c in text)
        output.write(printable, _COLOURS.get(text[:1], ""))
