# SPDX-License-Identifier: Apache-2.0
"""What all tests need of the process that they run in."""

import signal

import pytest

from tests import results


def pytest_configure(config: pytest.Config) -> None:
    """Write down how tests end if that is wanted, and let Ctrl-C be heard.

    A job in a shell's background ignores it. What was ignored at the start
    stays ignored, in the command and in the tests of what it does about
    signals.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if results.folder() is not None:
        config.pluginmanager.register(results.Recorder())
