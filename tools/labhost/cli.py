# SPDX-License-Identifier: Apache-2.0
"""The commands of ``tools/lab``."""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from labhost import agent, bench, lab, monitor, needs, state, terminal
from labhost.failure import LabError
from labhost.layout import HOSTS, KNOWN, TOP, WorkFolder

TEST_LIMIT_S = 2200
#: Instead of what suits tests that are over in no time.
_PYTEST = (
    "--override-ini=addopts=-ra --strict-markers",
    "--override-ini=faulthandler_timeout=300",
)
#: Exit status for "nothing was wrong, but it cannot be run here".
SKIPPED = 77


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    ours, pytests = _split(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(ours)
    options.pytests = pytests
    try:
        return int(options.run(WorkFolder.default(), options) or 0)
    except LabError as exc:
        terminal.say(str(exc))
        return 1


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what is for us, and what follows ``test`` and is for pytest."""
    words = [*arguments]
    if words[:1] != ["test"] or words[1:] in (["-h"], ["--help"]):
        return words, []
    return words[:1], words[1 + (words[1:2] == ["--"]) :]


def _build(work: WorkFolder, _: argparse.Namespace) -> None:
    with work.lock():
        built = lab.build(work)
    _print(str(built.path))


def _up(work: WorkFolder, options: argparse.Namespace) -> None:
    with work.lock():
        lab.up(work, names=options.hosts or tuple(HOSTS))
    _status(work, options)


def _down(work: WorkFolder, options: argparse.Namespace) -> None:
    with work.lock():
        lab.down(work, options.hosts or tuple(KNOWN))


def _reset(work: WorkFolder, options: argparse.Namespace) -> None:
    with work.lock():
        lab.reset(work, options.host, keep_disk=options.keep_disk)


def _status(work: WorkFolder, options: argparse.Namespace) -> int:
    hosts = state.load(work)
    described = [lab.describe(host) for host in hosts.values()]
    if getattr(options, "json", False):
        _print(json.dumps({"hosts": described}, indent=2))
    else:
        _print(_table(described) or "no host was started")
    ready = {host["name"] for host in described if host["running"]}
    return 0 if ready >= HOSTS.keys() else 1


def _exec(work: WorkFolder, options: argparse.Namespace) -> int:
    words = options.words
    host = lab.running(work, options.host)
    script = words[0] if len(words) == 1 else shlex.join(words)
    answer = agent.run(host, script, options.limit)
    sys.stdout.write(answer.stdout)
    sys.stderr.write(answer.stderr)
    return answer.status


def _link(work: WorkFolder, options: argparse.Namespace) -> None:
    host = lab.running(work, options.host)
    up = options.state == "up"
    folder = Path(host.folder)
    monitor.execute(folder, "set_link", name="link-card", up=up)


def _test(work: WorkFolder, options: argparse.Namespace) -> int:
    python = [sys.executable, "-m", "pytest"]
    named = any(word.startswith("tests/lab") for word in options.pytests)
    where = [] if named else ["tests/lab"]
    command = [*python, *_PYTEST, *where, *options.pytests]

    def test() -> int:
        return subprocess.run(
            command, cwd=TOP, timeout=TEST_LIMIT_S, check=False
        ).returncode

    try:
        return _with_hosts(work, test)
    except subprocess.TimeoutExpired:
        raise LabError(f"no end of the tests in {TEST_LIMIT_S} s") from None


def _bench(work: WorkFolder, options: argparse.Namespace) -> int:
    def measure() -> int:
        found = bench.measure(state.load(work), options.pairs)
        _print(json.dumps(found) if options.json else bench.table(found))
        return 0

    return _with_hosts(work, measure)


def _with_hosts(work: WorkFolder, act: Callable[[], int]) -> int:
    """Do something on hosts that run; stop them if they did not before."""
    obstacles = needs.obstacles()
    if obstacles:
        terminal.say(f"skipped: {'; '.join(obstacles)}")
        return SKIPPED
    was_up = any(host.is_running() for host in state.load(work).values())
    try:
        with work.lock():
            lab.up(work)
        return act()
    finally:
        if not was_up:
            with work.lock():
                lab.down(work)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/lab",
        description="Two or three libvirt/QEMU hosts with mediated devices.",
        epilog="MDEV_LAB_DIR names the work folder (default: .lab).",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add(commands, "build", _build, "build the hosts' image")
    text = "start the hosts that do not run, and wait; by default, a and b"
    _add_hosts(_add(commands, "up", _up, text))
    text = "stop the hosts and drop their disks; by default, all"
    _add_hosts(_add(commands, "down", _down, text))
    status = _add(commands, "status", _status, "say what runs, and where")
    status.add_argument("--json", action="store_true")
    reset = _add(commands, "reset", _reset, "start one host afresh")
    _add_host(reset)
    reset.add_argument("--keep-disk", action="store_true")
    run = _add(commands, "exec", _exec, "run a command inside a host")
    run.add_argument("--limit", type=int, default=60, help="seconds")
    _add_host(run)
    run.add_argument("words", nargs="+", metavar="COMMAND")
    link = _add(commands, "link", _link, "cut or mend the hosts' link")
    _add_host(link)
    link.add_argument("state", choices=("up", "down"))
    text = "run tests/lab on the hosts; what follows is for pytest"
    _add(commands, "test", _test, text)
    bench_ = _add(commands, "bench", _bench, "compare with virsh migrate")
    bench_.add_argument("--pairs", type=int, default=7)
    bench_.add_argument("--json", action="store_true", help="all samples")
    return parser


def _add(commands: Any, name: str, run: Any, text: str) -> Any:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    return parser


def _add_host(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("host", choices=sorted(KNOWN))


def _add_hosts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("hosts", nargs="*", metavar="HOST", type=_known)


def _known(name: str) -> str:
    """Return the name of a host that there is.

    :raises argparse.ArgumentTypeError: if there is none.
    """
    if name not in KNOWN:
        raise argparse.ArgumentTypeError(f"there is no host {name}")
    return name


def _table(described: list[dict[str, Any]]) -> str:
    names = ("client_uri", "peer_uri", "migrate_uri", "accelerator", "pid")
    return "\n".join(
        f"host {host['name']}: {'runs' if host['running'] else 'is down'}"
        + "".join(f"\n  {name:12} {host[name]}" for name in names)
        for host in described
    )


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
