# SPDX-License-Identifier: Apache-2.0
"""Claims as the commands show and settle them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mdev_migrate import ledger, model
from mdev_migrate.cli import options
from mdev_migrate.core import allocation, claims, phases
from tests.functional.conftest import (
    INSTANCE,
    MDEV_1,
    MDEV_2,
    TARGET,
    Answer,
    World,
)

OTHER = "aaaaaaaa-0000-4000-8000-000000000009"
CREATED = "77777777-7777-4777-8777-777777777777"
PLAN = allocation.AllocationPlan(
    (model.Mdev(TARGET, "mtty-1", "mtty_mtty"),),
    (model.Mdev(CREATED, "mtty-1", "mtty_mtty"),),
)


class Ledger:
    """The ledger of a world's commands, and another of its owners."""

    def __init__(self, world: World) -> None:
        self.folder = pathlib.Path(os.environ[options.STATE_DIR_VARIABLE])
        self.world = world
        self.owners = ledger.Owners(self.folder, "other")

    def table(self) -> claims.ClaimTable:
        """Return the claims on the destination's mdevs."""
        facts = self.world._open(self.world.there).facts()
        return claims.ClaimTable(ledger.FileStore(self.folder, facts))

    def claim(
        self,
        step: phases.Step = phases.Step.CLAIM,
        instance_uuid: str = OTHER,
        **facts: Any,
    ) -> claims.Note:
        """Claim the plan, as another command would."""
        note = self.owners.note("vm9", self.world.here, self.world.there)
        with self.table().claim(
            instance_uuid,
            lambda _: PLAN,
            dataclasses.replace(note, **facts),
            step=step,
        ):
            return note


@pytest.fixture
def book(world: World) -> Iterator[Ledger]:
    """Return the ledger, with the mdev that claims would reuse."""
    world.destination.add_mdev(TARGET, "mtty-1")
    book = Ledger(world)
    yield book
    book.owners.close()


def there(world: World, *args: str) -> Answer:
    """Call a command that has the destination for its host."""
    return world.call("-c", world.there, *args)


class TestClaims:
    def test_none(self, world, book):
        """Nothing claimed is said so, and is an empty list."""
        shown = there(world, "claims")
        found = there(world, "claims", "--json").json

        assert (shown.code, shown.out) == (0, "nothing is claimed on host-b\n")
        assert found == {"host": "host-b", "claims": [], "made": {}}

    def test_json(self, world, book):
        """A program learns everything about a claim."""
        before = time.time()
        note = book.claim(phases.Step.CREATE)

        (found,) = there(world, "claims", "--json").json["claims"]

        assert 0 <= found.pop("age") <= time.time() - before + 1
        assert found.pop("since").startswith("20")
        assert found == {
            "instance_uuid": OTHER,
            "guest": "vm9",
            "owner": note.owner,
            "alive": True,
            "step": "create",
            "source": world.here,
            "destination": world.there,
            "migration": None,
            "reuse": [
                {"uuid": TARGET, "type": "mtty-1", "parent": "mtty_mtty"}
            ],
            "create": [
                {"uuid": CREATED, "type": "mtty-1", "parent": "mtty_mtty"}
            ],
        }

    def test_for_people(self, world, book):
        """People see who claims what, for how long, and whether he lives."""
        book.claim()
        alive = there(world, "claims").out
        book.owners.close()
        ended = there(world, "claims").out

        for word in (OTHER, "vm9", "claim", "0:00:0", "other (process"):
            assert word in alive
        assert ("alive" in alive, "ended" in ended) == (True, True)

    def test_listed(self, world, book):
        """The list of mdevs shows the claims of other commands."""
        book.claim()

        (found,) = there(world, "list", "--json").json["mdevs"]

        assert found["held_by"] == f"claim of {OTHER}"

    def test_age_with_a_clock_set_back(self, world, book):
        """A claim from the future is new, not an error."""
        book.claim(since=time.time() + 9999)

        (found,) = there(world, "claims", "--json").json["claims"]

        assert found["age"] == 0


