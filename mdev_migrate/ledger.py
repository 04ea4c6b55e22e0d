# SPDX-License-Identifier: Apache-2.0
"""Claims that other processes see and that outlive the one that made them.

Theory of operation. One folder holds, for each host, one JSON file with the
claims on its mdevs and one lock file beside it. Whoever reads or changes the
claims holds the lock; a change is written to a new file that then takes the
old one's place, so that a reader, or the next process after a crash, finds
the claims as they were before or after it and never in between. A claim is
written before it is used.

Each process that makes claims holds a lock of its own on a file named by its
token, for as long as it lives. The kernel drops that lock when the process
ends, however it ends: an owner whose file can be locked is dead. Unlike
process ids this is not fooled by reuse or by namespaces. Who makes, tries or
removes such a file holds one more lock, so that nobody takes the trying for
the living.

No clock decides anything. A file that is damaged or not ours is put aside,
reported and never trusted; one that a newer version wrote stays, and is
refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import socket
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

import filelock

from mdev_migrate import exception, model
from mdev_migrate.core import claims, ledger_text

#: Names the ledger's files of a host, see :func:`ledger_name`.
_NAMESPACE = uuid.UUID("6d646576-6d69-4772-8174-650000000001")
#: Seconds: nobody holds the lock longer than it takes to write a small file.
LOCK_LIMIT_S = 30.0
_POLL_S = 0.01
#: How a file is made: nothing that is there already is opened.
_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY


#: Where all programs of a machine look for claims by default, Nova's too.
SHARED = pathlib.Path("/var/lib/mdev-migrate")


def default_folder() -> pathlib.Path:
    """Return where claims are kept unless somebody chose otherwise.

    That is the folder that all share, if there is one, be it closed to this
    user: whoever passed it over would not see what is claimed. Only where
    there is none, and this user may not make it, he has one of his own (XDG
    base directories).

    :raises LedgerUnusable: if that user has no home.
    """
    if SHARED.exists() or os.access(SHARED.parent, os.W_OK):
        return SHARED
    home = pathlib.Path(os.environ.get("XDG_STATE_HOME", ""))
    if not home.is_absolute():
        home = pathlib.Path("~/.local/state")
    try:
        return home.expanduser() / "mdev-migrate"
    except RuntimeError as error:
        raise exception.LedgerUnusable(str(home), str(error)) from None


def ledger_name(host: model.HostFacts) -> str:
    """Return the name under which a host's claims are kept.

    Made from the host's UUID and its name: either alone is known to be the
    same on several hosts (cloned machines, appliances).
    """
    return str(uuid.uuid5(_NAMESPACE, f"{host.host_uuid} {host.name}"))


@contextlib.contextmanager
def _usable(path: pathlib.Path) -> Iterator[None]:
    """Translate what the file system refuses."""
    try:
        yield
    except filelock.Timeout:
        raise exception.LedgerUnusable(
            str(path), "another process keeps it locked"
        ) from None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise exception.LedgerUnusable(str(path), reason) from error


def _exists(path: pathlib.Path) -> bool:
    """Tell whether there is anything of that name, be it a broken link.

    :raises OSError: if it cannot be found out, unlike ``os.path.lexists``.
    """
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _prepare(folder: pathlib.Path) -> None:
    """Make the folder if there is none."""
    with _usable(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _share(handle: int, folder: pathlib.Path) -> None:
    """Give a new file to those who the folder belongs to.

    Otherwise what root writes, say, locks out the service whose folder it
    is.
    """
    owner = os.stat(folder)
    os.fchmod(handle, owner.st_mode & 0o660 | 0o600)
    for uid in (owner.st_uid, -1):  # Only root may give a file away.
        with contextlib.suppress(PermissionError):
            os.fchown(handle, uid, owner.st_gid)
            return


def _make_lock(path: pathlib.Path) -> filelock.BaseFileLock:
    """Return the lock on a file, which is made if it does not exist.

    It gets its name once it is shared: whoever is killed before leaves no
    lock that is closed to others.
    """
    if not _exists(path):
        new = path.with_name(f"{uuid.uuid4()}.new")
        handle = os.open(new, _NEW, 0o600)
        try:
            _share(handle, path.parent)
            with contextlib.suppress(FileExistsError):
                os.link(new, path)
        finally:
            os.close(handle)
            new.unlink()
    return _lock_on(path)


def _lock_on(path: pathlib.Path) -> filelock.BaseFileLock:
    """Return the lock on a file that exists.

    Some versions of filelock give the file the mode that they are told, or
    one that locks out the folder's group.
    """
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    mode = stat.S_IMODE(found.st_mode)
    return filelock.FileLock(path, mode=mode, thread_local=False)


def _acquire(lock: filelock.BaseFileLock, limit_s: float) -> None:
    """Acquire a lock that the kernel frees when its process ends.

    Where there are none, newer versions of filelock wait for the file to go
    away, which it does not.
    """
    try:
        lock.acquire(timeout=limit_s, poll_interval=_POLL_S)
    except filelock.Timeout:
        if isinstance(lock, filelock.SoftFileLock):
            text = "the file system does not support flock"
            raise NotImplementedError(text) from None
        raise


class _Lock:
    """A lock between threads and processes alike."""

    def __init__(self, path: pathlib.Path, limit_s: float) -> None:
        self._path = path
        self._limit_s = limit_s
        self._threads = threading.Lock()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock.

        :raises LedgerUnusable: if others hold it for too long.
        """
        with self._threads:
            with _usable(self._path):
                lock = _make_lock(self._path)
                _acquire(lock, self._limit_s)
            try:
                yield
            finally:
                lock.release(force=True)


