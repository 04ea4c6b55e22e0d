# SPDX-License-Identifier: Apache-2.0
"""Two hosts for every test, empty before and after it."""

import itertools
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from labhost import state
from labhost.layout import HOSTS, THIRD, TOP, WorkFolder

from tests import results
from tests.lab.command import Command
from tests.lab.hosts import LabHost
from tests.lab.scenes import Guest, Scene

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def hosts() -> tuple[LabHost, LabHost]:
    """Return the lab's hosts."""
    started = state.load(WorkFolder.default())
    running = {name for name, h in started.items() if h.is_running()}
    if not running >= HOSTS.keys():
        pytest.skip("the lab's hosts do not run: use tools/lab test")
    one, other = (LabHost(started[name]) for name in HOSTS)
    one.clean()
    other.clean()
    results.found_versions.update(one.versions())
    return one, other


@pytest.fixture(autouse=True)
def emptied(hosts: tuple[LabHost, LabHost]) -> Iterator[None]:
    """Leave both hosts empty; see that neither kernel has crashed."""
    yield
    crashes = [host.clean() for host in hosts]
    assert crashes == ["", ""]


@pytest.fixture
def a(hosts: tuple[LabHost, LabHost]) -> LabHost:
    """Return the host that guests leave."""
    return hosts[0]


@pytest.fixture
def b(hosts: tuple[LabHost, LabHost]) -> LabHost:
    """Return the host that guests go to."""
    return hosts[1]


@pytest.fixture
def c(hosts: tuple[LabHost, LabHost]) -> Iterator[LabHost]:
    """Return a third host, small, that runs as long as the test."""

    def tell_lab(action: str) -> None:
        command = [sys.executable, str(TOP / "tools/lab"), action, THIRD.name]
        subprocess.run(command, check=True)  # noqa: S603 - our own program

    try:
        tell_lab("up")
        host = LabHost(state.load(WorkFolder.default())[THIRD.name])
        yield host
        assert host.clean() == ""
    finally:
        tell_lab("down")


@pytest.fixture
def command(emptied: None) -> Iterator[Command]:
    """Return the installed command."""
    # A shell may have started the tests with Ctrl-C ignored, and commands
    # would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command = Command()
    yield command
    command.stop_all()


@pytest.fixture
def start(a: LabHost) -> Callable[..., Guest]:
    """Return what starts a guest with mdevs of some types on host a."""

    def start(
        *mdev_types: str, persistent: bool = True, **how: object
    ) -> Guest:
        name = f"guest-{next(_numbers)}"
        mdevs = a.make_mdevs(*mdev_types) if mdev_types else []
        a.start_guest(name, mdevs, persistent=persistent, **how)
        return Guest(name, mdevs)

    return start


@pytest.fixture
def scene(
    a: LabHost, b: LabHost, command: Command, start: Callable[..., Guest]
) -> Callable[..., Scene]:
    """Return what starts a guest with an mdev."""

    def scene(*, reused: bool = True, **how: object) -> Scene:
        if reused:
            b.make_mdevs("mtty-1")
        guest = start("mtty-1", **how)
        return Scene(a, b, command, guest, b.mdevs(), a.count(guest.name))

    return scene
