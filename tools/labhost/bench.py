# SPDX-License-Identifier: Apache-2.0
"""Compare ``mdev-migrate migrate`` with ``virsh migrate`` by hand.

Two series of pairs. In the first the targets are there before either clock
starts, so that both do nothing but move the guest. In the second neither has
any: ``mdev-migrate`` makes them and removes those that the guest has left,
and so does the person with ``virsh``.
"""

import compileall
import itertools
import json
import os
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
from typing import Any, TypeVar

from labhost import agent, terminal
from labhost.failure import LabError
from labhost.layout import TOP
from labhost.state import RunningHost

GUEST = "bench"
TYPES = ("mtty-1", "mtty-2")
_PARENT = "mtty_mtty"
_FOLDER = "/sys/devices/virtual/mtty/mtty/mdev_supported_types"
_LIMIT_S = 300.0

T = TypeVar("T")

#: Above this the machine was too busy for any conclusion: processes that
#: run or want to, on average, when a pair began.
BUSY = 1.5
#: The goal, on a quiet machine: this many times virsh's time, and seconds.
GOAL = (1.02, 0.5)

#: seconds, downtime in ms, seconds by step (empty for virsh)
Sample = tuple[float, int, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Trip:
    """A way from one host to the other with the mdevs at both ends.

    :ivar targets: none if they are yet to be made.
    """

    source: RunningHost
    to: RunningHost
    mdevs: list[str]
    targets: list[str]


def measure(hosts: Mapping[str, RunningHost], pairs: int) -> dict[str, Any]:
    """Migrate one guest to and fro, by each of the two in turn.

    :returns: by series, the samples and what follows from them.
    """
    # As an installation does; else each start would compile all of it anew.
    compileall.compile_dir(TOP / "mdev_migrate", quiet=1)
    return {
        "prepared": _series(hosts, pairs, prepared=True),
        "created": _series(hosts, pairs, prepared=False),
    }


def _series(
    hosts: Mapping[str, RunningHost], pairs: int, *, prepared: bool
) -> dict[str, Any]:
    a, b = (hosts[name] for name in sorted(hosts))
    for host in (a, b):
        _empty(host)
    mdevs = _make_mdevs(a)
    _start_guest(a, mdevs)
    trip = Trip(a, b, mdevs, _make_mdevs(b) if prepared else [])
    samples: dict[str, list[Sample]] = {"mdev-migrate": [], "virsh": []}
    ways = {"mdev-migrate": _by_mdev_migrate, "virsh": _by_virsh}
    loads = []
    try:
        for number in range(pairs):
            loads.append(os.getloadavg()[0])
            # The one that begins changes, and so does who goes which way.
            for name in sorted(ways, reverse=bool(number % 2)):
                sample, targets = ways[name](trip)
                samples[name].append(sample)
                terminal.say(f"pair {number + 1}, {name}: {sample[0]:.2f} s")
                trip = _back(trip, targets, prepared=prepared)
    finally:
        for host in (a, b):
            _empty(host)
    return conclude(samples, loads)


def _back(trip: Trip, targets: list[str], *, prepared: bool) -> Trip:
    """Return the way back from where the guest has come."""
    if prepared:
        return Trip(trip.to, trip.source, targets, trip.mdevs)
    _remove_mdevs(trip.source)
    return Trip(trip.to, trip.source, targets, [])


def table(found: dict[str, Any]) -> str:
    """Return what was found as a table for people."""
    return "\n\n".join(
        f"targets {name}:\n{_table_of(series)}"
        for name, series in found.items()
    )


def _table_of(series: dict[str, Any]) -> str:
    lines = [f"{'':36}{'min':>9}{'median':>9}{'max':>9}"]
    for title, spread in series["spreads"].items():
        numbers = "".join(f"{number:9.3f}" for number in spread)
        lines.append(f"{title:36}{numbers}")
    return "\n".join([*lines, series["conclusion"]])


# Both ways ------------------------------------------------------------


def _by_mdev_migrate(trip: Trip) -> tuple[Sample, list[str]]:
    """Migrate the guest; return the targets in the mdevs' order, too."""
    command = [
        *(sys.executable, "-m", "mdev_migrate.cli", "migrate", GUEST),
        *("-c", trip.source.client_uri, "--to", trip.to.client_uri),
        *("--peer-uri", trip.to.peer_uri),
        *("--migrate-uri", trip.to.migrate_uri, "--json"),
    ]
    seconds, output = _timed(lambda: _run(command))
    answer = json.loads(output)
    used = [answer["target_mdevs"][mdev] for mdev in trip.mdevs]
    if trip.targets and used != trip.targets:
        raise LabError(f"mdev-migrate used {used}, not {trip.targets}")
    return (seconds, answer["downtime_ms"], answer["steps"]), used


def _by_virsh(trip: Trip) -> tuple[Sample, list[str]]:
    """Do the same by hand, without a look at anything."""
    targets = trip.targets or [str(uuid.uuid4()) for _ in TYPES]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rewritten = Trip(trip.source, trip.to, trip.mdevs, targets)
        for kind in ("migratable", "inactive"):
            (folder / kind).write_text(_rewritten(rewritten, f"--{kind}"))
        requests = [] if trip.targets else _write_requests(folder, targets)
        unused = [] if trip.targets else _list_mdevs(trip.source)

        def by_hand() -> None:
            for request in requests:
                _virsh(trip.to, "nodedev-create", str(request))
            _virsh(
                trip.source,
                *("migrate", GUEST, trip.to.peer_uri, trip.to.migrate_uri),
                *("--live", "--p2p", "--persistent", "--undefinesource"),
                *("--xml", str(folder / "migratable")),
                *("--persistent-xml", str(folder / "inactive")),
            )
            for name in unused:
                _virsh(trip.source, "nodedev-destroy", name)

        seconds, _ = _timed(by_hand)
    info = _virsh(trip.to, "domjobinfo", GUEST, "--completed", "--rawstats")
    words = dict(line.split(":", 1) for line in info.splitlines() if line)
    return (seconds, int(words["downtime"]), {}), targets


def _write_requests(folder: Path, targets: Sequence[str]) -> list[Path]:
    """Write what ``virsh nodedev-create`` makes the targets of."""
    paths = []
    for mdev, mdev_type in zip(targets, TYPES, strict=True):
        paths.append(folder / mdev)
        paths[-1].write_text(
            f"<device><parent>{_PARENT}</parent><capability type='mdev'>"
            f"<type id='{mdev_type}'/><uuid>{mdev}</uuid></capability>"
            "</device>"
        )
    return paths


def _rewritten(trip: Trip, kind: str) -> str:
    text = _virsh(trip.source, "dumpxml", GUEST, "--security-info", kind)
    for mdev, target in zip(trip.mdevs, trip.targets, strict=True):
        text = text.replace(mdev, target)
    return text


def _timed(act: Callable[[], T]) -> tuple[float, T]:
    began = time.monotonic()
    answer = act()
    return time.monotonic() - began, answer


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
    _remove_mdevs(host)


def _remove_mdevs(host: RunningHost) -> None:
    """Remove all mdevs of a host that no guest uses."""
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
        lambda: check(_list_mdevs(host)),
        60,
    )


