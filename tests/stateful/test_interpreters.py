# SPDX-License-Identifier: Apache-2.0
"""Is capacity given out as exactly where threads are of another kind?"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import sysconfig
from collections.abc import Mapping

import pytest

TOP = pathlib.Path(__file__).parents[2]
#: Seconds: what takes longer hangs.
BOUND_S = 110.0
#: Green threads: one thread of the system runs all of them.
PATCHED = """
import eventlet
eventlet.monkey_patch()
import sys, threading
import pytest
found = [threading.get_native_id()]
thread = threading.Thread(
    target=lambda: found.append(threading.get_native_id())
)
thread.start()
thread.join()
assert found[0] == found[1], "threads are not green"
sys.exit(pytest.main(sys.argv[1:]))
"""
#: Threads that run at the same time, whatever the modules imported ask for.
FREE = """
import sys
import pytest
found = pytest.main(sys.argv[1:])
assert not sys._is_gil_enabled()
sys.exit(found)
"""


def compete(program: str, environment: Mapping[str, str]) -> None:
    """Run the tests of capacity in an interpreter that a program prepares."""
    arguments = ["-q", "-p", "no:cacheprovider"]
    done = subprocess.run(  # noqa: S603 - our own program
        [
            *(sys.executable, "-W", "ignore", "-c", program, *arguments),
            "tests/stateful/test_capacity.py",
        ],
        cwd=TOP,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_green_threads():
    """Patched by Eventlet, as a service of Nova may be."""
    compete(PATCHED, {})


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"),
    reason="this interpreter cannot do without its lock",
)
def test_free_threads():
    """Without the interpreter's lock, which libvirt's module asks for."""
    compete(FREE, {"PYTHON_GIL": "0"})
