# SPDX-License-Identifier: Apache-2.0
"""A migration fails midway: the guest runs on, and the next one succeeds."""

import signal
from collections.abc import Callable, Iterator

import pytest

from mdev_migrate.core.phases import Step
from mdev_migrate.workflow import Silent
from tests.lab import proxy
from tests.lab.command import Answer
from tests.lab.hosts import TYPES, LabHost, until
from tests.lab.scenes import BUSY, SLOW, Scene


class Meddler(Silent):
    """Does something on the destination when a step begins.

    :param act: is given the target mdev.
    """

    def __init__(
        self, host: LabHost, step: Step, act: Callable[[LabHost, str], None]
    ) -> None:
        self._host = host
        self._step = step
        self._act = act

    def step(self, step: Step, detail: str) -> None:
        """Act if it is the step that was waited for."""
        if step is self._step:
            (mdev,) = self._host.mdevs()
            self._act(self._host, mdev)


def vanish(host: LabHost, mdev: str) -> None:
    """Destroy the target mdev."""
    host.remove_mdev(mdev)


def change_type(host: LabHost, mdev: str) -> None:
    """Put an mdev of another type in the place of the target mdev."""
    host.remove_mdev(mdev)
    host.run(f"echo {mdev} >{TYPES}/mtty-2/create")
    until("the other mdev", lambda: host.mdevs().get(mdev) == "mtty-2")


@pytest.mark.parametrize("step", [Step.PREPARE, Step.MIGRATE])
def test_the_target_vanishes(scene: Callable[..., Scene], step: Step) -> None:
    """What vanished after the last look libvirt does not find."""
    set_up = scene(reused=False)

    outcome = set_up.migrate_by_library(Meddler(set_up.b, step, vanish))

    assert outcome.result == "failed"
    assert outcome.error, outcome
    assert outcome.error.code == "target-mdev-taken", outcome
    assert outcome.warnings == [] or "not undone" not in str(outcome.warnings)
    set_up.see_undone()
    set_up.see_next_succeed()


def test_the_target_is_of_another_type(
    scene: Callable[..., Scene],
) -> None:
    """The type is right again after the device refused what it was sent."""
    set_up = scene(reused=True)

    outcome = set_up.migrate_by_library(
        Meddler(set_up.b, Step.MIGRATE, change_type)
    )

    assert outcome.error is not None
    assert outcome.error.code == "migration-failed", outcome
    assert "Bad address" in str(outcome.error)
    assert "not undone" not in str(outcome.warnings)
    set_up.see_undone()
    set_up.see_next_succeed()


def aborted(answer: Answer) -> None:
    """See that a migration was aborted and undone without a remark."""
    assert (answer.status, answer.code) == (1, "migration-aborted"), answer
    assert "not undone" not in str(answer.document["warnings"])


def test_ctrl_c_stops_it(scene: Callable[..., Scene]) -> None:
    """During the copy it aborts that and undoes what was prepared."""
    set_up = scene(reused=True, **BUSY)
    running = set_up.migrate(*SLOW)
    set_up.wait_for_copy()

    running.signal(signal.SIGINT)

    aborted(running.end())
    set_up.see_undone()
    set_up.see_next_succeed()


def test_it_takes_too_long(scene: Callable[..., Scene]) -> None:
    """A time limit aborts a guest that changes its memory too fast."""
    set_up = scene(reused=False, **BUSY)

    answer = set_up.migrate(*SLOW, "--timeout", "12").end()

    aborted(answer)
    set_up.see_undone()
    set_up.see_next_succeed()


def test_the_destination_daemon_dies(
    scene: Callable[..., Scene],
) -> None:
    """Undoing waits for a libvirtd that was killed and comes back."""
    set_up = scene(reused=True, **BUSY)
    running = set_up.migrate(*SLOW)
    set_up.wait_for_copy()

    set_up.b.libvirtd("kill")
    until("end of the job", lambda: not set_up.a.has_job(set_up.guest.name))
    set_up.b.libvirtd("start")

    answer = running.end()
    assert (answer.status, answer.code) == (1, "migration-failed"), answer
    assert "not undone" not in str(answer.document["warnings"])
    set_up.see_undone()
    set_up.see_next_succeed()


def test_the_source_daemon_dies(scene: Callable[..., Scene]) -> None:
    """The same on the other side: its guest survives its libvirtd."""
    set_up = scene(reused=False, **BUSY)
    running = set_up.migrate(*SLOW)
    set_up.wait_for_copy()

    set_up.a.libvirtd("kill")
    set_up.a.libvirtd("start")

    answer = running.end()
    assert (answer.status, answer.code) == (1, "migration-failed"), answer
    set_up.see_undone()
    set_up.see_next_succeed()


def test_the_connection_to_the_source_is_cut(
    scene: Callable[..., Scene],
) -> None:
    """The job goes on without its client, so it is found and aborted."""
    set_up = scene(reused=True, **BUSY)

    with proxy.open_to(set_up.a.port) as way:
        uri = f"qemu+tcp://127.0.0.1:{way.port}/system"
        running = set_up.migrate(*SLOW, uri=uri)
        set_up.wait_for_copy()
        way.cut()
        answer = running.end()

    assert answer.status == 1, answer
    assert answer.code in ("migration-failed", "migration-aborted"), answer
    set_up.see_undone()
    set_up.see_next_succeed()


@pytest.fixture
def cut_link(b: LabHost) -> Iterator[Callable[[], None]]:
    """Return what cuts the link; it is mended at the end."""
    yield lambda: b.plug_link(up=False)
    b.plug_link(up=True)


def test_the_link_is_cut(
    scene: Callable[..., Scene], cut_link: Callable[[], None]
) -> None:
    """Libvirt gives up after its keepalive, and then all is undone."""
    set_up = scene(reused=True, **BUSY)
    running = set_up.migrate(*SLOW)
    set_up.wait_for_copy()

    cut_link()

    answer = running.end()
    assert (answer.status, answer.code) == (1, "migration-failed"), answer
    assert "not undone" not in str(answer.document["warnings"])
    set_up.see_undone()
    set_up.b.plug_link(up=True)
    set_up.see_next_succeed()
