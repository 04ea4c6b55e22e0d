# SPDX-License-Identifier: Apache-2.0
"""``demo``: a migration between two simulated hosts, with two mdevs."""

from __future__ import annotations

import dataclasses
import functools
import time
from dataclasses import dataclass

import click

from mdev_migrate import testing
from mdev_migrate.cli import migrate, options, output, plan, progress
from mdev_migrate.cli.session import Environment, Opener, Session, exit_code
from mdev_migrate.core import downtime
from mdev_migrate.host import Host
from mdev_migrate.libvirt_host import LibvirtHost
from mdev_migrate.limits import Limits
from mdev_migrate.workflow import Destination, Options

GUEST = "demo-guest"
_INSTANCE = "aaaaaaaa-0000-4000-8000-000000000001"
_SOURCE_MDEVS = {
    "55555555-5555-4555-8555-555555555551": "nvidia-11",
    "55555555-5555-4555-8555-555555555552": "nvidia-12",
}
#: Waits for the first of them; the other is yet to be created.
_TARGET = "66666666-6666-4666-8666-666666666661"
_CREATED = "77777777-7777-4777-8777-777777777772"
_PARENT = "pci_0000_06_00_0"
_TYPES = (
    testing.OfferedType("nvidia-11", "GRID M60-0B"),
    testing.OfferedType("nvidia-12", "GRID M60-0Q", units=2),
)
_ROOM = 8
#: What the plan promises is what is created, so that both can be compared.
_DESTINATION = functools.partial(
    Destination, limits=Limits(poll_s=0.1), mint=lambda: _CREATED
)
#: What the guest's device state takes, and a limit that lets it pass.
_NEEDED_MS, _ALLOWED_MS = 500, 1000
_PAUSE_S = 0.2
_TIMEOUT_S = 2.5


@dataclass(frozen=True, slots=True)
class Scene:
    """What is shown.

    :ivar source: its URI.
    :ivar destination: its URI.
    :ivar text: what to know beforehand.
    """

    environment: Environment
    source: str
    destination: str
    options: Options
    text: str


@click.command("demo")
@click.option(
    "--fail",
    is_flag=True,
    help="Show a migration that does not end within its time limit, and how "
    "it is rolled back.",
)
@options.shared
@click.pass_context
def command(context: click.Context, *, fail: bool) -> None:
    """Show a whole migration on two simulated hosts, in seconds.

    Nothing of this machine is read or changed.
    """
    called = Session.of(context)
    shown = not called.settings.as_json
    scene = make_scene(paced=shown and progress.is_terminal(), fail=fail)
    session = Session(
        dataclasses.replace(called.settings, uri=scene.source),
        scene.environment,
    )
    if shown:
        output.answer(lambda: output.line(scene.text))
        plan.answer(session, GUEST, scene.destination, scene.options)
    moved = migrate.answer(session, GUEST, scene.destination, scene.options)
    context.exit(exit_code(moved.outcome.error))


def make_scene(*, paced: bool, fail: bool) -> Scene:
    """Set up both hosts and the guest.

    :param paced: takes its time, so that somebody can follow.
    :param fail: the guest cannot be moved within its downtime limit.
    """
    source, destination = testing.two_hosts(_parents(), _parents())
    for uuid, mdev_type in _SOURCE_MDEVS.items():
        source.add_mdev(uuid, mdev_type)
    destination.add_mdev(_TARGET, "nvidia-11")
    source.add_guest(GUEST, _INSTANCE, _SOURCE_MDEVS)
    source.required_downtime_ms = _NEEDED_MS
    if paced:
        source.group.pace = lambda _step: time.sleep(_PAUSE_S)
    return Scene(
        Environment(_opener(source.group), _DESTINATION),
        source.uris[0],
        destination.uris[0],
        _options(fail=fail, paced=paced),
        _text(fail=fail),
    )


def _parents() -> list[testing.Parent]:
    return [testing.SharedParent(_PARENT, _TYPES, _ROOM)]


def _opener(group: testing.SimulatedGroup) -> Opener:
    kernels = {
        uri: host.kernel_release
        for host in group.hosts.values()
        for uri in host.uris
    }

    def opener(uri: str) -> Host:
        return LibvirtHost(uri, kernel=kernels[uri], opener=group.open)

    return opener


def _options(*, fail: bool, paced: bool) -> Options:
    if not fail:
        return Options(max_downtime_ms=_ALLOWED_MS)
    timeout_s = _TIMEOUT_S * 2 if paced else _TIMEOUT_S
    return Options(max_downtime_ms=downtime.BEGIN_MS, timeout_s=timeout_s)


def _text(*, fail: bool) -> str:
    limit = downtime.BEGIN_MS if fail else _ALLOWED_MS
    return (
        f"Two simulated hosts; {GUEST} has two mdevs, one of which has a "
        "target mdev waiting for it. Its device state takes "
        f"{_NEEDED_MS} ms to move, the downtime limit begins with "
        f"{downtime.BEGIN_MS} ms and is {limit} ms at most."
    )
