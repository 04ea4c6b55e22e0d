# SPDX-License-Identifier: Apache-2.0
"""How the command is called, and what it is like for wrong calls."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping

import click
import pytest

import mdev_migrate
from mdev_migrate import libvirt_host
from mdev_migrate.cli import commands, main, options, output
from tests.functional.conftest import World

COMMAND = (sys.executable, "-m", "mdev_migrate.cli")


def run(
    *args: str, env: Mapping[str, str] | None = None, **how: int
) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own."""
    return subprocess.run(  # noqa: S603 - our own command
        [*COMMAND, *args],
        capture_output=not how,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **(env or {})},
        **how,
    )


def load(name: str) -> click.Command:
    """Return a command."""
    command = commands.cli.get_command(click.Context(commands.cli), name)
    assert command is not None
    return command


class TestUsage:
    @pytest.mark.parametrize(
        "args",
        [
            ("check",),
            ("check", "vm"),
            ("check", "vm", "--to", ""),
            ("check", "", "--to", "qemu:///system"),
            ("check", "\udcff", "--to", "qemu:///system"),
            ("frobnicate",),
            ("list", "too", "much"),
            ("list", "--bogus"),
            ("list", "--connect"),
            ("migrate", "vm", "--to", "x", "--max-downtime", "0"),
            ("migrate", "vm", "--to", "x", "--max-downtime", "2000001"),
            ("migrate", "vm", "--to", "x", "--bandwidth", "-1"),
            ("migrate", "vm", "--to", "x", "--bandwidth", "9e9"),
            ("migrate", "vm", "--to", "x", "--timeout", "0"),
            ("migrate", "vm", "--to", "x", "--timeout", "nan"),
            ("migrate", "vm", "--to", "x", "--timeout", "inf"),
            ("migrate", "vm", "--to", "x", "--timeout", "soon"),
        ],
    )
    def test_wrong_call(self, world: World, args: tuple[str, ...]):
        """A wrong call has exit code 2, one error line and a hint."""
        answer = world.call(*args)

        said = answer.err.splitlines()
        assert (answer.code, answer.out) == (2, "")
        assert [line.split(": ")[0] for line in said] == [
            "error",
            "hint",
            "code",
        ]
        assert said[-1] == "code: usage"

    @pytest.mark.parametrize(
        "args", [("--json",), ("--json", "check"), ("list", "--x", "--json")]
    )
    def test_wrong_call_by_a_program(self, world: World, args):
        """A program learns in JSON that its call is wrong."""
        answer = world.call(*args)

        error = answer.json["error"]
        assert (answer.code, answer.err) == (2, "")
        assert answer.json.keys() == {"error"}
        assert error.keys() == {"code", "step", "message", "hint"}
        assert (error["code"], error["step"]) == ("usage", None)

    def test_json_after_the_end_of_options_is_no_option(self, world: World):
        """What stands after '--' is a guest, whatever it is called."""
        answer = world.call("list", "--", "--json")

        assert (answer.code, answer.out) == (2, "")

    def test_no_command(self, world: World):
        """Who calls it without anything is shown the help."""
        answer = world.call()

        assert (answer.code, answer.out) == (2, "")
        assert "Exit codes:" in answer.err

    def test_bug(self, world: World):
        """A bug is one line that asks to report it; exit code 1."""

        def broken(_link: object, _call: object) -> str:
            raise ZeroDivisionError("oops")

        world.group.faults.on("listAllDomains", broken)

        answer = world.run("list")

        assert (answer.code, answer.out) == (1, "")
        assert answer.err.startswith("error: ZeroDivisionError: oops\nhint: ")
        assert answer.err.endswith("code: internal-error\n")

    def test_bug_in_json_with_details(self, world: World):
        """A program gets JSON all the same, --verbose the traceback."""

        def broken(_link: object, _call: object) -> str:
            raise ZeroDivisionError("oops")

        world.group.faults.on("listAllDomains", broken)

        answer = world.run("list", "--json", "-v")

        assert answer.code == 1
        assert answer.json["error"]["code"] == "internal-error"
        assert "Traceback (most recent call last)" in answer.err


