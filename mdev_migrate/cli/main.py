# SPDX-License-Identifier: Apache-2.0
"""The entry point: runs the command if all that it needs is installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mdev_migrate.cli.session import Environment

#: Exit code for a wrong call, as of every click command.
_USAGE = 2


def main(
    args: Sequence[str] | None = None, obj: Environment | None = None
) -> None:
    """Run the command and exit.

    :param args: without the program's name; by default those of the process.
    :param obj: how hosts are reached; by default by libvirt.
    :raises SystemExit: always, with the exit code.
    """
    try:
        from mdev_migrate.cli import commands  # noqa: PLC0415 - may be absent
    except ImportError as error:
        sys.stderr.write(f"error: {_reason(error)}\n")
        sys.exit(_USAGE)
    commands.cli.main(args, prog_name="mdev-migrate", obj=obj)


def _reason(error: ImportError) -> str:
    reason = f"mdev-migrate cannot start: {error}"
    if error.name != "click":
        return reason
    return (
        f"{reason}: install its extra 'cli', as in: "
        "pip install 'mdev-migrate[cli]'"
    )
