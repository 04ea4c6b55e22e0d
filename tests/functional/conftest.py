# SPDX-License-Identifier: Apache-2.0
"""Two simulated hosts and the command that works on them."""

import functools
import json
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from mdev_migrate import libvirt_host, testing
from mdev_migrate.cli import main, session
from mdev_migrate.libvirt_host import LibvirtHost
from mdev_migrate.limits import Limits
from mdev_migrate.workflow import Destination

#: What stops a migration.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INSTANCE = "aaaaaaaa-0000-4000-8000-000000000001"
MDEV_1 = "55555555-5555-4555-8555-555555555551"
MDEV_2 = "55555555-5555-4555-8555-555555555552"
TARGET = "66666666-6666-4666-8666-666666666661"
LIMITS = Limits(
    listed_s=1,
    busy_s=0.1,
    settle_s=2,
    stable_s=0.02,
    poll_s=0.01,
    beat_s=0.02,
    silent_s=0.1,
)


class Answer(NamedTuple):
    """What a call of the command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Stdout as the one JSON object that it must be."""
        answer = json.loads(self.out)
        assert isinstance(answer, dict)
        return answer


class World:
    """Two hosts, a guest ``vm`` with two mdevs, and the command.

    :param parent: returns the parent of a host, by default an mtty.
    """

    def __init__(
        self,
        capsys: pytest.CaptureFixture[str],
        parent: Callable[[], testing.Parent] = testing.MttyParent,
    ) -> None:
        self.source, self.destination = testing.two_hosts(
            [parent()], [parent()]
        )
        self.kernel: str | None = "6.12.0-amd64"
        self.group = self.source.group
        self.here, self.there = self.source.uris[0], self.destination.uris[0]
        self.limits = LIMITS
        self._capsys = capsys

    def add_guest(
        self,
        mdevs: Mapping[str, str] | None = None,
        name: str = "vm",
        **facts: Any,
    ) -> None:
        """Give the source a guest; by default with two mdevs."""
        if mdevs is None:
            mdevs = {MDEV_1: "mtty-1", MDEV_2: "mtty-2"}
        for uuid, mdev_type in mdevs.items():
            self.source.add_mdev(uuid, mdev_type)
        self.source.add_guest(name, INSTANCE, list(mdevs), **facts)

    def run(self, *args: str) -> Answer:
        """Call the command, with the source as its host."""
        return self.call("-c", self.here, *args)

    def call(self, *args: str) -> Answer:
        """Call the command just so."""
        environment = session.Environment(
            self._open, functools.partial(Destination, limits=self.limits)
        )
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as exited:
            main.main(args, obj=environment)
        out, err = self._capsys.readouterr()
        assert isinstance(exited.value.code, int)
        return Answer(exited.value.code, out, err)

    def snapshot(self) -> tuple[Any, ...]:
        """Return all that a command may change on both hosts."""
        return tuple(
            (host.all_mdevs(), host.running_guests(), host.used_mdevs())
            for host in (self.source, self.destination)
        )

    def _open(self, uri: str) -> LibvirtHost:
        return LibvirtHost(uri, kernel=self.kernel, opener=self._connect)

    def _connect(self, uri: str) -> testing.SimulatedConnection:
        with libvirt_host.opening(uri):
            return self.group.open(uri)


@pytest.fixture
def world(capsys: pytest.CaptureFixture[str]) -> World:
    """Two hosts without any guest."""
    return World(capsys)


@pytest.fixture
def heard() -> Iterator[None]:
    """Let signals be heard that who started the tests ignores, as nohup."""
    before = {each: signal.getsignal(each) for each in SIGNALS}
    for number, handler in before.items():
        if handler is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
