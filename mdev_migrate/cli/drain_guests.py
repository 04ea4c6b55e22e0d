# SPDX-License-Identifier: Apache-2.0
"""Which guests leave a host, and where did they come from?"""

from __future__ import annotations

import contextlib
import json
import pathlib
import threading
from collections.abc import Iterator, Mapping, Sequence

import click

from mdev_migrate import exception, model
from mdev_migrate.cli import output
from mdev_migrate.host import Host
from mdev_migrate.workflow import Destination


class Chosen:
    """Which guests are to leave.

    :param everybody: those without mdevs, too.
    :param only: if there are some, only these names and UUIDs.
    :param but: not these.
    :param origins: UUIDs of those that came from the destination; None if
        that does not matter.
    """

    def __init__(
        self,
        everybody: bool,
        only: Sequence[str],
        but: Sequence[str],
        origins: frozenset[str] | None,
    ) -> None:
        self._everybody = everybody
        self._only = only
        self._but = but
        self._origins = origins
        self._met: set[str] = set()

    def wants(self, guest: model.Guest) -> bool:
        """Tell whether a guest is to leave."""
        self._met |= {guest.name, guest.instance_uuid}
        if _names(self._but, guest):
            return False
        if self._only and not _names(self._only, guest):
            return False
        if self._origins is not None:
            return guest.instance_uuid in self._origins
        return bool(self._only or self._everybody or guest.mdevs)

    def left(self, places: Mapping[str, Destination]) -> dict[str, str]:
        """Return which named guests are on a destination, and on which.

        They have left already, as by an earlier call.

        :raises click.UsageError: if a name is nowhere to be found.
        """
        words = dict.fromkeys((*self._only, *self._but))
        left: dict[str, str] = {}
        gone = [w for w in words if not self._met.intersection(_spelt(w))]
        for to, place in places.items() if gone else ():
            guests = place.host.inventory("guest").guests
            for guest in guests:
                left |= {w: to for w in gone if _names((w,), guest)}
        for word in gone:
            if word not in left:
                raise click.UsageError(f"no guest {word!r} there")
        return left


def known(source: Host, words: Sequence[str]) -> list[str]:
    """Return words for guests, with a UUID for what may be a number."""
    return [_uuid_of(source, w) if w.isdecimal() else w for w in words]


def _uuid_of(source: Host, number: str) -> str:
    try:
        return source.find_guest(number).instance_uuid
    except exception.GuestNotFound:
        return number


def _names(words: Sequence[str], guest: model.Guest) -> bool:
    """Tell whether some words name a guest."""
    meant = {spelt for word in words for spelt in _spelt(word)}
    return bool(meant & {guest.name, guest.instance_uuid})


def _spelt(word: str) -> Iterator[str]:
    """Yield a word for a guest, and the UUID that it may be."""
    yield word
    with contextlib.suppress(ValueError):
        yield model.read_uuid(word)


def read_note(path: str, origin: str) -> frozenset[str]:
    """Return the UUIDs of the guests that came from a host.

    :raises click.UsageError: if the file is no note.
    """
    try:
        lines = pathlib.Path(path).read_bytes().splitlines()
    except OSError as error:
        raise click.UsageError(f"--from-drain: {error}") from error
    return frozenset(
        uuid
        for number, line in enumerate(lines, 1)
        if line.strip()
        for uuid, came_from in [_read_line(line, f"line {number} of {path}")]
        if came_from == origin
    )


def _read_line(line: bytes, where: str) -> tuple[str, str]:
    """Return which guest came from which host."""
    try:
        note = json.loads(line)
        return model.normalise_uuid(note["instance_uuid"]), note["from"]
    except (
        *(ValueError, LookupError, TypeError, AttributeError),
        RecursionError,
    ) as error:
        raise click.UsageError(
            f"--from-drain: {where} is no note of a drain"
        ) from error


class Note:
    """Writes down where guests came from, one JSON object a line."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._lock = threading.Lock()

    def write(
        self, guest: model.Guest, source: model.HostFacts, to: str
    ) -> None:
        """Write down that a guest is about to leave.

        One that stays is not looked for elsewhere, so it does no harm.
        """
        if self._path is None:
            return
        line = json.dumps(
            {
                "guest": guest.name,
                "instance_uuid": guest.instance_uuid,
                "from": source.host_uuid,
                "from_name": source.name,
                "to": to,
            }
        )
        try:
            with self._lock, pathlib.Path(self._path).open("a") as file:
                file.write(f"{line}\n")
        except OSError as error:
            text = f"warning: no note of {guest.name}: {error}"
            output.say(output.one_line(text))