class TestOptions:
    def test_shared_options_before_and_after(self, world: World):
        """--connect and --json mean the same on both sides of a name."""
        before = world.call("--json", "-c", world.here, "-v", "list")
        after = world.call("list", "--json", "-c", world.here, "-v")

        assert before == after
        assert before.json["host"] == "host-a"

    def test_the_nearer_uri_holds(self, world: World):
        """A URI after the command's name wins over one before it."""
        answer = world.run("list", "-c", world.there, "--json")

        assert answer.json["host"] == "host-b"

    def test_uri_from_the_environment(self, monkeypatch):
        """As for virsh: its own variable, libvirt's, qemu:///system."""
        for variable in options.URI_VARIABLES:
            monkeypatch.delenv(variable, raising=False)
        settings = options.Settings()

        found = [settings.source_uri]
        monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "test:///default")
        found.append(settings.source_uri)
        monkeypatch.setenv("VIRSH_DEFAULT_CONNECT_URI", "test:///own")
        found.append(settings.source_uri)

        assert found == ["qemu:///system", "test:///default", "test:///own"]

    @pytest.mark.parametrize("name", commands.COMMANDS)
    def test_every_option_is_explained(self, name: str):
        """No command has an option without a help text."""
        parameters = load(name).params

        unexplained = [
            each.name
            for each in parameters
            if isinstance(each, click.Option) and not each.help
        ]
        assert unexplained == []

    @pytest.mark.parametrize("name", commands.COMMANDS)
    def test_list_of_commands_says_what_they_say(self, name: str):
        """A command is listed, unloaded, with the first line of its help."""
        command = load(name)

        about = (command.help or "").split("\n\n")[0]
        assert (command.name, about) == (name, commands.COMMANDS[name].about)

    def test_list_of_commands(self, world: World):
        """The help lists every command, in the order of their use."""
        answer = world.call("--help")

        _, section = answer.out.split("Commands:\n")
        listed = [
            line.split()[0]
            for line in section.split("\n\n")[0].splitlines()
            if not line.startswith("   ")
        ]
        assert listed == list(commands.COMMANDS)

    def test_help(self, world: World):
        """The help of a command says units and defaults."""
        answer = world.call("migrate", "--help")

        assert (answer.code, answer.err) == (0, "")
        for word in ("milliseconds", "MiB/s", "300 ms", "no limit"):
            assert word in answer.out

    def test_version(self, world: World):
        """The version is one line, and the library's own."""
        answer = world.call("--version")

        said = f"mdev-migrate {mdev_migrate.__version__}\n"
        assert (answer.code, answer.out) == (0, said)


class TestProcess:
    def test_demo_json(self):
        """The demonstration works from a shell, and stdout is JSON only."""
        done = run("demo", "--json")

        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["result"] == "migrated"

    def test_real_libvirt_that_is_not_there(self):
        """libvirt's own error is told; nothing else is on stderr."""
        done = run("types", "-c", "qemu+tcp://127.0.0.1:1/system")

        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.startswith("error: cannot reach qemu+tcp://")
        assert len(done.stderr.splitlines()) == 3

    def test_real_libvirt_that_is(self):
        """libvirt's test driver is a host without parents."""
        done = run(
            "list", "--json", env={"LIBVIRT_DEFAULT_URI": "test:///default"}
        )

        assert done.returncode == 0
        assert json.loads(done.stdout)["mdevs"] == []

    def test_without_its_extra(self):
        """Without click it says in one line what to install."""
        done = run_after("sys.modules['click'] = None", "list")

        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert "mdev-migrate[cli]" in done.stderr

    @pytest.mark.parametrize("word", ["--help", "--version"])
    def test_nothing_is_loaded_to_be_asked_for_help(self, word: str):
        """Help and version need neither libvirt nor lxml nor workflow."""
        heavy = ("libvirt", "lxml", "mdev_migrate.workflow")
        done = run_after(f"sys.modules |= dict.fromkeys({heavy})", word)

        assert (done.returncode, done.stderr) == (0, "")

    def test_library_leaves_the_process_alone(self):
        """A program keeps its own event loop and error handler."""
        done = run_python(
            "import libvirt; taken = []; "
            "libvirt.virEventRegisterDefaultImpl = taken.append; "
            "libvirt.registerErrorHandler = taken.append; "
            "from mdev_migrate.libvirt_host import LibvirtHost; "
            "LibvirtHost.open('test:///default').close(); "
            "import threading; "
            "print(taken, threading.active_count())"
        )

        assert done.stdout == "[] 1\n"

    @pytest.mark.parametrize("words", [("list",), ("list", "--json")])
    def test_without_the_library_of_libvirt(self, words: tuple[str, ...]):
        """A missing libvirt.so is told as that, not as a missing extra."""
        done = run_after("sys.modules['libvirtmod'] = None", *words)

        said = done.stdout + done.stderr
        assert done.returncode == 2
        assert "libvirt0" in said
        assert "not-installed" in said
        assert "[cli]" not in said
        assert "Traceback" not in said

    def test_closed_pipe(self):
        """Who stops reading is not told so; the exit code stays."""
        reader, writer = os.pipe()
        errors, told = os.pipe()
        os.close(reader)
        done = run("demo", stdout=writer, stderr=told)
        os.close(writer)
        os.close(told)
        with os.fdopen(errors) as stream:
            said = stream.read()

        assert done.returncode == 0
        assert "Error" not in said

    def test_full_disk(self):
        """An answer that cannot be written is not lost in silence."""
        errors, told = os.pipe()
        with open("/dev/full", "w") as full:
            done = run("--json", "demo", stdout=full.fileno(), stderr=told)
        os.close(told)
        with os.fdopen(errors) as stream:
            said = stream.read()

        assert done.returncode == 0
        assert said == (
            "error: cannot write the answer: No space left on device\n"
        )

    @pytest.mark.parametrize("how", [(), ("--json",)])
    @pytest.mark.parametrize(
        "command",
        [
            ("types",),
            ("list",),
            ("claims",),
            ("recover", "--dry-run"),
            ("drain", "--dry-run", "--to", "test:///default"),
        ],
    )
    def test_full_disk_and_nothing_else_done(self, command, how):
        """An answer that is all there is, and is lost, is no success."""
        errors, told = os.pipe()
        with open("/dev/full", "w") as full:
            done = run(
                *("-c", "test:///default", *command, *how),
                stdout=full.fileno(),
                stderr=told,
            )
        os.close(told)
        with os.fdopen(errors) as stream:
            said = stream.read()

        assert done.returncode == 1
        assert "cannot write the answer: No space left on device" in said

    @pytest.mark.parametrize("words", [("--version",), ("list", "--help")])
    def test_full_disk_is_no_bug(self, words):
        """Help that cannot be written is not called a bug."""
        errors, told = os.pipe()
        with open("/dev/full", "w") as full:
            done = run(*words, stdout=full.fileno(), stderr=told)
        os.close(told)
        with os.fdopen(errors) as stream:
            said = stream.read()

        assert done.returncode == 1
        assert said == (
            "error: cannot write the answer: No space left on device\n"
        )

    @pytest.mark.parametrize(
        "words", [("--version",), ("list", "--help"), ("types",)]
    )
    def test_no_stdout(self, words):
        """Who has closed it before is told so, and there is no exit code 0."""
        done = run_in_shell('exec "$@" >&-', *words)

        assert (done.returncode, done.stderr) == (
            1,
            "error: cannot write the answer: Bad file descriptor\n",
        )

    def test_no_stdout_for_what_was_done(self):
        """The exit code is that of the work, and the loss is told."""
        done = run_in_shell('exec "$@" >&-', "demo", "--json")

        assert (done.returncode, done.stderr) == (
            0,
            "error: cannot write the answer: Bad file descriptor\n",
        )

    def test_neither_stdout_nor_stderr(self):
        """There is nobody to be told, but a shell to look at the code."""
        assert run_in_shell('exec "$@" >&- 2>&-', "types").returncode == 1

    @pytest.mark.parametrize(
        "words", [("--version",), ("list", "--help"), ("types",)]
    )
    def test_reader_that_has_read_enough(self, words):
        """As of a command that SIGPIPE ends: quiet, and 141 in a shell."""
        reader, writer = os.pipe()
        errors, told = os.pipe()
        os.close(reader)
        done = run("-c", "test:///default", *words, stdout=writer, stderr=told)
        os.close(writer)
        os.close(told)
        with os.fdopen(errors) as stream:
            said = stream.read()

        assert (done.returncode, said) == (141, "")

    def test_terminal(self):
        """On a terminal there are rules, colours and a live line."""
        code, said = run_on_terminal(columns=130)

        assert code == 0
        assert " left, limit 300 ms, " in said
        assert "\x1b[32mpassed" in said
        assert "─" in said

    def test_narrow_terminal(self):
        """No UUID is cut where a table does not fit."""
        code, said = run_on_terminal(columns=70)

        assert code == 0
        assert "TARGET MDEV  66666666-6666-4666-8666-666666666661\r\n" in said


