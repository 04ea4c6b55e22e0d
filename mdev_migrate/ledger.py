# SPDX-License-Identifier: Apache-2.0
"""Claims that other processes see and that outlive the one that made them.

Theory of operation. One folder holds, for each destination host, one JSON
file and one lock file beside it. Whoever
reads or changes the claims holds the lock; a change is written to a new file
that then takes the old one's place, so that a reader, or the next process
after a crash, finds the claims as they were before or after it and never in
between. A claim is written before it is used.

Each process that makes claims holds a lock of its own on a file named by its
token, for as long as it lives. The kernel drops that lock when the process
ends, however it ends: an owner whose file can be locked is dead. Unlike
process ids this is not fooled by reuse or by namespaces.

A file that is damaged or not ours is put aside, reported and never trusted.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import filelock

from mdev_migrate import exception, model
from mdev_migrate.core import allocation, claims, phases, wire

_FORMAT = "mdev-migrate ledger"
_VERSION = 1
#: Names the ledger's files of a host, see :func:`ledger_name`.
_NAMESPACE = uuid.UUID("6d646576-6d69-4772-8174-650000000001")
#: Seconds: nobody holds the lock longer than it takes to write a small file.
_LOCK_LIMIT_S = 30.0


def default_folder() -> pathlib.Path:
    """Return where claims are kept unless somebody chose otherwise.

    All users share ``/var/lib/mdev-migrate`` if they may write there; a user
    who may not has a folder of his own (XDG base directories).
    """
    shared = pathlib.Path("/var/lib/mdev-migrate")
    if os.access(shared, os.W_OK) or os.access(shared.parent, os.W_OK):
        return shared
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return pathlib.Path(home).expanduser() / "mdev-migrate"


def ledger_name(host: model.HostFacts) -> str:
    """Return the name under which a host's claims are kept.

    Made from the host's UUID and its name: either alone is known to be the
    same on several hosts (cloned machines, appliances).
    """
    return str(uuid.uuid5(_NAMESPACE, f"{host.host_uuid} {host.name}"))


class Owners:
    """This process as the owner of claims, and whether others live.

    :param program: its name, for people.
    :raises LedgerUnusable: if the folder cannot be used.
    """

    def __init__(self, folder: pathlib.Path, program: str) -> None:
        self._folder = folder
        self.token = str(uuid.uuid4())
        self.name = (
            f"{program} (process {os.getpid()}, {socket.gethostname()})"
        )
        _prepare(folder)
        self._life = self._lock(self.token)
        with _usable(folder):
            self._life.acquire(timeout=0)

    def _lock(self, token: str) -> filelock.BaseFileLock:
        return filelock.FileLock(
            self._folder / f"{token}.alive", thread_local=False
        )

    def lives(self, note: claims.Note) -> bool:
        """Tell whether the owner of a claim still lives.

        Whether a Nova migration does only Nova knows: here it counts as
        alive.
        """
        return bool(note.migration) or self._lives(note.token)

    def _lives(self, token: str) -> bool:
        if token == self.token:
            return True
        try:
            lock = self._lock(model.normalise_uuid(token))
        except ValueError:
            return False
        if not os.path.exists(lock.lock_file):
            return False
        try:
            with lock.acquire(timeout=0):
                os.unlink(lock.lock_file)
        except filelock.Timeout:
            return True
        except OSError:
            return True
        return False

    def note(self, guest: str, source: str, destination: str) -> claims.Note:
        """Return what a claim made now says about its making."""
        return claims.Note(
            owner=self.name,
            token=self.token,
            since=time.time(),
            guest=guest,
            source=source,
            destination=destination,
        )

    def adopt(self, note: claims.Note) -> claims.Note:
        """Return a claim's note with this process as its owner."""
        return replace(note, owner=self.name, token=self.token)

    def may_replace(self, claim: claims.Claim) -> None:
        """Refuse to replace a claim that is still needed.

        :raises ClaimHeld: if its owner still lives and is not this process,
            or if its migration went beyond claiming.
        """
        if claim.note.token != self.token and self.lives(claim.note):
            raise exception.ClaimHeld(claim.instance_uuid, claim.note.owner)
        claims.refuse_begun(claim)

    def close(self) -> None:
        """End this owner's life, as the end of the process does."""
        with contextlib.suppress(OSError):
            os.unlink(self._life.lock_file)
        self._life.release()


