# SPDX-License-Identifier: Apache-2.0
"""Bring the hosts up and down."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from labhost import image, machine, program, state, terminal
from labhost.failure import LabError
from labhost.layout import GUEST_PROGRAM, HOSTS, KNOWN, WorkFolder
from labhost.state import RunningHost


def build(work: WorkFolder, others: Iterable[RunningHost] = ()) -> image.Image:
    """Return the image, building it if its inputs changed.

    :param others: hosts that are not of this folder and boot from it.
    """
    hosts = [*state.load(work).values(), *others]
    in_use = [Path(host.image) for host in hosts if host.is_running()]
    return image.build(work, in_use)


def up(
    work: WorkFolder,
    built: image.Image | None = None,
    extra: Mapping[str, Sequence[str]] | None = None,
    names: Iterable[str] = tuple(HOSTS),
) -> None:
    """Start the hosts that do not run, and wait for all.

    :param built: what they boot from; by default, what is in ``work``.
    :param extra: words for the QEMU of a host, by its name.
    :param names: those that are to run.
    :raises LabError: if one does not become ready.
    """
    hosts = state.load(work)
    down_now = [
        n for n in names if n not in hosts or not hosts[n].is_running()
    ]
    if down_now:
        built = built or build(work)
        accelerator = _accelerator(built)
        for name in down_now:
            machine.forget_disk(work, KNOWN[name])
            words = (extra or {}).get(name, ())
            _start(work, name, built, accelerator, words)
    for host in state.load(work).values():
        machine.wait_until_ready(host)


def down(work: WorkFolder, names: Collection[str] = tuple(KNOWN)) -> None:
    """Stop hosts and drop their disks; harmless if none runs.

    :param names: which.
    """
    hosts = state.load(work)
    for name in hosts.keys() & {*names}:
        machine.stop(hosts.pop(name))
        machine.forget_disk(work, KNOWN[name])
    state.store(work, hosts)


def reset(work: WorkFolder, name: str, *, keep_disk: bool) -> None:
    """Stop one host as by a power cut, start it and wait.

    :param keep_disk: keep what it has written, as defined guests.
    :raises LabError: if it was never started, or is not ready in time.
    """
    host = state.load(work).get(name)
    if host is None:
        raise LabError(f"host {name} was not started: run tools/lab up")
    machine.stop(host)
    if not keep_disk:
        machine.forget_disk(work, KNOWN[name])
    built = image.Image(Path(host.image))
    _start(work, name, built, host.accelerator, host.extra)
    machine.wait_until_ready(running(work, name))


def running(work: WorkFolder, name: str) -> RunningHost:
    """Return a host that runs.

    :raises LabError: if it does not.
    """
    host = state.load(work).get(name)
    if host is None or not host.is_running():
        raise LabError(f"host {name} does not run: run tools/lab up")
    return host


def describe(host: RunningHost) -> dict[str, Any]:
    """Return everything a test needs to know about a host."""
    spec = KNOWN[host.name]
    return {
        "name": host.name,
        "running": host.is_running(),
        "pid": host.pid,
        "accelerator": host.accelerator,
        "client_uri": host.client_uri,
        "peer_uri": host.peer_uri,
        "migrate_uri": host.migrate_uri,
        "libvirtd_port": host.libvirtd_port,
        "agent_port": host.agent_port,
        "host_uuid": spec.uuid,
        "address": spec.address,
        "console_log": str(host.console_log),
        "guest_program": GUEST_PROGRAM,
    }


def _start(
    work: WorkFolder,
    name: str,
    built: image.Image,
    accelerator: str,
    extra: Sequence[str],
) -> None:
    terminal.say(f"starting host {name} ({accelerator})")
    host = machine.start(work, KNOWN[name], built, accelerator, extra)
    state.store(work, state.load(work) | {name: host})


def _accelerator(built: image.Image) -> str:
    """Return what runs the hosts: KVM if it works, else emulation."""
    forced = os.environ.get("MDEV_LAB_ACCEL")
    if forced:
        return forced
    return "kvm" if program.kvm_works(built.program) else "tcg"
