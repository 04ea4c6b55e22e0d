# SPDX-License-Identifier: Apache-2.0
"""Is an operator told in one place where a guest is, and not otherwise?"""

from __future__ import annotations

import pytest

from mdev_migrate import exception
from mdev_migrate.cli import migrate
from mdev_migrate.core.phases import Step
from mdev_migrate.workflow import Outcome

A, B = "qemu+tls://host-a/system", "qemu+tls://host-b/system"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (exception.GuestNotOnTargets("vm", B, "r", "changed"), "runs on the"),
        (exception.GuestNotOnTargets("vm", B, "r", "off"), "shut off on the"),
        (exception.GuestNotOnTargets("vm", B, "r", "forgotten"), "ended on"),
        (exception.GuestNotOnTargets("vm", B, "r", "gone"), "does not know"),
        (exception.GuestNotOnTargets("vm", B, "r"), "look at it on the dest"),
        (exception.GuestRestarted("vm", A, B, "r"), "it runs on the source"),
        (exception.GuestLost("vm", "r"), "runs on neither host"),
        (exception.OutcomeUnknown("vm", "r", A, B), "is not known"),
    ],
)
def test_last_line(error, words):
    """It says what is known, whatever the step was."""
    outcome = Outcome("vm", error=error, step=Step.MIGRATE)

    assert words in migrate.whereabouts(outcome)


def test_hosts_in_a_shell():
    """What is to be called can be called as it stands."""
    error = exception.OutcomeUnknown("web 7", "r", f"{A}?a=1&b=2", B)

    assert f"-c {B} recover --source '{A}?a=1&b=2'" in error.hint
    assert "domstate --reason 'web 7'" in error.hint


def test_moved_away():
    """Nobody is told to start a guest that somebody else has moved."""
    lost, moved = (
        exception.GuestLost("vm", "r", moved) for moved in (False, True)
    )

    assert "start it where it is defined" in lost.hint
    assert "do not start it on either host" in moved.hint
    assert "where it is defined" not in moved.hint


def test_restarted():
    """The reason is libvirt's of the old process, and says nothing more."""
    error = exception.GuestRestarted("vm", A, B, "domain is not running")

    assert error.hint == exception.GuestRestarted.hint


def test_summary_without_figures():
    """What libvirt did not say is not made a sentence of."""
    said = migrate.summary(Outcome("vm", result="migrated"))

    assert said == "migrated: guest vm in 0.0 s, downtime unknown"