def run_in_shell(how: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the command, as ``"$@"``, by a line of a shell's."""
    return subprocess.run(  # noqa: S603 - our own command
        [
            *("sh", "-c", how, "sh"),
            *(sys.executable, "-m", "mdev_migrate.cli"),
            *("-c", "test:///default", *args),
        ],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


def run_after(before: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process in which something happened before."""
    return run_python(
        f"import sys; {before}; "
        f"from mdev_migrate.cli import main; main.main({list(args)})"
    )


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own."""
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def run_on_terminal(*, columns: int) -> tuple[int, str]:
    """Run the demonstration on a terminal; return exit code and words."""
    try:
        terminal, side = pty.openpty()
    except OSError as error:
        pytest.skip(f"there are no terminals here: {error}")
    with subprocess.Popen(  # noqa: S603 - our own command
        [*COMMAND, "demo"],
        stdout=side,
        stderr=side,
        env={**os.environ, "TERM": "xterm", "COLUMNS": f"{columns}"},
    ) as process:
        os.close(side)
        said = read_all(terminal)
    return process.returncode, said


def read_all(terminal: int) -> str:
    """Read what is written to a terminal until its last user is gone."""
    said = b""
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:
            chunk = b""
        if not chunk:
            os.close(terminal)
            return said.decode()
        said += chunk


class TestWords:
    def test_one_line(self):
        """Text of others cannot break lines or move the cursor."""
        assert output.one_line("a\n b\x1b[2J\udcff") == "a b?[2J?"

    def test_main_needs_nothing_but_arguments(self, capsys):
        """Called without hosts it uses libvirt."""
        with pytest.raises(SystemExit) as exited:
            main.main(["-c", "test:///default", "list"])

        assert exited.value.code == 0
        assert "has no mdevs" in capsys.readouterr().out
        assert libvirt_host.own_process.cache_info().currsize == 1