def _list_mdevs(host: RunningHost) -> list[str]:
    """Return what libvirt calls a host's mdevs."""
    return _virsh(host, "nodedev-list", "--cap", "mdev").split()


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


def conclude(
    samples: Mapping[str, Sequence[Sample]], loads: Sequence[float]
) -> dict[str, Any]:
    """Return what follows from the samples of a series.

    :param samples: of ``mdev-migrate`` and ``virsh``, pair by pair.
    :param loads: the machine's load when each pair began.
    """
    ours, virsh = samples["mdev-migrate"], samples["virsh"]
    both = list(zip(ours, virsh, strict=True))
    steps = dict.fromkeys(itertools.chain(*(sample[2] for sample in ours)))
    numbers: dict[str, list[float]] = {
        "load of the machine": list(loads),
        "mdev-migrate, s": [sample[0] for sample in ours],
        "virsh, s": [sample[0] for sample in virsh],
        "ratio of times": [one[0] / other[0] for one, other in both],
        "longer than virsh, s": [one[0] - other[0] for one, other in both],
        "mdev-migrate, downtime ms": [sample[1] for sample in ours],
        "virsh, downtime ms": [sample[1] for sample in virsh],
        "ratio of downtimes": [
            one[1] / max(other[1], 1) for one, other in both
        ],
        **{
            f"step {step}, s": [sample[2].get(step, 0.0) for sample in ours]
            for step in steps
        },
        "start and end of the program, s": [
            sample[0] - sum(sample[2].values()) for sample in ours
        ],
        "all but step migrate, s": [
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
        "conclusion": _conclusion(both, max(loads)),
    }


def _conclusion(both: Sequence[tuple[Sample, Sample]], load: float) -> str:
    """Say whether the goal is reached, if that can be said at all."""
    if load > BUSY:
        return (
            f"no conclusion: the load was {load:.1f}, and above {BUSY} "
            "the times tell of the machine"
        )
    times, seconds = GOAL
    over = statistics.median(
        ours[0] - times * virsh[0] for ours, virsh in both
    )
    return (
        f"the goal is {'reached' if over <= seconds else 'missed'}: "
        f"{times} times virsh's time and {seconds} s at most; it was "
        f"{times} times and {over:.2f} s (median)"
    )
