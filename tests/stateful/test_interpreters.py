# SPDX-License-Identifier: Apache-2.0
"""Does all hold where threads are of another kind?"""

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
found = [threading.get_native_id()]
thread = threading.Thread(
    target=lambda: found.append(threading.get_native_id())
)
thread.start()
thread.join()
assert found[0] == found[1], "threads are not green"
"""
COMPETE = """
import sys, pytest
options = ["-q", "-p", "no:cacheprovider", "-k", "threads"]
status = pytest.main([*options, "tests/stateful/test_capacity.py"])
"""
#: Threads that run at the same time, whatever the imported modules ask for.
FREE = (
    COMPETE
    + """
assert not sys._is_gil_enabled()
sys.exit(status)
"""
)
CONNECT = """
from mdev_migrate import libvirt_host
libvirt_host.own_process()
libvirt_host.connect("test:///default").close()
"""


def run(program: str, environment: Mapping[str, str] | None = None) -> None:
    """Run a program in another interpreter of the same version."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=TOP,
        env=os.environ | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_green_threads():
    """Patched by Eventlet, as a service of Nova may be."""
    run(PATCHED + COMPETE + "sys.exit(status)")


def test_green_threads_do_not_wait_for_events():
    """libvirt's event loop, which never gives way, holds nobody up."""
    run(PATCHED + CONNECT)


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"),
    reason="this interpreter cannot do without its lock",
)
def test_free_threads():
    """Without the interpreter's lock, which libvirt's module asks for."""
    run(FREE, {"PYTHON_GIL": "0"})