class TestRecover:
    def test_nothing(self, world, book):
        """Nothing left is exit code 0."""
        answer = there(world, "recover")

        assert (answer.code, answer.out) == (0, "nothing was left on host-b\n")

    def test_undone(self, world, book):
        """What a dead command made is removed, and said so."""
        world.destination.add_mdev(CREATED, "mtty-1")
        book.claim(phases.Step.CREATE)
        book.owners.close()

        answer = there(world, "recover", "--json")

        (found,) = answer.json["claims"]
        assert (answer.code, found["action"]) == (0, "undone")
        assert list(world.destination.mdevs()) == [TARGET]
        assert book.table().all() == {}

    def test_dry_run(self, world, book):
        """A dry run says the same and changes nothing."""
        world.destination.add_mdev(CREATED, "mtty-1")
        book.claim(phases.Step.CREATE)
        book.owners.close()
        before = book.table().all()

        answer = there(world, "recover", "--dry-run")

        assert answer.code == 0
        assert answer.out.startswith("would be undone: ")
        assert (book.table().all(), len(world.destination.mdevs())) == (
            before,
            2,
        )

    def test_the_living_are_left_alone(self, world, book):
        """A claim whose owner lives is nobody else's business."""
        book.claim(phases.Step.MIGRATE)

        answer = there(world, "recover", "--json")

        assert (answer.code, answer.json["claims"]) == (0, [])
        assert OTHER in book.table().all()

    def test_novas_are_left_alone(self, world, book):
        """A claim of Nova's is shown, and never settled here."""
        book.claim(phases.Step.MIGRATE, migration=INSTANCE)
        book.owners.close()

        answer = there(world, "recover", "--json")
        (shown,) = there(world, "claims", "--json").json["claims"]

        assert (answer.code, answer.json["claims"]) == (0, [])
        assert shown["migration"] == INSTANCE
        assert "nova" in there(world, "claims").out

    def test_kept(self, world, book):
        """What cannot be told is kept: exit code 1, with the reason."""
        book.claim(phases.Step.MIGRATE, source="qemu+tls://gone/system")
        book.owners.close()

        answer = there(world, "recover", "--json")

        (found,) = answer.json["claims"]
        assert (answer.code, found["action"]) == (1, "kept")
        assert "qemu+tls://gone/system" in found["reason"]
        assert OTHER in book.table().all()

    def test_source_gone_for_good(self, world, book):
        """An operator may say that the source is off and stays off."""
        book.claim(phases.Step.MIGRATE, source="qemu+tls://gone/system")
        book.owners.close()

        answer = there(world, "recover", "--source-gone", "--json")

        assert answer.code == 0
        assert book.table().all() == {}

    def test_source_gone_but_the_guest_is_here(self, world, book):
        """A host that was emptied and switched off need not be asked."""
        world.destination.add_mdev(CREATED, "mtty-1")
        world.destination.add_guest("vm9", OTHER, [TARGET, CREATED])
        book.claim(phases.Step.MIGRATE, source="qemu+tls://gone/system")
        book.owners.close()

        answer = there(world, "recover", "--json")

        (found,) = answer.json["claims"]
        assert (answer.code, found["action"]) == (0, "finished")
        assert book.table().made() == {CREATED: OTHER}

    def test_a_guest_that_arrived_and_was_shut_off(self, world, book):
        """It keeps its mdevs: it will want to start again."""
        world.destination.add_mdev(CREATED, "mtty-1")
        world.destination.add_guest(
            "vm9", OTHER, [TARGET, CREATED], running=False
        )
        book.claim(phases.Step.MIGRATE)
        book.owners.close()

        there(world, "recover")

        assert set(world.destination.mdevs()) == {TARGET, CREATED}
        assert book.table().all() == {}

    def test_a_guest_that_arrived_and_went_on(self, world, book):
        """What it was given here is not kept for it."""
        world.destination.add_mdev(CREATED, "mtty-1")
        book.claim(phases.Step.VERIFY)
        book.owners.close()

        there(world, "recover")

        assert list(world.destination.mdevs()) == [TARGET]

    def test_what_another_guest_has_taken(self, world, book):
        """An mdev that a guest uses by now is that guest's."""
        world.destination.add_guest("vm8", INSTANCE, [TARGET])
        book.claim(phases.Step.MIGRATE)
        book.owners.close()

        answer = there(world, "recover")

        assert answer.code == 0
        assert book.table().all() == {}
        assert world.destination.used_mdevs() == {TARGET: "vm8"}

    def test_unreachable(self, world, book):
        """A destination that does not answer is exit code 3."""
        world.destination.stop_daemon()

        answer = there(world, "recover", "--json")

        assert (answer.code, answer.json["error"]["code"]) == (
            3,
            "host-unreachable",
        )


