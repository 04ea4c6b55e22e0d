# SPDX-License-Identifier: Apache-2.0
"""The answers to programs, as what ``json`` writes. Pure.

``docs/command.rst`` promises these keys to scripts: none may go, or change
what it means.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mdev_migrate import exception, model
from mdev_migrate.cli import listing
from mdev_migrate.cli.moving import Moved
from mdev_migrate.core.phases import Step
from mdev_migrate.core.precheck import Check
from mdev_migrate.workflow import Report

#: A JSON object.
Answer = dict[str, Any]


def error(
    problem: exception.MdevMigrateError | None, step: Step | None
) -> Answer | None:
    """Return an error of the library; null if there is none."""
    if problem is None:
        return None
    where = step.value if step else None
    return _error(problem.code, where, str(problem), problem.hint)


def _error(code: str, step: str | None, message: str, hint: str) -> Answer:
    return {
        "code": code,
        "step": step,
        "message": message,
        "hint": hint or None,
    }


def usage(message: str, hint: str) -> Answer:
    """Return what is wrong with a call."""
    return {"error": _error("usage", None, message, hint)}


def internal_error(message: str, hint: str) -> Answer:
    """Return that the command itself is wrong."""
    return {"error": _error("internal-error", None, message, hint)}


def types(host: str, parents: Iterable[model.Parent] = ()) -> Answer:
    """Return what a host's parents offer."""
    return {
        "host": host,
        "parents": [
            {"parent": parent.name, "types": [_type(t) for t in parent.types]}
            for parent in parents
        ],
    }


def _type(offered: model.MdevType) -> Answer:
    return {
        "type": offered.mdev_type,
        "name": offered.name,
        "device_api": offered.device_api,
        "available_instances": offered.available_instances,
    }


def mdevs(
    host: str,
    rows: Iterable[listing.Row] = (),
    warnings: Iterable[str] = (),
) -> Answer:
    """Return a host's mdevs and who holds each.

    :param warnings: why not all who hold one are known.
    """
    return {
        "host": host,
        "mdevs": [
            {
                "uuid": row.uuid,
                "type": row.mdev_type,
                "parent": row.parent,
                "state": row.state,
                "held_by": row.held_by,
            }
            for row in rows
        ],
        "warnings": list(warnings),
    }


def check(
    guest: str, report: Report | None = None, warnings: Iterable[str] = ()
) -> Answer:
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
        "warnings": list(warnings),
    }


def _check(each: Check) -> Answer:
    return {
        "name": each.name,
        "side": each.side,
        "result": each.result,
        "code": each.error.code if each.error else None,
        "detail": each.detail,
        "hint": (each.error.hint or None) if each.error else None,
    }


def plan(
    guest: str, report: Report | None = None, difference: str = ""
) -> Answer:
    """Return the pre-checks and the plan; an empty one if it is refused."""
    found = report.plan if report is not None and report.allowed else None
    return check(guest, report) | {
        "target_mdevs": report.target_mdevs if report and found else {},
        "create": [mdev(each) for each in found.create] if found else [],
        "reuse": [mdev.uuid for mdev in found.reuse] if found else [],
        "difference": difference,
    }


def mdev(found: model.Mdev) -> Answer:
    """Return an mdev."""
    return {
        "uuid": found.uuid,
        "type": found.mdev_type,
        "parent": found.parent,
    }


def moved(moved: Moved) -> Answer:
    """Return how a migration ended."""
    outcome = moved.outcome
    return {
        "guest": outcome.guest,
        "instance_uuid": outcome.instance_uuid,
        "result": outcome.result,
        "target_mdevs": outcome.target_mdevs,
        "source_mdev_types": moved.source_mdev_types,
        "target_mdev_types": moved.target_mdev_types,
        "seconds": round(outcome.seconds, 3),
        "downtime_ms": outcome.downtime_ms,
        "bytes": outcome.bytes_moved,
        "warnings": outcome.warnings,
        "steps": {
            step.value: round(seconds, 3)
            for step, seconds in outcome.timings.items()
        },
        "error": error(outcome.error, outcome.step),
    }
