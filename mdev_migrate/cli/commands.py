# SPDX-License-Identifier: Apache-2.0
"""The commands: each reads its call, asks the library and answers."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import tempfile
from typing import Any

import click

from mdev_migrate import exception
from mdev_migrate.cli import (
    application,
    demo,
    json_output,
    listing,
    moving,
    options,
    output,
    progress,
    recovering,
    render,
)
from mdev_migrate.cli.places import Places
from mdev_migrate.cli.session import Session, exit_code
from mdev_migrate.core.phases import Step
from mdev_migrate.core.precheck import Check
from mdev_migrate.workflow import GuestCheck, Options, Outcome, Report

_EXAMPLES = """\b
Examples:
  mdev-migrate types
  mdev-migrate -c qemu+tls://gpu-1/system list --json
  mdev-migrate check web-7 --to qemu+tls://gpu-2/system
  mdev-migrate migrate web-7 --to qemu+tls://gpu-2/system \\
      --max-downtime 2000 --timeout 600
  mdev-migrate recover --dry-run
  mdev-migrate demo

\b
Exit codes:
  0  done, or: yes, it can be done
  1  refused, or failed with the guest where it was
  2  the call is wrong
  3  a host could not be reached
"""


def _version(
    context: click.Context, _parameter: click.Parameter, *, value: bool
) -> None:
    if not value or context.resilient_parsing:
        return
    try:
        version = importlib.metadata.version("mdev-migrate")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    click.echo(f"mdev-migrate {version}")
    context.exit()


@click.group(
    cls=application.Application,
    epilog=_EXAMPLES,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@options.shared
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, parameter, value: _version(
        context, parameter, value=value
    ),
    help="Show the version and exit.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Live-migrate guests with mediated devices (mdevs).

    The mdevs that a guest needs are found or created on the destination,
    the guest's XML is rewritten, and the guest is moved there without
    stopping it. If anything goes wrong, the guest stays where it runs and
    what was prepared is undone.
    """
    if context.invoked_subcommand is None:
        if options.settings_of(context).as_json:
            raise click.UsageError("Missing command.", context)
        output.say(context.get_help())
        context.exit(application.USAGE)


@cli.command()
@options.shared
@click.pass_context
def types(context: click.Context) -> None:
    """Show parents, mdev types and available instances of a host.

    Available instances are how many more mdevs of a type a parent would
    create if it created no other: the types of a parent share its room.
    """
    session = Session.of(context)
    empty = json_output.types(session.settings.source_uri)
    with session.failing(empty), session.source() as host:
        found = host.inventory()
    session.answer(
        json_output.types(found.host, found.parents),
        lambda: render.types(found.host, found.parents),
    )


@cli.command("list")
@options.shared
@click.pass_context
def list_mdevs(context: click.Context) -> None:
    """Show the mdevs of a host, and who holds each.

    A guest holds its mdevs even while it is shut off.
    """
    session = Session.of(context)
    empty = json_output.mdevs(session.settings.source_uri)
    with session.failing(empty), session.source() as host:
        found = host.inventory()
        claimed, warnings = session.claimed(host)
    rows = listing.rows(found, claimed)
    session.answer(
        json_output.mdevs(found.host, rows, warnings),
        lambda: render.mdevs(found.host, rows),
    )


@cli.command()
@options.journey
@options.shared
@click.pass_context
def check(
    context: click.Context, /, guest: str, to: str, **flags: Any
) -> None:
    """Make every pre-check of a migration.

    GUEST is a name or UUID. Checks that could not be made are 'unknown'
    and do not refuse. A guest without mdevs can be migrated too.

    Nothing is changed for this migration; but what commands that were
    killed have left on the destination is undone first, as by 'recover'.
    """
    session = Session.of(context)
    how = options.read(flags)
    with (
        session.failing(json_output.check(guest)),
        session.hosts(to, looking=True) as hosts,
    ):
        left = recovering.settle_left(session, hosts, guest)
        report = make_report(checking(hosts, guest, how))
    session.answer(
        json_output.check(guest, report, left),
        lambda: render.check(report, left),
    )
    context.exit(application.DONE if report.allowed else application.FAILED)


