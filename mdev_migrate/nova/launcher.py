# SPDX-License-Identifier: Apache-2.0
"""``nova-compute-mdev``: nova-compute with the mixin, without a patch."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

from mdev_migrate import exception

#: Exit code where it cannot be run as it is installed or configured.
_UNUSABLE = 2


def _need_nova(command: str) -> None:
    """Say in one line if Nova is not there; what Nova lacks is Nova's."""
    if importlib.util.find_spec("nova") is None:
        sys.stderr.write(
            f"{command}: there is no Nova for {sys.executable}: install "
            "mdev-migrate into Nova's own environment\n"
        )
        sys.exit(_UNUSABLE)


def _checked(parse: Callable[..., Any]) -> Callable[..., Any]:
    """Check our options as soon as all are parsed.

    Nova waits for a conductor before it makes the driver, and some of its
    releases log all options first.

    :returns: ends with one line, and 2, if one of ours cannot be used.
    """

    @functools.wraps(parse)
    def parse_and_check(*args: Any, **kwargs: Any) -> None:
        parse(*args, **kwargs)
        from nova.conf import CONF  # noqa: PLC0415 - see main

        from mdev_migrate.compute import conf  # noqa: PLC0415

        try:
            conf.read(CONF)
        except exception.OptionInvalid as error:
            sys.stderr.write(
                f"nova-compute-mdev: {error} ({error.code}: {error.hint})\n"
            )
            sys.exit(_UNUSABLE)

    return parse_and_check


def main() -> None:
    """Install the mixin, then be nova-compute, with its arguments.

    :raises SystemExit: if there is no Nova.
    """
    _need_nova("nova-compute-mdev")
    # Nova's own module comes first: it patches the standard library.
    from nova.cmd import compute  # noqa: PLC0415

    from mdev_migrate import nova  # noqa: PLC0415

    nova.install()
    compute.config.parse_args = _checked(compute.config.parse_args)
    compute.main()


def conductor_main() -> None:
    """Extend the migrate data, then be nova-conductor.

    :raises SystemExit: if there is no Nova.
    """
    _need_nova("nova-conductor-mdev")
    from nova.cmd import conductor  # noqa: PLC0415

    import mdev_migrate.nova.conductor  # noqa: PLC0415, F401

    conductor.main()


def status_main() -> int:
    """Look at what an upgrade needs, and return the exit status.

    :raises SystemExit: if there is no Nova.
    """
    _need_nova("mdev-migrate-status")
    from mdev_migrate.nova import status  # noqa: PLC0415 - see main

    return status.main()