class Owners:
    """This process as the owner of claims, and whether others live.

    Nothing is made before it notes a claim: who only asks leaves no trace.

    :param program: its name, for people.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        program: str,
        *,
        lock_limit_s: float = LOCK_LIMIT_S,
    ) -> None:
        self._folder = folder
        self.token = str(uuid.uuid4())
        self.name = (
            f"{program} (process {os.getpid()}, {socket.gethostname()})"
        )
        self._trying = _Lock(folder / "owners.lock", lock_limit_s)
        self._life: filelock.BaseFileLock | None = None

    def begin(self) -> None:
        """Be seen to live from now on; to note a claim does so, too.

        :raises LedgerUnusable: if the folder cannot be used.
        """
        if self._life is not None:
            return
        _prepare(self._folder)
        with self._trying.held(), _usable(self._folder):
            if self._life is None:
                self._sweep()
                life = _make_lock(self._file(self.token))
                _acquire(life, 0)
                self._life = life

    def _file(self, token: str) -> pathlib.Path:
        return self._folder / f"{token}.alive"

    def _sweep(self) -> None:
        """Remove what other owners left when they were killed."""
        for path in self._folder.glob("*.alive"):
            self._try(path)

    @staticmethod
    def _try(path: pathlib.Path) -> bool:
        """Tell whether an owner lives; remove the file of one that does not.

        What cannot be found out counts as living.
        """
        try:
            if not _exists(path):
                return False
            lock = _lock_on(path)
            _acquire(lock, 0)
            try:
                path.unlink()
            finally:
                lock.release(force=True)
        except (filelock.Timeout, OSError, NotImplementedError):
            return True
        return False

    def lives(self, note: claims.Note) -> bool:
        """Tell whether the owner of a claim still lives and works on it.

        Whether a Nova migration does only Nova knows: here it counts as
        alive.

        :raises LedgerUnusable: if it cannot be found out.
        """
        if note.migration:
            return True
        return not note.over and self._lives(note.token)

    def _lives(self, token: str) -> bool:
        if token == self.token:
            return True
        try:
            path = self._file(model.normalise_uuid(token))
        except ValueError:
            return False
        with _usable(path):
            if not _exists(path):
                return False
        with self._trying.held():
            return self._try(path)

    def note(self, guest: str, source: str, destination: str) -> claims.Note:
        """Return what a claim made now says about its making.

        :raises LedgerUnusable: if the folder cannot be used.
        """
        self.begin()
        return claims.Note(
            owner=self.name,
            token=self.token,
            since=time.time(),
            guest=guest,
            source=source,
            destination=destination,
        )

    def adopt(self, note: claims.Note) -> claims.Note:
        """Return a claim's note with this process as its owner.

        :raises LedgerUnusable: if the folder cannot be used.
        """
        self.begin()
        return replace(note, owner=self.name, token=self.token, over=False)

    def may_replace(self, claim: claims.Claim) -> None:
        """Refuse to replace a claim that is still needed.

        :raises ClaimHeld: if its owner, be it this process, still works on
            it, or if its migration went beyond claiming.
        """
        if self.lives(claim.note):
            raise exception.ClaimHeld(claim.instance_uuid, claim.note.owner)
        claims.refuse_begun(claim)

    def close(self) -> None:
        """End this owner's life, as the end of the process does."""
        if self._life is None:
            return
        with contextlib.suppress(OSError):
            os.unlink(self._life.lock_file)
        self._life.release(force=True)