class TestOthers:
    def test_check_settles_first(self, world, book):
        """What a dead command left does not stand in the way."""
        world.add_guest({MDEV_1: "mtty-1"})
        world.destination.add_mdev(CREATED, "mtty-1")
        book.claim(phases.Step.CREATE)
        book.owners.close()

        answer = world.run("check", "vm", "--to", world.there)

        assert answer.code == 0
        assert answer.err.startswith("warning: undone: what other (process")
        assert list(world.destination.mdevs()) == [TARGET]

    def test_migrate_settles_first(self, world, book):
        """A guest's own claim of a command that was killed is settled."""
        world.add_guest()
        book.claim(phases.Step.CREATE, INSTANCE)
        book.owners.close()

        answer = world.run("migrate", "vm", "--to", world.there, "--json")

        assert answer.json["result"] == "migrated"
        assert answer.json["warnings"][0].startswith("undone: ")

    def test_plan_changes_nothing(self, world, book):
        """A plan leaves to the dead what is theirs."""
        world.add_guest({MDEV_1: "mtty-1"})
        book.claim()
        book.owners.close()

        answer = world.run("plan", "vm", "--to", world.there, "--json")

        assert (answer.code, answer.json["reuse"]) == (0, [])
        assert OTHER in book.table().all()

    def test_the_second_operator_is_refused(self, world, book):
        """A guest that another command migrates is not migrated twice."""
        world.add_guest({MDEV_1: "mtty-1"})
        book.claim(phases.Step.MIGRATE, INSTANCE)

        answer = world.run("migrate", "vm", "--to", world.there, "--json")

        assert (answer.code, answer.json["result"]) == (1, "refused")
        assert answer.json["error"]["code"] == "claim-held"
        assert INSTANCE in book.table().all()

    def test_unusable_ledger(self, world):
        """A folder that cannot be used is an error with a hint."""
        world.add_guest({MDEV_1: "mtty-1"})
        wrong = ("--state-dir", "/dev/null/x", "--json")
        calls = [
            ("claims", *wrong),
            ("recover", *wrong),
            ("check", "vm", "--to", world.there, *wrong),
            ("plan", "vm", "--to", world.there, *wrong),
            ("migrate", "vm", "--to", world.there, *wrong),
        ]

        answers = [world.run(*call) for call in calls]

        assert {answer.code for answer in answers} == {1}
        assert {a.json["error"]["code"] for a in answers} == {
            "ledger-unusable"
        }
        assert "--state-dir" in answers[0].json["error"]["hint"]

    def test_no_owner(self, world, book):
        """Who cannot be seen to live begins nothing, and is told once."""
        world.add_guest({MDEV_1: "mtty-1"})
        book.claim()
        book.owners.close()
        lock = book.folder / "owners.lock"
        lock.unlink()
        lock.mkdir()

        answer = world.run("migrate", "vm", "--to", world.there)

        assert answer.code == 1
        assert "code: ledger-unusable" in answer.err
        assert "warning" not in answer.err

    def test_list_without_claims(self, world):
        """A list shows what it can, and says that it is not all."""
        world.add_guest({MDEV_1: "mtty-1"})

        answer = world.run("list", "--state-dir", "/dev/null/x", "--json")

        (shown,) = answer.json["mdevs"]
        assert (answer.code, shown["held_by"]) == (1, "vm")
        (warning,) = answer.json["warnings"]
        assert warning.startswith("claims cannot be seen: ledger /dev/null/x")
        assert f"warning: {warning}\n" == answer.err

    @pytest.mark.parametrize(
        "command",
        [
            ("list",),
            ("claims",),
            ("recover", "--dry-run"),
            ("check", "vm", "--to"),
            ("plan", "vm", "--to"),
        ],
    )
    @pytest.mark.parametrize("exists", [True, False])
    def test_looking_makes_no_ledger(self, world, tmp_path, command, exists):
        """Who changes nothing makes nothing that locks others out."""
        world.add_guest({MDEV_1: "mtty-1"})
        folder = tmp_path / "folder"
        if exists:
            folder.mkdir()
        to = [world.there] if command[-1] == "--to" else []

        answer = world.run(*command, *to, "--state-dir", str(folder))

        assert (answer.code, answer.err) == (0, "")
        assert list(tmp_path.rglob("*")) == ([folder] if exists else [])

    @pytest.mark.parametrize("exists", [True, False])
    def test_whose_claims_are_seen(self, world, tmp_path, monkeypatch, exists):
        """Who keeps claims to himself is told; with others is the rule."""
        world.add_guest({MDEV_1: "mtty-1"})
        shared = tmp_path / "lib" / "mdev-migrate"
        shared.parent.mkdir()
        if exists:
            shared.mkdir()
        monkeypatch.setattr(ledger, "SHARED", shared)
        monkeypatch.setattr(os, "access", lambda *_: False)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "own"))
        monkeypatch.delenv(options.STATE_DIR_VARIABLE)

        answer = world.run("claims", "--json")

        assert (answer.code, answer.json["claims"]) == (0, [])
        warning = "" if exists else f"warning: claims are kept in {tmp_path}"
        assert answer.err[: len(warning) or None] == warning
        assert answer.err.count("warning") == (not exists)

    def test_a_damaged_ledger(self, world, book):
        """It is put aside with a warning; the command goes on."""
        world.add_guest({MDEV_1: "mtty-1"})
        book.claim()
        (path,) = book.folder.glob("*.json")
        path.write_text("{")

        answer = world.run("migrate", "vm", "--to", world.there, "--json")

        assert answer.json["result"] == "migrated"
        assert answer.err.startswith("warning: ledger put aside as ")

    def test_there_and_back(self, world, book):
        """What was made for a guest goes when the guest has gone."""
        world.add_guest({MDEV_1: "mtty-1", MDEV_2: "mtty-2"})
        world.run("migrate", "vm", "--to", world.there)
        made = there(world, "claims", "--json").json["made"]

        back = there(world, "migrate", "vm", "--to", world.here, "--json")

        assert (len(made), back.json["result"]) == (1, "migrated")
        assert list(world.destination.mdevs()) == [TARGET]
        assert there(world, "claims", "--json").json["made"] == {}

    def test_a_guest_that_went_another_way(self, world, book):
        """Recovery removes what was made for a guest that is gone."""
        world.add_guest({MDEV_1: "mtty-2"}, persistent=False)
        world.run("migrate", "vm", "--to", world.there)
        (made,) = book.table().made()
        kept = there(world, "recover", "--json").json["removed"]
        world.destination.open().lookupByName("vm").destroy()

        answer = there(world, "recover", "--json")

        assert (kept, answer.code) == ({}, 0)
        assert answer.json["removed"] == {made: INSTANCE}
        assert list(world.destination.mdevs()) == [TARGET]
