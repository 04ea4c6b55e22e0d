# SPDX-License-Identifier: Apache-2.0
"""Do claims outlive their processes, and are damaged ledgers survived?"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import resource
import signal
import stat
import subprocess
import sys
import warnings
from collections.abc import Iterator

import filelock
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdev_migrate import exception, ledger, model
from mdev_migrate.core import allocation, claims, ledger_text, phases
from tests import builders

HOST = model.HostFacts(
    "host-b",
    "00000000-0000-4000-8000-000000000001",
    model.Version(11, 3, 0),
    model.Version(10, 0, 0),
)
PLAN = allocation.AllocationPlan((builders.mdev(1),), (builders.mdev(2),))


class Bench:
    """A ledger in a folder, and what was reported about it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.reports: list[str] = []
        self.path = folder / f"{ledger.ledger_name(HOST)}.json"

    def table(self, limit_s: float = 5.0) -> claims.ClaimTable:
        """Return the claims, as another process would see them."""
        return claims.ClaimTable(
            ledger.FileStore(
                self.folder, HOST, self.reports.append, lock_limit_s=limit_s
            )
        )

    def claim(self, number: int = 1, note: claims.Note | None = None) -> None:
        """Claim the plan for an instance."""
        instance = builders.instance(number)
        with self.table().claim(instance, lambda _: PLAN, note):
            pass

    def spoil(self) -> None:
        """Change the claims, but fail."""
        store = ledger.FileStore(self.folder, HOST)
        with store.edit() as found:
            found.clear()
            raise ZeroDivisionError

    def aside(self) -> list[bytes]:
        """Return what was put aside."""
        return [p.read_bytes() for p in self.folder.glob("*.damaged-*")]


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """Let no file of this process become longer than a few bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Fail, rather than hang, if the block waits."""

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def ignoring_warnings() -> Iterator[None]:
    """Let filelock say that it would use another kind of lock."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def owner(folder: pathlib.Path, limit_s: float = 5.0) -> ledger.Owners:
    """Return an owner that others see to live."""
    owners = ledger.Owners(folder, "test", lock_limit_s=limit_s)
    owners.note("vm", "a:///", "b:///")
    return owners


@pytest.fixture
def bench(tmp_path: pathlib.Path) -> Bench:
    """Return a ledger in a folder that does not exist yet."""
    return Bench(tmp_path / "deep" / "ledger")


class TestFileStore:
    def test_another_process_sees_the_claim(self, bench):
        """A claim is there for whoever opens the ledger next."""
        note = claims.Note("process 7", "token", 1.25, "vm")

        bench.claim(note=note)

        seen = bench.table().all()
        assert seen == {
            builders.instance(1): claims.Claim(
                builders.instance(1), PLAN, phases.Step.CLAIM, note
            )
        }

    def test_a_failed_change_changes_nothing(self, bench):
        """A block that raises leaves the file as it was."""
        bench.claim()
        before = bench.path.read_bytes()

        with pytest.raises(ZeroDivisionError):
            bench.spoil()

        assert bench.path.read_bytes() == before

    def test_made_is_kept_beside_the_claims(self, bench):
        """What was made for a guest is remembered until it is forgotten."""
        bench.claim()
        bench.table().remember(builders.INSTANCE, PLAN.create)
        bench.table().release(builders.instance(1))

        made = bench.table().made()
        bench.table().forget(made)

        assert made == {builders.uuid(2): builders.INSTANCE}
        assert bench.table().made() == {}

    def test_reading_writes_nothing(self, bench):
        """Who only looks makes no ledger."""
        bench.table().all()

        assert not bench.path.exists()

    @pytest.mark.parametrize(
        "damage",
        [b"", b"{", b"\xff\xfe", b"null", b"[" * 99999, b"\0" * 4096],
    )
    def test_damaged(self, bench, damage):
        """What is no ledger is put aside, reported, and not fatal."""
        bench.claim()
        bench.path.write_bytes(damage)

        found = bench.table().all()

        assert (found, bench.aside()) == ({}, [damage])
        assert len(bench.reports) == 1
        assert bench.reports[0].startswith("ledger put aside as ")

    def test_of_another_host(self, bench):
        """A ledger that was copied from elsewhere is not trusted."""
        bench.claim()
        text = bench.path.read_text()
        bench.path.write_text(text.replace("host-b", "host-c"))

        assert bench.table().all() == {}
        assert len(bench.aside()) == 1

    def test_of_a_newer_version(self, bench):
        """What a newer program claimed is neither forgotten nor touched."""
        bench.claim()
        newer = b'{"format": "mdev-migrate ledger", "version": 2, "x": []}'
        bench.path.write_bytes(newer)

        with pytest.raises(exception.LedgerTooNew) as raised:
            bench.claim(2)

        assert bench.path.read_bytes() == newer
        assert (bench.aside(), bench.reports) == ([], [])
        assert "version 2" in str(raised.value)
        assert "newer" in raised.value.hint

    @pytest.mark.parametrize("version", ["0", '"2"', "1.5", "null"])
    def test_of_no_version(self, bench, version):
        """What only looks like a version is damaged."""
        bench.claim()
        text = bench.path.read_text()
        assert '"version": 1,' in text
        bench.path.write_text(
            text.replace('"version": 1,', f'"version": {version},')
        )

        assert bench.table().all() == {}
        assert len(bench.aside()) == 1

    def test_far_too_long(self, bench):
        """A huge file is put aside without being read."""
        bench.claim()
        os.truncate(bench.path, ledger_text.LONGEST + 1)

        assert bench.table().all() == {}
        assert "far too long" in bench.reports[0]

    @given(st.binary() | st.integers(0, 900))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_bytes(self, tmp_path, damage):
        """Nothing but our own errors, whatever stands there."""
        bench = Bench(tmp_path)
        bench.path.unlink(missing_ok=True)
        bench.claim()
        text = bench.path.read_bytes()
        cut = text[:damage] if isinstance(damage, int) else damage
        bench.path.write_bytes(cut)

        found = bench.table().all()

        assert found == {} or cut == text

    @pytest.mark.parametrize("kind", ["link", "zero", "pipe", "folder"])
    def test_no_file(self, bench, kind):
        """What is no file is put aside, neither followed nor waited for."""
        bench.claim()
        text = bench.path.read_bytes()
        bench.path.unlink()
        elsewhere = bench.folder.parent / "elsewhere"
        elsewhere.write_bytes(text)
        make = {
            "link": lambda: bench.path.symlink_to(elsewhere),
            "zero": lambda: bench.path.symlink_to("/dev/zero"),
            "pipe": lambda: os.mkfifo(bench.path),
            "folder": bench.path.mkdir,
        }
        make[kind]()

        assert bench.table().all() == {}
        assert len(bench.reports) == 1
        assert elsewhere.read_bytes() == text
        bench.claim()

    @pytest.mark.parametrize("name", ["claims", "owners"])
    def test_a_lock_that_is_a_link(self, bench, name):
        """Somebody else's file is neither locked nor emptied."""
        bench.folder.mkdir(parents=True)
        victim = bench.folder / "victim"
        victim.write_text("precious")
        names = {
            "claims": bench.path.with_suffix(".lock"),
            "owners": bench.folder / "owners.lock",
        }
        names[name].symlink_to(victim)
        use = {
            "claims": lambda: bench.table().all(),
            "owners": lambda: owner(bench.folder),
        }

        with pytest.raises(exception.LedgerUnusable):
            use[name]()

        assert victim.read_text() == "precious"

    def test_locked_for_too_long(self, bench):
        """Who cannot have the lock says so, with a hint."""
        bench.claim()
        lock = filelock.FileLock(bench.path.with_suffix(".lock"))

        with lock, pytest.raises(exception.LedgerUnusable) as raised:
            bench.table(limit_s=0.05).all()

        assert "locked" in str(raised.value)
        assert "the same: --state-dir" in raised.value.hint

    def test_a_full_disk(self, bench):
        """A claim that cannot be written is not made; nothing is left."""
        bench.claim()
        before = bench.path.read_bytes()

        with no_room(), pytest.raises(exception.LedgerUnusable):
            bench.claim(2)

        assert bench.path.read_bytes() == before
        assert not bench.path.with_suffix(".new").exists()

    @pytest.mark.parametrize("kind", ["link", "pipe", "closed"])
    def test_in_the_way_of_a_change(self, bench, kind):
        """What lies there is neither written to, nor kept, nor waited for."""
        bench.claim()
        victim = bench.folder / "victim"
        new = bench.path.with_suffix(".new")
        make = {
            "link": lambda: new.symlink_to(victim),
            "pipe": lambda: os.mkfifo(new),
            "closed": lambda: new.touch(0o000),
        }
        make[kind]()

        with limited(seconds=5):
            bench.table().release(builders.instance(1))

        assert bench.table().all() == {}
        assert stat.S_IMODE(bench.path.stat().st_mode) == 0o600
        assert not victim.exists()

    def test_looking_makes_nothing(self, bench):
        """Who only looks makes no folder that others are locked out of."""
        before = claims.ClaimTable(ledger.look(bench.folder, HOST)).all()
        made = bench.folder.exists()
        bench.claim()
        after = claims.ClaimTable(ledger.look(bench.folder, HOST)).all()

        assert (before, made) == ({}, False)
        assert after == bench.table().all() != {}

    def test_looking_where_one_may_not(self):
        """What cannot be seen is not taken for nothing."""
        with pytest.raises(exception.LedgerUnusable):
            ledger.look(pathlib.Path("/dev/null/x"), HOST)

    @pytest.mark.parametrize("path", ["/dev/null/x", "/proc/nowhere"])
    def test_unusable_folder(self, path):
        """A folder that cannot be had is our error."""
        with pytest.raises(exception.LedgerUnusable) as raised:
            ledger.FileStore(pathlib.Path(path), HOST)

        assert path in str(raised.value)

    def test_the_folder_vanishes(self, bench):
        """A folder that is removed meanwhile is our error too."""
        table = bench.table()
        bench.folder.rmdir()

        with pytest.raises(exception.LedgerUnusable):
            table.all()

    def test_shared_with_the_folders_group(self, bench):
        """Who may use the folder may use its files, whoever writes them."""
        bench.folder.mkdir(parents=True)
        bench.folder.chmod(0o770)

        bench.claim()

        modes = {
            path.suffix: stat.S_IMODE(path.stat().st_mode)
            for path in bench.folder.iterdir()
        }
        assert modes == {".json": 0o660, ".lock": 0o660}

    def test_shared_by_one_who_is_not_root(self, bench, monkeypatch):
        """Who may not give a file away still gives it to the group."""
        bench.folder.mkdir(parents=True)
        given = []

        def fchown(_handle: int, uid: int, gid: int) -> None:
            if uid != -1:
                raise PermissionError
            given.append(gid)

        monkeypatch.setattr(os, "fchown", fchown)

        bench.claim()

        assert given == [bench.folder.stat().st_gid] * 2

    @pytest.mark.parametrize("name", ["claims", "owners"])
    def test_killed_before_a_lock_is_shared(self, bench, name):
        """No lock is left that is closed to the folder's group."""
        bench.folder.mkdir(parents=True)
        bench.folder.chmod(0o770)
        with start(KILLED_SHARING, str(bench.folder), name) as maker:
            pass

        bench.claim()
        owner(bench.folder)

        assert maker.returncode == 9
        assert {
            stat.S_IMODE(path.stat().st_mode)
            for path in bench.folder.iterdir()
            if path.suffix != ".new"
        } == {0o660}

    def test_stays_shared(self, bench):
        """Locks that are used again stay open to the folder's group."""
        bench.folder.mkdir(parents=True)
        bench.folder.chmod(0o770)

        owners = owner(bench.folder)
        for _ in range(2):
            bench.claim()
            owner(bench.folder).close()
            owners.lives(claims.Note(token=builders.uuid(1)))

        modes = {
            stat.S_IMODE(path.stat().st_mode)
            for path in bench.folder.iterdir()
        }
        assert modes == {0o660}

    def test_without_locks(self, bench, monkeypatch):
        """A file system that cannot lock is refused: nothing else will do."""

        def flock(*_: object) -> None:
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(fcntl, "flock", flock)

        for use in (
            lambda: bench.table(limit_s=0.05).all(),
            lambda: owner(bench.folder, limit_s=0.05),
        ):
            with (
                ignoring_warnings(),
                pytest.raises(exception.LedgerUnusable, match="support flock"),
            ):
                use()

        assert not list(bench.folder.glob("*.json"))

    def test_private_by_default(self, bench):
        """A ledger names guests and hosts: others need not know."""
        bench.claim()

        assert stat.S_IMODE(bench.folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(bench.path.stat().st_mode) == 0o600


#: Claims and releases for ever, telling of each; dies at any moment.
WRITER = """
import pathlib, sys
from tests.unit.test_ledger import Bench
bench = Bench(pathlib.Path(sys.argv[1]))
while True:
    bench.claim()
    print("claimed", flush=True)
    bench.table().release(next(iter(bench.table().all())))
"""


#: Makes a ledger's locks, but dies before others may use one.
KILLED_SHARING = """
import os, pathlib, sys
from mdev_migrate import ledger
from tests.unit.test_ledger import Bench
os.fchmod = lambda *_: os._exit(9)
folder = pathlib.Path(sys.argv[1])
if sys.argv[2] == "claims":
    Bench(folder).claim()
ledger.Owners(folder, "test").note("vm", "a:///", "b:///")
"""


def start(program: str, *args: str) -> subprocess.Popen[str]:
    """Start a Python process of our own."""
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", program, *args],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        cwd=pathlib.Path(__file__).parents[2],
    )


