# SPDX-License-Identifier: Apache-2.0
"""The commands of ``tools/cloud``."""

import argparse
import json
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from labhost import agent, lab, needs, terminal
from labhost.failure import LabError
from labhost.layout import HOSTS

from cloudlab import hosts, results, state, whole
from cloudlab.layout import (
    PASSWORD,
    PYTHON,
    REGION,
    RELEASES,
    TOP,
    USER,
    WorkFolder,
)
from cloudlab.state import Running

TEST_LIMIT_S = 5400
#: Instead of what suits tests that are over in no time.
_PYTEST = (
    "--override-ini=addopts=-ra --strict-markers",
    # Longer than the longest wait within.
    "--override-ini=timeout=1300",
)
#: What fits in a quarter of an hour: there and back, a refusal, two guests
#: and one available mdev, three failures, and the check before an upgrade.
_SHORT = (
    "tests/cloud/test_journeys.py::test_a_guest_goes_there_and_back[one]",
    "tests/cloud/test_refusals.py::test_a_full_parent",
    "tests/cloud/test_races.py::test_two_guests_and_one_available_mdev",
    *(
        f"tests/cloud/test_failures.py::test_{name}"
        for name in (
            *("a_dead_qemu_of_the_destination", "an_abort"),
            "a_dead_libvirtd_of_the_source",
        )
    ),
    "tests/cloud/test_status.py",
)
#: What is for hosts of two releases, and the rest.
_MIXED = "tests/cloud/test_mixed.py"
_USUAL = ("tests/cloud", f"--ignore={_MIXED}")
#: Exit status for "nothing was wrong, but it cannot be run here".
SKIPPED = 77
_PROGRAMS = ("mariadbd", "mariadb-install-db", "rabbitmq-server", "epmd")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    # As an interrupt does: what was started is ended, and remembered.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options, pytests = _parser().parse_known_args(arguments)
    if pytests and options.run is not _test:
        _parser().parse_args(arguments)
    options.pytests = pytests
    try:
        return int(options.run(WorkFolder.default(), options) or 0)
    except LabError as exc:
        terminal.say(str(exc))
        return 1


def _build(work: WorkFolder, options: argparse.Namespace) -> None:
    needs.check(_PROGRAMS)
    with work.lock():
        whole.build(work, options.release, _computes(options))


def _up(work: WorkFolder, options: argparse.Namespace) -> int:
    needs.check(_PROGRAMS)
    with work.lock():
        whole.up(work, options.release, _computes(options))
    return _status(work, options)


def _down(work: WorkFolder, _: argparse.Namespace) -> None:
    with work.lock():
        whole.down(work)


def _status(work: WorkFolder, options: argparse.Namespace) -> int:
    cloud = state.load(work)
    if cloud is None:
        _print("no cloud was started")
        return 1
    described = _describe(work, cloud)
    if getattr(options, "json", False):
        _print(json.dumps(described, indent=2))
    else:
        _print(_lines(described))
    return 0 if whole.is_whole(work, cloud) else 1


def _exec(work: WorkFolder, options: argparse.Namespace) -> int:
    words = options.words
    script = words[0] if len(words) == 1 else shlex.join(words)
    host = lab.running(work.hosts, options.host)
    answer = agent.run(host, script, options.limit)
    sys.stdout.write(answer.stdout)
    sys.stderr.write(answer.stderr)
    return answer.status


def _results(work: WorkFolder, _: argparse.Namespace) -> None:
    sys.stdout.write(results.table(results.read(work)))


def _test(work: WorkFolder, options: argparse.Namespace) -> int:
    obstacles = needs.obstacles(_PROGRAMS)
    if not shutil.which(PYTHON):
        obstacles.append(f"not installed: {PYTHON}")
    if obstacles:
        terminal.say(f"skipped: {'; '.join(obstacles)}")
        return SKIPPED
    every = options.release == "all"
    if options.compute and (
        every or options.release in dict(options.compute).values()
    ):
        raise LabError("--compute is for a host with another release")
    releases = RELEASES if every else (options.release,)
    words = [*(_SHORT if options.short else ()), *options.pytests]
    if not any(word.startswith("tests/cloud") for word in words):
        words += [_MIXED] if options.compute else _USUAL
    ends = [
        _test_on(work, each, _computes(options, each), words)
        for each in releases
    ]
    return max(map(abs, ends))


def _computes(
    options: argparse.Namespace, release: str | None = None
) -> dict[str, str]:
    """Return the release of each host."""
    usual = dict.fromkeys(HOSTS, release or options.release)
    return usual | dict(options.compute)


