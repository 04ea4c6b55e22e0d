# SPDX-License-Identifier: Apache-2.0
"""The answers to people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mdev_migrate import exception, model
from mdev_migrate.cli import listing, output, progress, table
from mdev_migrate.cli.moving import Moved
from mdev_migrate.core import phases
from mdev_migrate.workflow import Outcome, Report

_NONE = "-"
_DIFFERENCE = {"+": "green", "-": "red", "@": "cyan"}
_PEER_HINT = (
    "hint: the source's libvirt was sent to the URI of --to; if it reaches "
    "the destination by another one, name that with --peer-uri"
)


def console() -> output.Console:
    """Return where answers to people are written: stdout."""
    return output.Console(highlight=False, markup=False, emoji=False)


def line(text: str, style: str = "") -> None:
    """Write one line of an answer."""
    table.show_line(console(), output.one_line(text), style)


def types(host: str, parents: Iterable[model.Parent]) -> None:
    """Show what a host's parents offer."""
    rows = [
        (
            parent.name,
            offered.mdev_type,
            offered.name or _NONE,
            offered.device_api,
            str(offered.available_instances),
        )
        for parent in parents
        for offered in parent.types
    ]
    titles = ("PARENT", "TYPE", "NAME", "DEVICE API", "AVAILABLE INSTANCES")
    if rows:
        table.show(console(), titles, rows)
    else:
        line(f"{host} has no device that mdevs can be cut from")


def mdevs(host: str, rows: Iterable[listing.Row]) -> None:
    """Show a host's mdevs and who holds each."""
    cells = [(*row[:-1], row.held_by or _NONE) for row in rows]
    titles = ("MDEV", "TYPE", "PARENT", "STATE", "HELD BY")
    if cells:
        table.show(console(), titles, cells)
    else:
        line(f"{host} has no mdevs")


def check(report: Report, left: Iterable[str] = ()) -> None:
    """Show every pre-check, what to do about it, and the verdict.

    :param left: what became of what others had left.
    """
    for text in left:
        output.say(f"warning: {output.one_line(text)}")
    rows = [
        (each.name, each.side, each.result, each.detail)
        for each in report.checks
    ]
    titles = ("CHECK", "SIDE", "RESULT", "DETAIL")
    table.show(console(), titles, rows, sentences=True)
    for each in report.checks:
        if each.error is not None and each.error.hint:
            line(f"hint: {each.name}: {each.error.hint} ({each.error.code})")
    if report.allowed:
        line(f"allowed: guest {report.guest.name} can be migrated", "green")
    else:
        refused = [c.name for c in report.checks if c.result == "refused"]
        line(
            f"refused: guest {report.guest.name} cannot be migrated, see "
            f"{', '.join(refused)}",
            "bold red",
        )


def plan(report: Report, difference: str) -> None:
    """Show the pre-checks, the target mdevs and the XML difference."""
    check(report)
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
        table.show(console(), titles, rows)
        show_difference(difference)
    else:
        line("nothing is to be reused, created or rewritten: it has no mdevs")


def show_difference(difference: str) -> None:
    """Show what changes in the guest's XML."""
    out = console()
    for text in difference.splitlines():
        printable = "".join(c if c.isprintable() else "?" for c in text)
        table.show_line(out, printable, _DIFFERENCE.get(text[:1], ""))


def moved(
    moved: Moved, *, verbose: bool = False, peer_named: bool = True
) -> None:
    """Show how a migration ended; what went wrong goes to stderr.

    :param verbose: with the seconds of each step.
    :param peer_named: the user named the destination's URI for its peer.
    """
    outcome = moved.outcome
    if outcome.error is None:
        _show_pairs(moved)
        for text in summary(outcome):
            line(text, "green")
    else:
        explain(outcome)
        if isinstance(outcome.error, exception.MigrationFailed) and (
            not peer_named
        ):
            output.say(_PEER_HINT)
    if verbose:
        for step, seconds in outcome.timings.items():
            line(f"{step.value}: {seconds:.3f} s")


def _show_pairs(moved: Moved) -> None:
    """Show which target mdev took the place of each source mdev."""
    rows = [
        (source, "->", target, moved.source_mdev_types.get(source, _NONE))
        for source, target in moved.outcome.target_mdevs.items()
    ]
    if rows:
        titles = ("SOURCE MDEV", "", "TARGET MDEV", "TYPE")
        table.show(console(), titles, rows)


def summary(outcome: Outcome) -> Iterator[str]:
    """Yield what to know of a migration that went well."""
    downtime = (
        "unknown"
        if outcome.downtime_ms is None
        else f"{outcome.downtime_ms} ms"
    )
    yield (
        f"migrated: guest {outcome.guest} in {outcome.seconds:.1f} s, "
        f"downtime {downtime}, {progress.mib(outcome.bytes_moved)} sent"
    )


def explain(outcome: Outcome) -> None:
    """Tell on stderr why a migration did not go well, and what is left."""
    error = outcome.error
    if error is None:
        return
    output.complain(str(error), error.hint, error.code)
    step = outcome.step.value if outcome.step else "connect"
    output.say(
        f"{outcome.result}: guest "
        f"{output.one_line(outcome.guest)} at step '{step}' after "
        f"{outcome.seconds:.1f} s; {whereabouts(outcome)}"
    )
    for warning in outcome.warnings:
        output.say(f"warning: {output.one_line(warning)}")


def whereabouts(outcome: Outcome) -> str:
    """Return where the guest is after a migration that did not go well."""
    if isinstance(outcome.error, exception.OutcomeUnknown):
        return "where it runs is not known, so nothing was undone"
    if isinstance(outcome.error, exception.GuestLost):
        return "it is active on neither host"
    targets = phases.TABLE[outcome.step or phases.Step.CONNECT].targets
    if targets is phases.Targets.NOTHING:
        return "nothing was changed on either host"
    if targets is phases.Targets.IN_USE:
        return "it left the source: look at it on the destination"
    if any(text.startswith("not undone") for text in outcome.warnings):
        return "it stays on the source; not all could be undone"
    return "it stays on the source, all else was undone"