@pytest.mark.parametrize("lines", range(1, 6))
def test_killed_while_writing(bench, lines):
    """The ledger is whole and unlocked whenever its writer is killed."""
    with start(WRITER, str(bench.folder)) as writer:
        for _ in range(lines):
            assert writer.stdout.readline() == "claimed\n"
        writer.send_signal(signal.SIGKILL)

    found = bench.table().all()

    assert bench.reports == []
    assert list(found) in ([], [builders.instance(1)])
    bench.claim(2)


#: Owns a claim until it is told to end, or killed.
OWNER = """
import pathlib, sys
from mdev_migrate import ledger
owners = ledger.Owners(pathlib.Path(sys.argv[1]), "test")
owners.note("vm", "a:///", "b:///")
print(owners.token, flush=True)
sys.stdin.readline()
"""


class TestOwners:
    def test_a_process_that_is_killed_is_dead(self, bench):
        """No owner outlives its process, and its file is cleared away."""
        owners = owner(bench.folder)
        with start(OWNER, str(bench.folder)) as other:
            note = claims.Note(token=other.stdout.readline().strip())
            alive = owners.lives(note)
            other.send_signal(signal.SIGKILL)

        assert (alive, owners.lives(note)) == (True, False)
        assert [p.stem for p in bench.folder.glob("*.alive")] == [owners.token]

    def test_a_new_owner_sweeps(self, bench):
        """Files of killed processes without claims do not pile up."""
        with start(OWNER, str(bench.folder)) as other:
            other.stdout.readline()
            other.send_signal(signal.SIGKILL)

        owners = owner(bench.folder)

        assert [p.stem for p in bench.folder.glob("*.alive")] == [owners.token]

    def test_a_new_owner_leaves_the_living(self, bench):
        """Nobody is swept away while alive, not in this process either."""
        first = owner(bench.folder)
        second = ledger.Owners(bench.folder, "test")
        note = first.note("vm", "a:///", "b:///")

        lived = second.lives(note)
        first.close()
        first.close()

        assert (lived, second.lives(note)) == (True, False)

    @pytest.mark.parametrize("token", ["", "../../etc/passwd", "x" * 5000])
    def test_no_token(self, bench, token):
        """A token that is none never reaches a path: its owner is dead."""
        owners = ledger.Owners(bench.folder, "test")

        assert not owners.lives(claims.Note(token=token))

    def test_own(self, bench):
        """One's own claim is alive until its migration is over."""
        owners = ledger.Owners(bench.folder, "test")
        bench.claim(note=owners.note("vm", "a:///", "b:///"))
        claim = bench.table().all()[builders.instance(1)]

        with pytest.raises(exception.ClaimHeld):
            owners.may_replace(claim)
        bench.table().leave(claim.instance_uuid, claim.note)
        left = bench.table().all()[builders.instance(1)]
        owners.may_replace(left)

        assert not owners.lives(left.note)
        assert owners.lives(owners.adopt(left.note))


