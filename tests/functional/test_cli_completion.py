# SPDX-License-Identifier: Apache-2.0
"""What a shell offers while a call of the command is typed."""

import configparser
import os
import pathlib
import shutil
import subprocess
import sys
import threading

import pytest

from mdev_migrate import exception
from mdev_migrate.cli import completion, main, session

TOP = pathlib.Path(__file__).parents[2]
SHARE = TOP / "share"
#: libvirt's own test driver, within the process: it has one guest, "test".
TEST_HOST = "test:///default"


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    """The command, as a program that a shell finds."""
    program = tmp_path / "mdev-migrate"
    program.write_text(
        f"#!/bin/sh\nexec '{sys.executable}' -m mdev_migrate.cli \"$@\"\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(TOP))
    monkeypatch.delenv("VIRSH_DEFAULT_CONNECT_URI", raising=False)
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", TEST_HOST)


def shell(name, *args):
    """Return what a shell prints, and that it complains of nothing."""
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"there is no {name}")
    done = subprocess.run(  # noqa: S603 - a shell with our own script
        [program, *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout.split()


def in_bash(line):
    """Return what bash offers at the end of a line."""
    script = (
        f"source '{SHARE}/bash-completion/completions/mdev-migrate'\n"
        "COMP_LINE=$1 COMP_POINT=${#1}\n"
        "_mdev_migrate mdev-migrate\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    return shell("bash", "-c", script, "bash", line)


@pytest.mark.usefixtures("on_path")
class TestShells:
    def test_bash_offers_commands(self):
        """The first word is a command."""
        assert "migrate" in in_bash("mdev-migrate ")

    def test_bash_offers_options(self):
        """A dash begins an option of the command."""
        assert "--to" in in_bash("mdev-migrate check -")

    def test_bash_offers_guests(self):
        """The guests are those of the host that they leave."""
        assert in_bash("mdev-migrate migrate te") == ["test"]

    def test_bash_offers_guests_to_drain(self):
        """Guests are also what --only and --except name."""
        assert in_bash("mdev-migrate drain --only te") == ["test"]
        assert in_bash("mdev-migrate drain --except te") == ["test"]

    def test_bash_knows_a_uri(self):
        """The colons of a URI do not end its word."""
        line = "mdev-migrate -c test:///default migrate --to test:///x t"

        assert in_bash(line) == ["test"]

    def test_bash_without_the_host(self):
        """A host that cannot be reached offers nothing, and says nothing."""
        line = "mdev-migrate -c qemu+unix:///system?socket=/nowhere check "

        assert in_bash(line) == []

    def test_fish_offers_guests(self):
        """Fish offers what bash does."""
        script = SHARE / "fish/vendor_completions.d/mdev-migrate.fish"
        ask = f"source {script}; complete -C 'mdev-migrate migrate te'"

        assert shell("fish", "--no-config", "-c", ask) == ["test"]


class TestGuests:
    def complete(self, names, capsys, monkeypatch, *words):
        """Return what is offered if guests are named by a function."""
        monkeypatch.setenv("COMP_WORDS", " ".join(("mdev-migrate", *words)))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        monkeypatch.setenv("_MDEV_MIGRATE_COMPLETE", "bash_complete")
        environment = session.Environment(guest_names=names)
        with pytest.raises(SystemExit):
            main.main([], obj=environment)
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out.split()

    def test_ssh_asks_for_no_password(self, capsys, monkeypatch):
        """A shell that completes a line is no place to type a password."""
        asked = []
        call = ("-c", "qemu+ssh://gpu-1/system?keyfile=k", "check", "w")

        self.complete(
            lambda uri: asked.append(uri) or [], capsys, monkeypatch, *call
        )

        assert asked == ["qemu+ssh://gpu-1/system?keyfile=k&no_tty=1"]

    def test_slow_host(self, capsys, monkeypatch):
        """A host that does not answer soon has no guests to offer."""
        monkeypatch.setattr(completion, "_PATIENCE_S", 0.01)
        answered = threading.Event()

        offered = self.complete(
            lambda uri: answered.wait(30) and ["web"],
            capsys,
            monkeypatch,
            "check",
            "w",
        )
        answered.set()

        assert offered == []

    def test_host_out_of_reach(self, capsys, monkeypatch):
        """An error is no answer, and not told in the middle of a line."""

        def fail(uri):
            raise exception.HostUnreachable(uri, "no route")

        assert self.complete(fail, capsys, monkeypatch, "check", "w") == []


def test_all_is_installed():
    """What is in share/ is installed into the same folders."""
    setup = configparser.ConfigParser()
    setup.read(TOP / "setup.cfg")

    named = {
        TOP / path
        for paths in setup["options.data_files"].values()
        for path in paths.split()
    }

    assert named == {path for path in SHARE.rglob("*") if path.is_file()}
