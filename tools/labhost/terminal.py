# SPDX-License-Identifier: Apache-2.0
"""Tell the person at the terminal what happens; wait with a limit."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from labhost.failure import LabError


def say(text: str) -> None:
    """Write one line of progress to standard error."""
    sys.stderr.write(f"{Path(sys.argv[0]).stem}: {text}\n")
    sys.stderr.flush()


def wait_for(
    what: str,
    check: Callable[[], bool],
    limit_s: float,
    see: object = "",
    pause_s: float = 0.5,
) -> None:
    """Call ``check`` until it is true.

    :param what: what is waited for, as in "libvirtd of host a".
    :param see: where to look when it does not come: a path of a log.
    :raises LabError: if it is still false after ``limit_s`` seconds.
    """
    start = time.monotonic()
    while not check():
        if time.monotonic() - start > limit_s:
            hint = f"; see {see}" if see else ""
            raise LabError(f"no {what} after {limit_s:g} s{hint}")
        time.sleep(pause_s)
