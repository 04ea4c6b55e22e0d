# SPDX-License-Identifier: Apache-2.0
"""Bring the control plane up and down, and single services of it."""

import shutil
import signal
from collections.abc import Callable, Mapping

from labhost import terminal

from cloudlab import (
    broker,
    database,
    environments,
    process,
    reach,
    services,
    state,
)
from cloudlab.api import Api
from cloudlab.configuration import Settings
from cloudlab.layout import WorkFolder
from cloudlab.process import Process
from cloudlab.state import Running

#: In the order in which they start.
NAMES = (
    *("broker_names", "broker", "database", "identity", "placement"),
    *("image", "network", "compute", "conductor", "scheduler"),
)
#: What others need to be there when they start, and for how long it is
#: waited for.
_WAITED_FOR = {
    "broker_names": broker.START_LIMIT_S,
    "broker": broker.START_LIMIT_S,
    "database": database.START_LIMIT_S,
}
_APIS = {
    "placement": "/",
    "image": "/v2/images",
    "network": "/v2.0/ports",
    "compute": "/v2.1/servers",
}


def up(work: WorkFolder, release: str, computes: Mapping[str, str]) -> Running:
    """Start all services anew, and wait until they answer.

    :param computes: the releases that the hosts are to have.
    :raises LabError: if one does not.
    """
    shutil.rmtree(work.run, ignore_errors=True)
    shutil.rmtree(work.logs, ignore_errors=True)
    tables = database.with_tables(work, release)
    nova = environments.nova(work, release)
    settings = Settings.prepare(work.run, environments.services(work), nova)
    project = environments.project(work, nova)
    cloud = Running(release, dict(computes), settings, project)
    shutil.copytree(tables, work.run / "database")
    for name in ("database", "broker_names", "broker"):
        start(work, cloud, name)
    terminal.say("starting keystone")
    services.prepare(settings, work.logs / "prepare.log")
    start(work, cloud, "identity")
    api = Api(settings.ports)
    services.wait_for(
        "identity", cloud.processes["identity"], api.log_in, work.logs
    )
    services.register(api, settings)
    terminal.say("starting placement, glance, neutron and nova")
    for name in NAMES:
        if name not in cloud.processes:
            start(work, cloud, name)
    for name, path in _APIS.items():
        wait_for_api(work, cloud, name, lambda: api.get(name, path))  # noqa: B023
    return cloud


def wait_for_api(
    work: WorkFolder, cloud: Running, name: str, ask: Callable[[], object]
) -> None:
    """Wait until an API answers.

    :raises LabError: if it does not.
    """
    log = work.logs / f"{name}.log"
    services.wait_for(name, cloud.processes[name], ask, log)


def down(work: WorkFolder) -> None:
    """Stop all services and drop what they wrote, but their logs."""
    cloud = state.load(work)
    if cloud is not None:
        for name in reversed(NAMES):
            if name in cloud.processes:
                process.stop(cloud.processes[name])
    shutil.rmtree(work.run, ignore_errors=True)
    state.forget(work)


def start(work: WorkFolder, cloud: Running, name: str) -> None:
    """Start one service, and remember it at once: it is to be ended.

    :raises LabError: if it does not start.
    """
    cloud.processes[name] = started = _start(work, cloud, name)
    state.store(work, cloud)
    if name in _WAITED_FOR:
        port, log = cloud.settings.ports[name], work.logs / f"{name}.log"
        reach.wait_for_port(name, port, started, _WAITED_FOR[name], log)


def stop(
    cloud: Running, name: str, how: signal.Signals = signal.SIGTERM
) -> None:
    """Stop one service.

    :raises LabError: if it stays.
    """
    process.stop(cloud.processes[name], how)


def _start(work: WorkFolder, cloud: Running, name: str) -> Process:
    settings = cloud.settings
    log = work.logs / f"{name}.log"
    if name == "database":
        folder = work.run / "database"
        return database.start(folder, settings.ports[name], log)
    if name == "broker_names":
        return broker.start_names(dict(settings.ports), log)
    if name == "broker":
        return broker.start(work.run / "broker", dict(settings.ports), log)
    if name == "conductor":
        return services.start_worker(name, settings, log, cloud.project)
    if name == "scheduler":
        return services.start_worker(name, settings, log)
    return services.start_api(name, settings, log)