def _prepare(folder: pathlib.Path) -> None:
    with _usable(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextlib.contextmanager
def _usable(path: pathlib.Path) -> Iterator[None]:
    """Translate what the file system refuses."""
    try:
        yield
    except filelock.Timeout:
        raise exception.LedgerUnusable(
            str(path), f"locked for more than {_LOCK_LIMIT_S:g} s"
        ) from None
    except OSError as error:
        raise exception.LedgerUnusable(
            str(path), error.strerror or str(error)
        ) from error


class FileStore:
    """The claims of one destination in a file; see ``claims.Store``.

    :param host: the destination.
    :param report: is told in words when a file was put aside.
    :raises LedgerUnusable: if the folder cannot be used.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        host: model.HostFacts,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        name = ledger_name(host)
        self._path = folder / f"{name}.json"
        self._host = f"{host.host_uuid} {host.name}"
        self._report = report
        self._threads = threading.Lock()
        self._processes = filelock.FileLock(
            folder / f"{name}.lock", thread_local=False
        )
        _prepare(folder)

    @contextlib.contextmanager
    def edit(self) -> Iterator[dict[str, claims.Claim]]:
        """Lend the claims; see ``claims.Store``.

        :raises LedgerUnusable: if the file cannot be read or written, or is
            locked for too long.
        """
        with self._threads:
            with _usable(self._path):
                self._processes.acquire(timeout=_LOCK_LIMIT_S)
            try:
                with _usable(self._path):
                    before = self._load()
                lent = dict(before)
                yield lent
                if lent != before:
                    with _usable(self._path):
                        self._save(lent)
            finally:
                self._processes.release()

    def _load(self) -> dict[str, claims.Claim]:
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except UnicodeDecodeError as error:
            self._put_aside(str(error))
            return {}
        try:
            return _read(json.loads(text), self._host)
        except (ValueError, RecursionError) as error:
            self._put_aside(str(error))
            return {}

    def _put_aside(self, reason: str) -> None:
        aside = self._path.with_suffix(f".damaged-{time.time_ns()}")
        self._path.rename(aside)
        self._report(f"ledger put aside as {aside}: {reason}")

    def _save(self, lent: dict[str, claims.Claim]) -> None:
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "host": self._host,
            "claims": [_write_claim(claim) for claim in lent.values()],
        }
        handle, name = tempfile.mkstemp(
            dir=self._path.parent, prefix=f"{self._path.stem}."
        )
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(content, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        _sync(self._path.parent)


def _sync(folder: pathlib.Path) -> None:
    """Make a rename in a folder last."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# The format -----------------------------------------------------------


def _write_claim(claim: claims.Claim) -> dict[str, Any]:
    note = claim.note
    return {
        "instance_uuid": claim.instance_uuid,
        "step": claim.step.value,
        "reuse": [_write_mdev(mdev) for mdev in claim.plan.reuse],
        "create": [_write_mdev(mdev) for mdev in claim.plan.create],
        "owner": note.owner,
        "token": note.token,
        "since": note.since,
        "guest": note.guest,
        "source": note.source,
        "destination": note.destination,
        "migration": note.migration,
    }


def _write_mdev(mdev: model.Mdev) -> dict[str, Any]:
    return {
        "uuid": mdev.uuid,
        "type": mdev.mdev_type,
        "parent": mdev.parent,
        "attributes": [list(pair) for pair in mdev.attributes],
        "persistent": mdev.persistent,
        "autostart": mdev.autostart,
    }


def _read(content: object, expected: str) -> dict[str, claims.Claim]:
    """Read a whole ledger.

    :raises ValueError: if it is anything but what :class:`FileStore` writes.
    """
    match content:
        case {
            "format": str(kind),
            "version": int(version),
            "host": str(host),
            "claims": list(entries),
        }:
            pass
        case _:
            raise ValueError("not a ledger")
    if (kind, version, host) != (_FORMAT, _VERSION, expected):
        raise ValueError(f"{kind} {version} of host {host}")
    read = [_read_claim(entry) for entry in entries]
    found = {claim.instance_uuid: claim for claim in read}
    uuids = [mdev.uuid for claim in read for mdev in claim.plan.mdevs]
    if len(found) != len(read) or len(set(uuids)) != len(uuids):
        raise ValueError("an instance or an mdev stands there twice")
    return found


def _read_claim(entry: object) -> claims.Claim:
    match entry:
        case {
            "instance_uuid": str(instance_uuid),
            "step": str(step),
            "reuse": list(reuse),
            "create": list(create),
            "owner": str(owner),
            "token": str(token),
            "since": int() | float() as since,
            "guest": str(guest),
            "source": str(source),
            "destination": str(destination),
            "migration": str(migration),
        }:
            return claims.Claim(
                instance_uuid=model.normalise_uuid(instance_uuid),
                plan=allocation.AllocationPlan(
                    tuple(_read_mdev(mdev) for mdev in reuse),
                    tuple(_read_mdev(mdev) for mdev in create),
                ),
                step=phases.Step(step),
                note=claims.Note(
                    owner=owner,
                    token=token,
                    since=float(since),
                    guest=guest,
                    source=source,
                    destination=destination,
                    migration=migration,
                ),
            )
        case _:
            raise ValueError("a claim is not as it is written")


def _read_mdev(entry: object) -> model.Mdev:
    match entry:
        case {
            "uuid": str(uuid_text),
            "type": str(mdev_type),
            "parent": str(parent),
            "attributes": list(attributes),
            "persistent": bool(persistent),
            "autostart": bool(autostart),
        }:
            return model.Mdev(
                uuid=model.normalise_uuid(uuid_text),
                mdev_type=wire.check_mdev_type(mdev_type),
                parent=parent,
                attributes=tuple(_read_attribute(pair) for pair in attributes),
                persistent=persistent,
                autostart=autostart,
            )
        case _:
            raise ValueError("an mdev is not as it is written")


def _read_attribute(pair: object) -> tuple[str, str]:
    match pair:
        case [str(name), str(value)]:
            return name, value
        case _:
            raise ValueError("an attribute is not as it is written")
