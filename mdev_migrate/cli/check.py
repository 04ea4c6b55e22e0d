# SPDX-License-Identifier: Apache-2.0
"""``check``: whether a guest can be migrated."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import click

from mdev_migrate import exception
from mdev_migrate.cli import (
    application,
    json_output,
    migration_options,
    options,
    output,
    table,
    way_options,
)
from mdev_migrate.cli.session import Places, Session, exit_code
from mdev_migrate.core.estimate import Estimate
from mdev_migrate.core.phases import Step
from mdev_migrate.core.precheck import Check
from mdev_migrate.workflow import GuestCheck, Options, Report


@click.command("check")
@migration_options.journeys
@migration_options.flags
@migration_options.budget
@way_options.way
@way_options.documents
@options.shared
@click.pass_context
def command(
    context: click.Context,
    /,
    guest: str,
    destinations: tuple[str, ...],
    peer_uris: tuple[str, ...],
    **flags: Any,
) -> None:
    """Make every pre-check of a migration.

    GUEST is a name, UUID or number. Checks that could not be made are
    'unknown' and do not refuse. A guest without mdevs can be migrated too.

    Nothing is changed on either host, whatever others have left there.
    """
    session = Session.of(context)
    peers = migration_options.one_each(destinations, peer_uris, "--peer-uri")
    how = migration_options.read(flags)
    hows = [dataclasses.replace(how, peer_uri=peer) for peer in peers]
    if len(destinations) > 1:
        found = [
            _find(session, guest, to, how)
            for to, how in zip(destinations, hows, strict=True)
        ]
        session.answer(_all_as_json(guest, found), lambda: _answer_all(found))
        session.end(context, _exit_code(found))
    with session.failing(as_json(guest)):
        report = _check_one(session, guest, destinations[0], hows[0])
    session.answer(as_json(guest, report), lambda: show(report))
    session.end_showing(context, allowed=report.allowed)


def _check_one(session: Session, guest: str, to: str, how: Options) -> Report:
    """Check for one destination."""
    with session.hosts(to) as hosts:
        return make_report(checking(hosts, guest, how))


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    """What the checks found for one of several destinations.

    :ivar report: None if they could not be made.
    :ivar error: why.
    """

    to: str
    report: Report | None = None
    error: exception.MdevMigrateError | None = None
    step: Step | None = None


def _find(session: Session, guest: str, to: str, how: Options) -> _Found:
    try:
        report = _check_one(session, guest, to, how)
    except exception.MdevMigrateError as error:
        return _Found(to, error=error, step=session.step)
    return _Found(to, report)


def _all_as_json(guest: str, found: Iterable[_Found]) -> json_output.Answer:
    """Return the pre-checks for several destinations."""
    each = [
        {"to": one.to}
        | as_json(guest, one.report)
        | {"error": json_output.error(one.error, one.step)}
        for one in found
    ]
    return {
        "guest": guest,
        "allowed": any(one["allowed"] for one in each),
        "destinations": each,
    }


def _answer_all(found: Iterable[_Found]) -> None:
    """Show the pre-checks for each destination, then which could take it."""
    rows = []
    told: set[str] = set()
    for one in found:
        output.line(f"to {one.to}:")
        if one.report is not None:
            show(one.report, told)
            rows.append((one.to, "yes" if one.report.allowed else "no"))
        elif one.error is not None:
            output.line(f"error: {one.error} ({one.error.code})", "red")
            rows.append((one.to, "unknown"))
    table.show(("DESTINATION", "ALLOWED"), rows)


def _exit_code(found: Sequence[_Found]) -> int:
    """Return 0 if one of the destinations could take the guest."""
    if any(one.report and one.report.allowed for one in found):
        return application.DONE
    codes = [exit_code(one.error) for one in found if one.error]
    return max(codes, default=application.FAILED)


def checking(hosts: Places, guest: str, how: Options) -> GuestCheck:
    """Return the pre-checks of a migration."""
    return GuestCheck(hosts.source, hosts.destination, guest, how)


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


def as_json(guest: str, report: Report | None = None) -> json_output.Answer:
    """Return the pre-checks; without a report, that there are none.

    :param guest: as the user calls it.
    """
    if report is None:
        return {
            "guest": guest,
            "instance_uuid": None,
            "allowed": False,
            "checks": [],
            "source_mdev_types": {},
            "estimate": None,
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


def show(report: Report, told: set[str] | None = None) -> None:
    """Show every pre-check, what to do about it, and the verdict.

    :param told: hints that were shown already; is added to.
    """
    rows = [
        (each.name, each.side, each.result, each.detail)
        for each in report.checks
    ]
    titles = ("CHECK", "SIDE", "RESULT", "DETAIL")
    table.show(titles, rows, sentences=True)
    told = set() if told is None else told
    for each in report.checks:
        if each.error is None or not each.error.hint:
            continue
        hint = f"hint: {each.name}: {each.error.hint} ({each.error.code})"
        if hint not in told:
            told.add(hint)
            output.line(hint)
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
