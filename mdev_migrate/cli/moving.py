# SPDX-License-Identifier: Apache-2.0
"""Migrate a guest for the command: listening, and able to be stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mdev_migrate import exception
from mdev_migrate.cli import signals
from mdev_migrate.cli.places import Places
from mdev_migrate.host import Host
from mdev_migrate.workflow import GuestMigration, Observer, Options, Outcome


@dataclass(frozen=True, slots=True)
class Moved:
    """How a migration ended, and the types of the mdevs that it paired.

    :ivar source_mdev_types: mdev type by source mdev UUID.
    :ivar target_mdev_types: mdev type by target mdev UUID, as the
        destination lists them now: without those that were undone.
    """

    outcome: Outcome
    source_mdev_types: dict[str, str] = field(default_factory=dict)
    target_mdev_types: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """Which guest to migrate, and how.

    :ivar guest: its name or UUID.
    :ivar say: tells people what a signal did.
    """

    guest: str
    options: Options
    observer: Observer
    say: Callable[[str], None]


def migrate(hosts: Places, task: Task) -> Moved:
    """Migrate a guest; a signal stops it in order."""
    source, destination = hosts.source, hosts.destination
    types = _types(source)
    with signals.stopping(task.say) as stop:
        outcome = GuestMigration(
            source,
            destination,
            task.guest,
            task.options,
            observer=task.observer,
            stop=stop,
            note=hosts.owners.note(
                task.guest, source.uri, destination.host.uri
            ),
            may_replace=hosts.owners.may_replace,
            source_claims=hosts.source_claims,
        ).run()
    pairs = outcome.target_mdevs
    there = _types(destination.host) if pairs else {}
    return Moved(outcome, _pick(types, pairs), _pick(there, pairs.values()))


def _types(host: Host) -> dict[str, str]:
    """Return the type of each mdev of a host; of none if it does not say.

    Only shown: what makes a host silent is the migration's to report.
    """
    with contextlib.suppress(exception.MdevMigrateError):
        inventory = host.inventory()
        return {mdev.uuid: mdev.mdev_type for mdev in inventory.mdevs}
    return {}


def _pick(types: dict[str, str], uuids: Iterable[str]) -> dict[str, str]:
    return {uuid: types[uuid] for uuid in uuids if uuid in types}
