# SPDX-License-Identifier: Apache-2.0
"""What all tests need of the process that they run in."""

import signal


def pytest_configure() -> None:
    """Let Ctrl-C be heard, which a job in a shell's background ignores.

    What was ignored at the start stays ignored, in the command and in the
    tests of what it does about signals.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
