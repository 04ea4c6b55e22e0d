# SPDX-License-Identifier: Apache-2.0
"""Compare ``mdev-migrate migrate`` with ``virsh migrate`` by hand."""

import json
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labhost import agent, terminal
from labhost.failure import LabError
from labhost.layout import TOP
from labhost.state import RunningHost

GUEST = "bench"
TYPES = ("mtty-1", "mtty-2")
_FOLDER = "/sys/devices/virtual/mtty/mtty/mdev_supported_types"
_LIMIT_S = 300.0

#: seconds, downtime in ms, seconds by step (empty for virsh)
Sample = tuple[float, int, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Trip:
    """A way from one host to the other with the mdevs at both ends."""

    source: RunningHost
    to: RunningHost
    mdevs: list[str]
    targets: list[str]


def measure(hosts: Mapping[str, RunningHost], pairs: int) -> dict[str, Any]:
    """Migrate one guest to and fro, by each of the two in turn.

    The targets are there before the clock starts, and are used again.

    :returns: the samples, and what follows from them.
    """
    a, b = (hosts[name] for name in sorted(hosts))
    for host in (a, b):
        _empty(host)
    mdevs, targets = _make_mdevs(a), _make_mdevs(b)
    _start_guest(a, mdevs)
    trip = Trip(a, b, mdevs, targets)
    samples: dict[str, list[Sample]] = {"mdev-migrate": [], "virsh": []}
    ways = {"mdev-migrate": _by_mdev_migrate, "virsh": _by_virsh}
    try:
        for number in range(pairs):
            # The one that begins changes, and so does who goes which way.
            for name in sorted(ways, reverse=bool(number % 2)):
                sample = ways[name](trip)
                samples[name].append(sample)
                terminal.say(f"pair {number + 1}, {name}: {sample[0]:.2f} s")
                trip = Trip(trip.to, trip.source, trip.targets, trip.mdevs)
    finally:
        for host in (a, b):
            _empty(host)
    return _conclude(samples)


def table(found: dict[str, Any]) -> str:
    """Return what was found as a table for people."""
    lines = [f"{'':28}{'min':>9}{'median':>9}{'max':>9}"]
    for title, spread in found["spreads"].items():
        numbers = "".join(f"{number:9.3f}" for number in spread)
        lines.append(f"{title:28}{numbers}")
    return "\n".join(lines)


# Both ways ------------------------------------------------------------


def _by_mdev_migrate(trip: Trip) -> Sample:
    command = [
        *(sys.executable, "-m", "mdev_migrate.cli", "migrate", GUEST),
        *("-c", trip.source.client_uri, "--to", trip.to.client_uri),
        *("--peer-uri", trip.to.peer_uri),
        *("--migrate-uri", trip.to.migrate_uri, "--json"),
    ]
    seconds, output = _timed(command)
    answer = json.loads(output)
    used = set(answer["target_mdevs"].values())
    if used != set(trip.targets):
        raise LabError(f"mdev-migrate used {used}, not {trip.targets}")
    return seconds, answer["downtime_ms"], answer["steps"]


def _by_virsh(trip: Trip) -> Sample:
    with tempfile.TemporaryDirectory() as folder:
        live, inactive = Path(folder) / "live", Path(folder) / "inactive"
        live.write_text(_rewritten(trip, "--migratable"))
        inactive.write_text(_rewritten(trip, "--inactive"))
        command = [
            *("virsh", "-q", "-c", trip.source.client_uri, "migrate", GUEST),
            *(trip.to.peer_uri, trip.to.migrate_uri, "--live", "--p2p"),
            *("--persistent", "--undefinesource", "--xml", str(live)),
            *("--persistent-xml", str(inactive)),
        ]
        seconds, _ = _timed(command)
    info = _virsh(trip.to, "domjobinfo", GUEST, "--completed", "--rawstats")
    words = dict(line.split(":", 1) for line in info.splitlines() if line)
    return seconds, int(words["downtime"]), {}


def _rewritten(trip: Trip, kind: str) -> str:
    text = _virsh(trip.source, "dumpxml", GUEST, "--security-info", kind)
    for mdev, target in zip(trip.mdevs, trip.targets, strict=True):
        text = text.replace(mdev, target)
    return text


def _timed(command: Sequence[str]) -> tuple[float, str]:
    began = time.monotonic()
    output = _run(command)
    return time.monotonic() - began, output


def _run(command: Sequence[str]) -> str:
    result = subprocess.run(
        command,
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    if result.returncode:
        raise LabError(f"{command[:6]}: {result.stdout}{result.stderr}")
    return result.stdout


def _virsh(host: RunningHost, *words: str) -> str:
    return _run(["virsh", "-q", "-c", host.client_uri, *words])


# The stage ------------------------------------------------------------


def _inside(host: RunningHost, script: str) -> str:
    answer = agent.run(host, f"set -e\n{script}")
    if answer.status:
        raise LabError(f"{script}: {answer.stdout}{answer.stderr}")
    return answer.stdout


def _empty(host: RunningHost) -> None:
    """End the guest of an earlier run, and remove all unused mdevs."""
    others = _virsh(host, "list", "--all", "--name").split()
    if set(others) - {GUEST}:
        raise LabError(f"host {host.name} has guests: {others}")
    running = _virsh(host, "list", "--name").split()
    if running:
        _virsh(host, "destroy", GUEST)
    if others:
        _virsh(host, "undefine", GUEST)
    _inside(
        host,
        "for mdev in /sys/bus/mdev/devices/*; do\n"
        '    [ ! -e "$mdev" ] || echo 1 >"$mdev/remove"\n'
        "done",
    )
    _wait_for_mdevs(host, lambda listed: not listed)


def _make_mdevs(host: RunningHost) -> list[str]:
    uuids = [str(uuid.uuid4()) for _ in TYPES]
    for mdev, mdev_type in zip(uuids, TYPES, strict=True):
        _inside(host, f"echo {mdev} >{_FOLDER}/{mdev_type}/create")
    _wait_for_mdevs(host, lambda listed: len(listed) == len(TYPES))
    return uuids


def _wait_for_mdevs(
    host: RunningHost, check: Callable[[list[str]], bool]
) -> None:
    terminal.wait_for(
        f"list of mdevs of host {host.name}",
        lambda: check(_virsh(host, "nodedev-list", "--cap", "mdev").split()),
        60,
    )


def _start_guest(host: RunningHost, mdevs: list[str]) -> None:
    guests = runpy.run_path(str(TOP / "tests/lab/guests.py"))
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(guests["guest_xml"](GUEST, mdevs, dirty_mib=4))
        file.flush()
        _virsh(host, "define", file.name)
    _virsh(host, "start", GUEST)
    log = guests["serial_log"](GUEST)
    terminal.wait_for(
        "report of the guest program",
        lambda: "ok" in _inside(host, f"cat {log} || true"),
        60,
    )


# What follows ---------------------------------------------------------


def _conclude(samples: dict[str, list[Sample]]) -> dict[str, Any]:
    ours, virsh = samples["mdev-migrate"], samples["virsh"]
    both = list(zip(ours, virsh, strict=True))
    steps = list(ours[0][2])
    numbers: dict[str, list[float]] = {
        "mdev-migrate, s": [sample[0] for sample in ours],
        "virsh migrate, s": [sample[0] for sample in virsh],
        "ratio of times": [one[0] / other[0] for one, other in both],
        "mdev-migrate, downtime ms": [sample[1] for sample in ours],
        "virsh migrate, downtime ms": [sample[1] for sample in virsh],
        "ratio of downtimes": [
            one[1] / max(other[1], 1) for one, other in both
        ],
        **{
            f"step {step}, s": [sample[2][step] for sample in ours]
            for step in steps
        },
        "all but migrate, s": [
            sample[0] - sample[2]["migrate"] for sample in ours
        ],
    }
    return {
        "pairs": len(both),
        "samples": numbers,
        "spreads": {
            title: (min(found), statistics.median(found), max(found))
            for title, found in numbers.items()
        },
    }