class TestClaimTable:
    def test_only_the_noted_claim(self, bench):
        """Nobody advances, leaves or releases a claim that took its place."""
        table = bench.table()
        mine, other = claims.Note(token="mine"), claims.Note(token="other")
        bench.claim(note=other)
        instance = builders.instance(1)

        done = [
            table.advance(instance, phases.Step.CREATE, mine),
            table.leave(instance, mine),
            table.release(instance, mine),
        ]

        assert done == [False, False, None]
        assert table.all()[instance].note == other

    def test_no_claim(self, bench):
        """There is nothing to advance, leave or release."""
        table = bench.table()
        note = claims.Note()

        assert not table.advance("x", phases.Step.CREATE)
        assert not table.leave("x", note)
        assert table.release("x", note) is None

    def test_refuse_unfinished(self, bench):
        """Only a claim that was left, and not begun, can be replaced."""
        instance = builders.instance(1)
        fresh = claims.Claim(instance, PLAN)
        left = claims.Claim(instance, PLAN, note=claims.Note(over=True))
        begun = claims.Claim(
            instance, PLAN, phases.Step.CREATE, claims.Note(over=True)
        )

        claims.refuse_unfinished(left)
        for claim in (fresh, begun):
            with pytest.raises(exception.ClaimHeld):
                claims.refuse_unfinished(claim)

    def test_held_besides_ones_own(self, bench):
        """Planning anew, an instance may have what it has claimed."""
        bench.claim()

        assert bench.table().held(builders.instance(1)) == ()
        assert bench.table().held() == PLAN.mdevs

    def test_nothing_to_remember(self, bench):
        """Nothing made, nothing written."""
        bench.table().remember("x", ())
        bench.table().forget(())

        assert not bench.path.exists()

    def test_memory_remembers_too(self):
        """Without a ledger, what was made is known to the process."""
        table = claims.ClaimTable()
        table.remember("x", PLAN.create)
        table.forget([builders.uuid(9)])

        assert table.made() == {builders.uuid(2): "x"}