@cli.command()
@options.journey
@options.shared
@click.pass_context
def plan(context: click.Context, /, guest: str, to: str, **flags: Any) -> None:
    """Show what a migration would reuse, create and rewrite; change nothing.

    GUEST is a name or UUID. UUIDs of mdevs to be created are examples: the
    migration mints its own.
    """
    session = Session.of(context)
    report = show_plan(session, guest, to, options.read(flags))
    context.exit(application.DONE if report.allowed else application.FAILED)


@cli.command()
@options.journey
@options.limits
@options.shared
@click.pass_context
def migrate(
    context: click.Context, /, guest: str, to: str, **how: Any
) -> None:
    """Live-migrate a guest to another host.

    GUEST is a name or UUID. Ctrl-C, SIGTERM or a hang-up aborts the
    migration and waits until all is undone. A guest without mdevs is
    migrated too.
    """
    session = Session.of(context)
    moved = move(session, guest, to, options.read(how))
    context.exit(exit_code(moved.outcome.error))


@cli.command("demo")
@click.option(
    "--fail",
    is_flag=True,
    help="Show a migration that does not end within its time limit, and how "
    "it is rolled back.",
)
@options.shared
@click.pass_context
def demonstrate(context: click.Context, *, fail: bool) -> None:
    """Show a whole migration on two simulated hosts, in seconds.

    Nothing of this machine is read or changed.
    """
    called = Session.of(context)
    shown = not called.settings.as_json
    scene = demo.make_scene(paced=shown and progress.is_terminal(), fail=fail)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(
            dataclasses.replace(
                called.settings, uri=scene.source, state_dir=folder
            ),
            scene.environment,
        )
        if shown:
            output.answer(lambda: render.line(scene.text))
            show_plan(session, demo.GUEST, scene.destination, scene.options)
        moved = move(session, demo.GUEST, scene.destination, scene.options)
    context.exit(exit_code(moved.outcome.error))


def checking(hosts: Places, guest: str, how: Options) -> GuestCheck:
    """Return the pre-checks of a migration."""
    return GuestCheck(
        hosts.source,
        hosts.destination,
        guest,
        how,
        may_replace=hosts.owners.may_replace,
    )


cli.add_command(recovering.claims)
cli.add_command(recovering.recover)


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


def show_plan(session: Session, guest: str, to: str, how: Options) -> Report:
    """Answer with the plan of a migration."""
    with (
        session.failing(json_output.plan(guest)),
        session.hosts(to, looking=True) as hosts,
    ):
        check = checking(hosts, guest, how)
        report = make_report(check)
        session.step = Step.PLAN
        difference = check.difference(report) if report.allowed else ""
    session.answer(
        json_output.plan(guest, report, difference),
        lambda: render.plan(report, difference),
    )
    return report


def move(session: Session, guest: str, to: str, how: Options) -> moving.Moved:
    """Migrate a guest and answer with how that ended."""
    try:
        with session.hosts(to) as hosts:
            moved = _migrate(session, hosts, guest, how)
    except exception.MdevMigrateError as error:
        outcome = Outcome(guest, error=error, step=session.step)
        moved = moving.Moved(outcome)
    session.answer(
        json_output.moved(moved),
        lambda: render.moved(
            moved,
            verbose=session.settings.verbose,
            peer_named=how.peer_uri is not None,
        ),
    )
    return moved


def _migrate(
    session: Session,
    hosts: Places,
    guest: str,
    how: Options,
) -> moving.Moved:
    """Migrate a guest, telling how it goes."""
    settings = session.settings
    lines = progress.teller(how.max_downtime_ms)
    quiet = settings.as_json and not settings.verbose
    listener = progress.observer(lines, quiet=quiet)
    task = moving.Task(guest, how, listener, lines.say)
    try:
        left = recovering.settle_left(session, hosts, guest)
        for text in left:
            listener.warn(text)
        moved = moving.migrate(hosts, task)
        moved.outcome.warnings[:0] = left
        return moved
    finally:
        lines.end()
