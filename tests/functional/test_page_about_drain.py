# SPDX-License-Identifier: Apache-2.0
"""Do the commands of the page about emptying a host do what it says?"""

import functools
import itertools
import json
import pathlib

import pytest

from mdev_migrate import libvirt_host, testing
from mdev_migrate.cli import main, session
from mdev_migrate.workflow import Destination
from tests import builders, pages
from tests.functional.conftest import LIMITS

SOURCE = "qemu+tls://gpu-1/system"


class Hosts:
    """The three hosts of the page, and the command."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.group = testing.SimulatedGroup()
        self.hosts = [
            self.group.add_host(f"gpu-{number}", [testing.MttyParent()])
            for number in (1, 2, 3)
        ]
        self._capsys = capsys

    def run(self, *words: str) -> dict[str, object]:
        """Say a command on the first host; it must succeed."""
        environment = session.Environment(
            lambda uri: libvirt_host.LibvirtHost(
                uri, kernel="6.12.0-amd64", opener=self.group.open
            ),
            functools.partial(Destination, limits=LIMITS),
        )
        own = () if "-c" in words else ("-c", SOURCE)
        with pytest.raises(SystemExit) as exited:
            main.main([*own, *words, "--json"], obj=environment)
        out, err = self._capsys.readouterr()
        assert exited.value.code == 0, (words, out, err)
        answer = json.loads(out)
        assert isinstance(answer, dict)
        return answer

    def guests(self) -> list[int]:
        """Return how many guests each host runs."""
        return [len(host.running_guests()) for host in self.hosts]


def test_from_doctor_to_bringing_back(
    capsys: pytest.CaptureFixture[str],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Each command is said as it stands there, and all come back."""
    monkeypatch.chdir(tmp_path)
    hosts = Hosts(capsys)
    numbers = itertools.count(1)
    for kinds in (["mtty-1"], ["mtty-2"], ["mtty-1", "mtty-2"]):
        mdevs = [builders.uuid(next(numbers)) for _ in kinds]
        for mdev, kind in zip(mdevs, kinds, strict=True):
            hosts.hosts[0].add_mdev(mdev, kind)
        number = next(numbers)
        hosts.hosts[0].add_guest(
            f"web-{number}", builders.instance(number), mdevs
        )
    counts = []

    for words in pages.commands("operators.rst", "Emptying a host"):
        hosts.run(*words)
        counts.append((words[0], hosts.guests()))

    assert [name for name, _ in counts] == ["doctor"] * 2 + ["drain"] * 4
    assert counts[2] == ("drain", [3, 0, 0])
    assert counts[3][1][0] == 0
    assert counts[5] == ("drain", [3, 0, 0])
    assert hosts.group.violations() == []