class FileStore:
    """The claims of one host in a file; see ``claims.Store``.

    :param host: whose mdevs are claimed.
    :param report: is told in words when a file was put aside.
    :raises LedgerUnusable: if the folder cannot be used.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        host: model.HostFacts,
        report: Callable[[str], None] = lambda _: None,
        *,
        lock_limit_s: float = LOCK_LIMIT_S,
    ) -> None:
        name = ledger_name(host)
        self._path = folder / f"{name}.json"
        self._host = f"{host.host_uuid} {host.name}"
        self._report = report
        self._lock = _Lock(folder / f"{name}.lock", lock_limit_s)
        _prepare(folder)

    @contextlib.contextmanager
    def edit(self) -> Iterator[dict[str, claims.Claim]]:
        """Lend the claims; see ``claims.Store``.

        :raises LedgerUnusable: if the file cannot be read or written, or is
            locked for too long.
        :raises LedgerTooNew: if a newer version of this program wrote it.
        """
        with self._edit() as records:
            yield records.claims

    @contextlib.contextmanager
    def edit_made(self) -> Iterator[dict[str, str]]:
        """Lend what is remembered of mdevs made; see ``claims.Store``.

        :raises LedgerError: as :meth:`edit` does.
        """
        with self._edit() as records:
            yield records.made

    @contextlib.contextmanager
    def _edit(self) -> Iterator[ledger_text.Records]:
        with self._lock.held():
            with _usable(self._path):
                found = self._load()
            lent = ledger_text.Records(dict(found.claims), dict(found.made))
            yield lent
            if lent != found:
                with _usable(self._path):
                    self._save(ledger_text.write(self._host, lent))

    def _load(self) -> ledger_text.Records:
        try:
            return ledger_text.read(self._read(), self._host)
        except FileNotFoundError:
            return ledger_text.Records()
        except ledger_text.NewerError as error:
            raise exception.LedgerTooNew(
                str(self._path), error.version, ledger_text.VERSION
            ) from None
        except ValueError as error:
            return self._put_aside(str(error))

    def _read(self) -> str:
        """Return the text of the file.

        :raises ValueError: if it is none that was written here. Nothing that
            somebody put in its place is followed, or waited for.
        """
        if not stat.S_ISREG(os.lstat(self._path).st_mode):
            raise ValueError("not a regular file")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with open(os.open(self._path, flags), "rb") as file:
            content = file.read(ledger_text.LONGEST + 1)
        if len(content) > ledger_text.LONGEST:
            raise ValueError("far too long")
        return content.decode("utf-8")

    def _put_aside(self, reason: str) -> ledger_text.Records:
        aside = self._path.with_suffix(f".damaged-{uuid.uuid4()}")
        self._path.rename(aside)
        self._report(f"ledger put aside as {aside}: {reason}")
        return ledger_text.Records()

    def _save(self, text: str) -> None:
        """Write a new file, and let it take the old one's place.

        Its name is always the same, for only one process at a time may
        write: what a killed one left there is removed.
        """
        new = self._path.with_suffix(".new")
        new.unlink(missing_ok=True)
        handle = os.open(new, _NEW, 0o600)
        try:
            with open(handle, "w", encoding="utf-8") as file:
                _share(handle, new.parent)
                file.write(text)
                file.flush()
                os.fsync(handle)
            os.replace(new, self._path)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink()
            raise
        _sync(self._path.parent)


def look(
    folder: pathlib.Path,
    host: model.HostFacts,
    report: Callable[[str], None] = lambda _: None,
) -> claims.Store:
    """Return the claims of one host for somebody who only looks.

    Where there is no ledger nothing is claimed, and none is made: the
    folder would be that user's, and closed to whoever comes next.

    :raises LedgerUnusable: if the folder cannot be used.
    """
    path = folder / f"{ledger_name(host)}.json"
    with _usable(path):
        if not _exists(path):
            return claims.MemoryStore()
    return FileStore(folder, host, report)


def _sync(folder: pathlib.Path) -> None:
    """Make a rename in a folder last."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
