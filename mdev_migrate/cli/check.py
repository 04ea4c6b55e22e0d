# SPDX-License-Identifier: Apache-2.0
"""``check``: whether a guest can be migrated."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import click

from mdev_migrate.cli import (
    application,
    json_output,
    migration_options,
    options,
    output,
    recover,
    table,
)
from mdev_migrate.cli.places import Places
from mdev_migrate.cli.session import Session
from mdev_migrate.core.estimate import Estimate
from mdev_migrate.core.precheck import Check
from mdev_migrate.workflow import GuestCheck, Options, Report


@click.command("check")
@migration_options.journey
@migration_options.flags
@migration_options.budget
@migration_options.way
@migration_options.documents
@options.shared
@click.pass_context
def command(
    context: click.Context, /, guest: str, to: str, **flags: Any
) -> None:
    """Make every pre-check of a migration.

    GUEST is a name, UUID or number. Checks that could not be made are
    'unknown' and do not refuse. A guest without mdevs can be migrated too.

    Nothing is changed for this migration; but what commands that were
    killed have left on the destination is undone first, as by 'recover'.
    """
    session = Session.of(context)
    how = migration_options.read(flags)
    with (
        session.failing(as_json(guest)),
        session.hosts(to, looking=True) as hosts,
    ):
        left = recover.settle_left(session, hosts, guest)
        report = make_report(checking(hosts, guest, how))
    session.answer(as_json(guest, report, left), lambda: _answer(report, left))
    context.exit(application.DONE if report.allowed else application.FAILED)


def checking(hosts: Places, guest: str, how: Options) -> GuestCheck:
    """Return the pre-checks of a migration."""
    return GuestCheck(
        hosts.source,
        hosts.destination,
        guest,
        how,
        may_replace=hosts.owners.may_replace,
    )


def make_report(check: GuestCheck) -> Report:
    """Make every pre-check; one more says that a guest has no mdevs."""
    report = check.check()
    if report.guest.mdevs:
        return report
    plain = Check(
        "guest-mdevs",
        "source",
        "passed",
        f"guest {report.guest.name} has no mdevs: it is migrated as any "
        "other guest, without the checks of mdevs",
    )
    return dataclasses.replace(report, checks=(*report.checks, plain))


def as_json(
    guest: str, report: Report | None = None, warnings: Iterable[str] = ()
) -> json_output.Answer:
    """Return the pre-checks; without a report, that there are none.

    :param guest: as the user calls it.
    :param warnings: what a human should know besides.
    """
    if report is None:
        return {
            "guest": guest,
            "instance_uuid": None,
            "allowed": False,
            "checks": [],
            "source_mdev_types": {},
            "estimate": None,
            "warnings": list(warnings),
        }
    return {
        "guest": report.guest.name,
        "instance_uuid": report.guest.instance_uuid,
        "allowed": report.allowed,
        "checks": [_check(each) for each in report.checks],
        "source_mdev_types": {
            want.source_uuid: want.mdev_type for want in report.wanted
        },
        "estimate": estimate_as_json(report.estimate),
        "warnings": list(warnings),
    }


def estimate_as_json(found: Estimate | None) -> json_output.Answer | None:
    """Return what a guest's devices may take; null if nothing is known."""
    if found is None:
        return None
    return {
        "device_bytes": found.device_bytes,
        "downtime_ms": found.downtime_ms,
    }


def _check(each: Check) -> json_output.Answer:
    return {
        "name": each.name,
        "side": each.side,
        "result": each.result,
        "code": each.error.code if each.error else None,
        "detail": each.detail,
        "hint": (each.error.hint or None) if each.error else None,
    }


def _answer(report: Report, left: Iterable[str]) -> None:
    """Show the pre-checks, and what became of what others had left."""
    for text in left:
        output.say(f"warning: {output.one_line(text)}")
    show(report)


def show(report: Report) -> None:
    """Show every pre-check, what to do about it, and the verdict."""
    rows = [
        (each.name, each.side, each.result, each.detail)
        for each in report.checks
    ]
    titles = ("CHECK", "SIDE", "RESULT", "DETAIL")
    table.show(titles, rows, sentences=True)
    for each in report.checks:
        if each.error is not None and each.error.hint:
            output.line(
                f"hint: {each.name}: {each.error.hint} ({each.error.code})"
            )
    if report.allowed:
        output.line(
            f"allowed: guest {report.guest.name} can be migrated", "green"
        )
    else:
        refused = [c.name for c in report.checks if c.result == "refused"]
        output.line(
            f"refused: guest {report.guest.name} cannot be migrated, see "
            f"{', '.join(refused)}",
            "red",
        )
