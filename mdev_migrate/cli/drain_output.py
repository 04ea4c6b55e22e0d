# SPDX-License-Identifier: Apache-2.0
"""How a drain is shown: its plan, and what became of each guest."""

from __future__ import annotations

from collections.abc import Sequence

from mdev_migrate import model
from mdev_migrate.cli import (
    check,
    json_output,
    migrate,
    output,
    table,
)
from mdev_migrate.core import precheck, wording
from mdev_migrate.workflow import Outcome
from mdev_migrate.workflow.drain import Moved, Tried
from mdev_migrate.workflow.drain_plan import Leaving, Plan


def show_plan(plan: Plan) -> None:
    """Show where each guest goes, or why it must stay."""
    for error in plan.unreached.values():
        output.line(f"not a destination: {error} ({error.code})", "red")
    if plan.guests:
        _show_guests(plan)
    else:
        output.line("there is no guest to move")
    hosts = dict.fromkeys(
        host
        for each in plan.guests
        for report in each.reports.values()
        for host in report.kernels_unknown
    )
    if hosts:
        output.line(f"note: {precheck.say_unknown(hosts)}")
    if plan.off:
        names = ", ".join(guest.name for guest in plan.off)
        output.line(
            f"off, so not moved: {names}; --shut-off moves the definitions"
        )


def _show_guests(plan: Plan) -> None:
    titles = ("GUEST", "TYPES", "MEMORY", "DESTINATION", "DOWNTIME")
    table.show(titles, [_row(each) for each in plan.guests])
    for each in plan.staying:
        for name, reason in each.reasons.items():
            if name in plan.unreached:
                continue
            output.line(f"{each.guest.name} cannot go to {name}: {reason}")
    if plan.staying:
        lacking = ", ".join(
            f"{count} of type {kind}"
            for kind, count in sorted(plan.shortage.items())
        )
        free = f"; to free there: {lacking}" if lacking else ""
        output.line(
            f"{len(plan.staying)} of {len(plan.guests)} must stay{free}", "red"
        )
    else:
        output.line(f"all {len(plan.guests)} fit", "green")


def _row(each: Leaving) -> tuple[str, ...]:
    first = each.placement and each.placement.destination
    found = each.reports[first].estimate if first else None
    needed = found.downtime_ms if found else None
    memory = each.memory_kib
    return (
        each.guest.name,
        ", ".join(each.types) or table.NONE,
        table.NONE if memory is None else wording.size(1024 * memory),
        first or "stays",
        table.NONE if needed is None else f"up to {needed} ms",
    )


def show_end(moved: Sequence[Moved]) -> None:
    """Show what became of each guest."""
    rows = [
        (each.leaving.guest.name, each.result, each.destination or table.NONE)
        for each in moved
    ]
    if rows:
        table.show(("GUEST", "RESULT", "DESTINATION"), rows)
    left = sum(each.result == "migrated" for each in moved)
    colour = "green" if left == len(moved) else "red"
    output.line(f"{left} of {len(moved)} guests have left", colour)


def guest_as_json(moved: Moved) -> json_output.Answer:
    each = moved.leaving
    first = each.placement.destination if each.placement else None
    kib = each.memory_kib
    return {
        "guest": each.guest.name,
        "instance_uuid": each.guest.instance_uuid,
        "shut_off": not each.guest.active,
        "types": list(each.types),
        "memory": None if kib is None else 1024 * kib,
        "planned": first,
        "estimate": (
            check.estimate_as_json(each.reports[first].estimate)
            if first
            else None
        ),
        "reasons": dict(each.reasons),
        "result": moved.result,
        "destination": moved.destination,
        "tried": [tried_as_json(each) for each in moved.tried],
    }


def tried_as_json(tried: Tried) -> json_output.Answer:
    """Return an attempt as ``migrate`` answers, and where it was to go."""
    found = migrate.as_json(migrate.Moved.of(tried.outcome))
    return {"destination": tried.destination} | found


def result(guest: model.Guest, outcome: Outcome, to: str) -> str:
    """Return how an attempt to move a guest ended, in one line."""
    error = outcome.error
    if error is not None:
        text = (
            f"{outcome.result}: {error} ({error.code}); "
            f"{migrate.whereabouts(outcome)}"
        )
    elif guest.active:
        text = f"{migrate.summary(outcome)}, to {to}"
    else:
        text = f"migrated: the definition, in {outcome.seconds:.1f} s, to {to}"
    return output.one_line(text)
