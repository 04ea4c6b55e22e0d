# SPDX-License-Identifier: Apache-2.0
"""Which commands there are. Each is loaded when it is called, not before.

Whoever only asks for help or the version waits for nothing else.
"""

from __future__ import annotations

import importlib
from typing import NamedTuple

import click

import mdev_migrate
from mdev_migrate.cli import application, options, output

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


class _Command(NamedTuple):
    """A command that is not loaded yet.

    :ivar module: the one that has it, as ``command``.
    :ivar about: the first sentence of its help.
    """

    module: str
    about: str


COMMANDS = {
    "types": _Command(
        "types", "Show parents, mdev types and available instances of a host."
    ),
    "list": _Command(
        "listing", "Show the mdevs of a host, and who holds each."
    ),
    "check": _Command("check", "Make every pre-check of a migration."),
    "plan": _Command(
        "plan",
        "Show what a migration would reuse, create and rewrite; change "
        "nothing.",
    ),
    "migrate": _Command("migrate", "Live-migrate a guest to another host."),
    "drain": _Command(
        "drain", "Move all guests with mdevs of a host to others."
    ),
    "doctor": _Command(
        "doctor",
        "Look at hosts: what is well for migrations, and what is to be done.",
    ),
    "claims": _Command(
        "claims", "Show the claims on the mdevs of a host, and who made them."
    ),
    "recover": _Command(
        "recover",
        "Finish or undo what commands that were killed have left on a host.",
    ),
    "demo": _Command(
        "demo", "Show a whole migration on two simulated hosts, in seconds."
    ),
}


class _Commands(application.Application):
    """Loads the command that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of their use."""
        del ctx
        return list(COMMANDS)

    def get_command(
        self, ctx: click.Context, cmd_name: str
    ) -> click.Command | None:
        """Load a command; None if there is none of that name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        name = f"mdev_migrate.cli.{COMMANDS[cmd_name].module}"
        command: click.Command = importlib.import_module(name).command
        return command

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write what each command does, without loading any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, command.about) for name, command in COMMANDS.items()]
            )


def _show_version(
    context: click.Context, _parameter: click.Parameter, value: bool
) -> None:
    if value and not context.resilient_parsing:
        click.echo(f"mdev-migrate {mdev_migrate.__version__}")
        context.exit()


@click.group(
    cls=_Commands,
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
    callback=_show_version,
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
