# SPDX-License-Identifier: Apache-2.0
"""Bring the whole cloud up and down: control plane and hosts."""

from collections.abc import Mapping
from concurrent import futures

from labhost import terminal
from labhost.image import Image

from cloudlab import (
    catalogue,
    control,
    database,
    environments,
    hosts,
    software,
    state,
)
from cloudlab.api import Api
from cloudlab.layout import WorkFolder
from cloudlab.state import Running


def build(
    work: WorkFolder, release: str, computes: Mapping[str, str]
) -> Image:
    """Make all that a cloud starts from, and return the hosts' image.

    :param computes: releases of Nova, by host.
    :raises LabError: if a part of it cannot be made.
    """
    built = hosts.image(work)
    for each in sorted({*computes.values()}):
        software.disk(work, each)
    database.with_tables(work, release)
    environments.project(work, environments.nova(work, release))
    return built


def up(work: WorkFolder, release: str, computes: Mapping[str, str]) -> Running:
    """Start the cloud, unless it runs, and wait until it can be used.

    One that runs with anything else than what is here now is stopped.

    :param computes: releases of Nova, by host.
    :raises LabError: if it cannot in time.
    """
    built = build(work, release, computes)
    found = state.load(work)
    if (
        found
        and is_whole(work, found)
        and _is_of_now(work, found, release, computes)
    ):
        terminal.say(f"the cloud runs already, with Nova {release}")
        hosts.wait_until_ready(work, Api(found.settings.ports))
        return found
    down(work)
    # The hosts boot while the services start.
    with futures.ThreadPoolExecutor(1) as pool:
        boot = pool.submit(hosts.boot, work, built, computes)
        cloud = control.up(work, release, computes)
        boot.result()
    hosts.start_computes(work, cloud)
    api = Api(cloud.settings.ports)
    catalogue.fill(api, built.program)
    hosts.wait_until_ready(work, api)
    return cloud


def _is_of_now(
    work: WorkFolder, cloud: Running, release: str, computes: Mapping[str, str]
) -> bool:
    """Whether a cloud consists of what would be started now."""
    nova = environments.nova(work, release)
    return (
        cloud.computes == computes
        and cloud.settings.nova == nova
        and cloud.settings.services == environments.services(work)
        and cloud.project == environments.project(work, nova)
        and hosts.are_usual(work)
    )


def down(work: WorkFolder) -> None:
    """Stop all, and drop what was written but logs; harmless if down."""
    hosts.down(work)
    control.down(work)


def is_whole(work: WorkFolder, cloud: Running) -> bool:
    """Whether all services and hosts run."""
    return cloud.is_whole() and len(hosts.running(work)) == len(hosts.HOSTS)