def _test_on(
    work: WorkFolder,
    release: str,
    computes: Mapping[str, str],
    words: Sequence[str],
) -> int:
    """Test one release, with no other command meanwhile.

    A cloud that was up before is left up. One that could not be started or
    tested does not keep other releases from their turn.
    """
    with work.lock():
        cloud = state.load(work)
        was_up = cloud is not None and whole.is_whole(work, cloud)
        try:
            whole.up(work, release, computes)
            return subprocess.run(
                [sys.executable, "-m", "pytest", *_PYTEST, *words],
                cwd=TOP,
                timeout=TEST_LIMIT_S,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            terminal.say(f"no end of the tests in {TEST_LIMIT_S} s")
            return 1
        except LabError as exc:
            terminal.say(str(exc))
            return 1
        finally:
            if not was_up:
                whole.down(work)


def _describe(work: WorkFolder, cloud: Running) -> dict[str, Any]:
    """Return what a person or a program needs to use the cloud."""
    running = hosts.running(work)
    return {
        "release": cloud.release,
        "computes": cloud.computes,
        "services": {
            name: process.is_running()
            for name, process in cloud.processes.items()
        },
        "hosts": {
            name: {
                "running": name in running,
                "client_uri": running[name].client_uri
                if name in running
                else None,
            }
            for name in HOSTS
        },
        "client": str(cloud.settings.services / "bin/openstack"),
        "export": credentials(cloud),
    }


def credentials(cloud: Running) -> dict[str, str]:
    """Return the variables that the ``openstack`` client reads."""
    return {
        "OS_AUTH_URL": cloud.settings.url("identity") + "/v3",
        "OS_USERNAME": USER,
        "OS_PASSWORD": PASSWORD,
        "OS_PROJECT_NAME": USER,
        "OS_USER_DOMAIN_ID": "default",
        "OS_PROJECT_DOMAIN_ID": "default",
        "OS_REGION_NAME": REGION,
        "OS_IDENTITY_API_VERSION": "3",
        "OS_COMPUTE_API_VERSION": "2.95",
    }


def _lines(described: dict[str, Any]) -> str:
    down = [name for name, runs in described["services"].items() if not runs]
    lines = [
        f"Nova {described['release']}: "
        + (f"down: {', '.join(down)}" if down else "all services run")
    ]
    for name, host in described["hosts"].items():
        where = host["client_uri"] if host["running"] else "is down"
        release = described["computes"][name]
        lines.append(f"host {name}: Nova {release}, {where}")
    lines.append("to use it:")
    for name, value in described["export"].items():
        lines.append(f"  export {name}={value}")
    lines.append(f"  alias openstack={described['client']}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/cloud",
        allow_abbrev=False,
        description="An OpenStack with two hosts whose guests have mdevs.",
        epilog="MDEV_CLOUD_DIR names the work folder (default: .cloud).",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = _add(commands, "build", _build, "make all that a cloud needs")
    _add_release(build, *RELEASES)
    up = _add(commands, "up", _up, "start all, and wait")
    _add_release(up, *RELEASES)
    _add(commands, "down", _down, "stop all and drop what was written")
    status = _add(commands, "status", _status, "say what runs, and how to use")
    status.add_argument("--json", action="store_true")
    run = _add(commands, "exec", _exec, "run a command inside a host")
    run.add_argument("--limit", type=int, default=60, help="seconds")
    run.add_argument("host", choices=sorted(HOSTS))
    run.add_argument("words", nargs="+", metavar="COMMAND")
    text = "print how each scenario ended last, by release, as CSV"
    _add(commands, "results", _results, text)
    text = "run tests/cloud; other arguments are for pytest"
    test = _add(commands, "test", _test, text)
    _add_release(test, *RELEASES, "all")
    text = "only what fits in a quarter of an hour"
    test.add_argument("--short", action="store_true", help=text)
    return parser


def _add(commands: Any, name: str, run: Any, text: str) -> Any:
    parser = commands.add_parser(
        name, help=text, description=text, allow_abbrev=False
    )
    parser.set_defaults(run=run)
    return parser


def _add_release(parser: argparse.ArgumentParser, *releases: str) -> None:
    text = "release of Nova (default: %(default)s)"
    parser.add_argument(
        "--release", choices=releases, default=RELEASES[0], help=text
    )
    parser.add_argument(
        "--compute",
        action="append",
        default=[],
        type=_compute,
        metavar="HOST=RELEASE",
        help="a host with another release than the rest, as a=28.3.1",
    )


def _compute(text: str) -> tuple[str, str]:
    host, _, release = text.partition("=")
    if host not in HOSTS or release not in RELEASES:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no host ({', '.join(HOSTS)}) and release"
            f" ({', '.join(RELEASES)})"
        )
    return host, release


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
