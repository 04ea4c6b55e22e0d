# SPDX-License-Identifier: Apache-2.0
"""What recovery does in cases that no single fault makes."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import threading
import time
from collections.abc import Callable

import pytest

from mdev_migrate import exception, ledger, testing
from mdev_migrate.core import allocation, claims, phases
from mdev_migrate.workflow import GuestMigration, Recovery, clear
from tests import builders, crashes, scenes

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)


@pytest.fixture
def world(tmp_path: pathlib.Path) -> crashes.Crashes:
    """Return hosts and a guest with two mdevs, one to be reused."""
    return crashes.Crashes(tmp_path, crashes.kinds(2), ["mtty-1"])


def killed_while_copying(world: crashes.Crashes) -> testing.Gate:
    """Let a process die while its migration goes on; return the gate."""
    gate = world.group.hold("copy", 3)
    gate.__enter__()
    thread = threading.Thread(target=crashes.run, args=(world.migrate,))
    thread.start()
    gate.wait_reached()
    world.group.kill_process()
    thread.join()
    world.owners.close()
    world.group.new_process()
    world.owners = ledger.Owners(world.folder, "test")
    return gate


class TestUnderWay:
    def test_kept_while_it_goes_on(self, world):
        """A migration that goes on without its process is let be."""
        gate = killed_while_copying(world)

        (recovered,) = world.recover()
        gate.release()
        world.group.wait_for_migrations()
        (again,) = world.recover()

        assert (recovered.action, again.action) == ("kept", "finished")
        assert world.broken() == []

    def test_aborted_on_request(self, world):
        """Aborted, it is undone."""
        gate = killed_while_copying(world)
        place = world.place(world.scene.there)

        def abort(_link: object, call: Callable[[], object]) -> object:
            answer = call()
            gate.release()
            return answer

        world.group.faults.on("abortJob", abort)

        (recovered,) = Recovery(
            place, world.open, world.owners, abort=True
        ).run()

        assert recovered.action == "undone"
        assert (world.arrived(), world.broken()) == (False, [])

    def test_dry_run_does_not_wait(self, world):
        """A dry run says what is to be seen now."""
        gate = killed_while_copying(world)

        (foreseen,) = world.recover(dry_run=True)
        gate.release()
        world.group.wait_for_migrations()

        assert foreseen.action == "kept"

    def test_a_retry_is_refused(self, world):
        """Nobody migrates a guest that is on its way."""
        gate = killed_while_copying(world)

        outcome = world.migrate()
        gate.release()
        world.group.wait_for_migrations()

        assert outcome.result == "refused"


class TestPaused:
    @pytest.mark.parametrize("reachable", [True, False])
    def test_after_it_arrived(self, world, reachable):
        """A guest that somebody paused where it arrived is no riddle."""
        world.group.faults.on("migrateToURI3", testing.die_after(), nth=2)
        crashes.run(world.migrate)
        world.restart()
        here, there = world.scene.here, world.scene.there
        there.open().lookupByName("vm").suspend()
        if not reachable:
            here.stop_daemon()

        recovery = Recovery(world.place(there), world.open, world.owners)
        (recovered,) = recovery.run()
        here.start_daemon()

        assert recovered.action == "finished"
        assert (world.claimed(), world.arrived()) == ({}, True)

    def test_on_its_way(self, world):
        """A guest that somebody pauses on its way is settled too."""
        gate = killed_while_copying(world)
        world.scene.here.open().lookupByName("vm").suspend()
        gate.release()
        world.group.wait_for_migrations()

        (recovered,) = world.recover()

        assert recovered.action == "finished"
        assert (world.arrived(), world.broken()) == (True, [])

    def test_while_it_comes_in(self, world):
        """A guest is paused on its way too, and that says nothing."""
        gate = killed_while_copying(world)
        place = world.place(world.scene.there)
        world.scene.here.stop_daemon()

        (recovered,) = Recovery(
            place, world.open, world.owners, source_gone=True
        ).run()
        gate.release()

        assert recovered.action == "kept"


def begin_later(world: crashes.Crashes, late: testing.Late) -> None:
    """Let a late call begin when the source was found to have no job."""
    there = world.scene.there.name

    def effect(_link: object, call: Callable[[], object]) -> object:
        try:
            return call()
        finally:
            late.begin()

    for nth in range(1, 99):
        world.group.faults.on(
            "lookupByUUIDString", effect, host=there, nth=nth
        )


class TestLate:
    """A host may begin a call whose sender is gone."""

    def test_after_a_death(self, world):
        """A guest that seems to have stayed is looked at for a while."""
        late = testing.Late()
        world.group.faults.on("migrateToURI3", late, nth=2)
        assert not crashes.run(world.migrate)
        world.restart()
        world.limits = dataclasses.replace(crashes.LIMITS, stable_s=0.5)
        begin_later(world, late)

        (recovered,) = world.recover()

        assert recovered.action == "finished"
        assert (world.arrived(), world.broken()) == (True, [])

    def test_after_a_connection_broke(self, world):
        """So it is by a process that lives, which aborts what begins."""
        late = testing.Late(dies=False)
        world.group.faults.on("migrateToURI3", late, nth=2)
        world.limits = dataclasses.replace(crashes.LIMITS, stable_s=0.5)
        begin_later(world, late)

        outcome = world.migrate()
        world.group.wait_for_migrations()

        assert world.arrived() == (outcome.result == "migrated")
        assert world.broken() == []

    def test_only_for_a_while(self, world):
        """One that does not begin within the limit is not waited for."""
        world.group.faults.on("migrateToURI3", testing.Late(), nth=2)
        assert not crashes.run(world.migrate)
        world.restart()

        (recovered,) = world.recover()

        assert recovered.action == "undone"
        assert (world.arrived(), world.broken()) == (False, [])

    def test_an_answer_is_believed_at_once(self, world):
        """Who hears that it failed need not wait."""
        world.group.pace = crashes.fail_the_copy
        world.limits = dataclasses.replace(crashes.LIMITS, stable_s=60.0)
        started = time.monotonic()

        outcome = world.migrate()

        assert outcome.result == "failed"
        assert time.monotonic() - started < world.limits.stable_s


class TestAtTheSameTime:
    def test_two_recoveries(self, world):
        """Only one of them settles a claim."""
        world.group.faults.on("migrateToURI3", testing.die_after(), nth=2)
        crashes.run(world.migrate)
        world.restart()
        start = threading.Barrier(8)
        settled = []

        def recover() -> None:
            owners = ledger.Owners(world.folder, "another")
            recovery = Recovery(
                world.place(world.scene.there), world.open, owners
            )
            start.wait()
            settled.extend(recovery.run())
            owners.close()

        threads = [threading.Thread(target=recover) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        actions = [recovered.action for recovered in settled]
        assert actions.count("finished") == 1
        assert set(actions) <= {"finished", "kept"}
        assert world.broken() == []

    def test_two_migrations_of_a_guest(self, world):
        """Of two threads that migrate a guest, one is refused."""
        with world.group.hold("copy", 3) as gate:
            first = threading.Thread(target=world.migrate)
            first.start()
            gate.wait_reached()
            second = world.migrate()
        first.join()

        assert second.result == "refused"
        assert (world.arrived(), world.broken()) == (True, [])


class TestLost:
    @staticmethod
    def migrate(world, observer):
        """Migrate without an owner, with somebody who hears of it."""
        return GuestMigration(
            world.scene.host(world.scene.here),
            world.place(world.scene.there),
            "vm",
            observer=observer,
        ).run()

    def test_the_ledger_vanishes(self, world):
        """Without its claim a migration is given up before it begins."""
        removed = []

        class Remover(scenes.Silent):
            def step(self, step: phases.Step, detail: str) -> None:
                if step is phases.Step.CREATE and not removed:
                    removed.extend(world.folder.glob("*.json"))
                    for path in removed:
                        path.unlink()

        outcome = self.migrate(world, Remover())

        assert isinstance(outcome.error, exception.ClaimLost)
        assert (world.arrived(), world.broken()) == (False, [])

    @pytest.mark.parametrize(
        "step", [phases.Step.CREATE, phases.Step.PREPARE, phases.Step.MIGRATE]
    )
    def test_the_folder_vanishes(self, world, step):
        """Without any ledger all that was made is undone as well."""
        before = world.scene.snapshot()

        class Remover(scenes.Silent):
            def step(self, entered: phases.Step, detail: str) -> None:
                if entered is step and world.folder.exists():
                    shutil.rmtree(world.folder)

        world.group.pace = crashes.fail_the_copy
        outcome = self.migrate(world, Remover())

        assert outcome.result == "failed"
        assert world.scene.snapshot() == before
        assert any("ledger" in text for text in outcome.warnings)

    def test_half_loaded_mdevs_cost_one_migration(self, world):
        """Whatever nobody remembers is made usable by failing once."""
        world.group.pace = crashes.fail_the_copy
        world.group.faults.on("migrateToURI3", testing.die_after(), nth=2)
        assert not crashes.run(world.migrate)
        world.restart()
        world.group.pace = lambda _: None
        (path,) = world.folder.glob("*.json")
        path.write_text("{")
        spoiled = world.scene.there.unusable_mdevs()

        first, second = world.migrate(), world.migrate()

        assert len(spoiled) == 2
        assert (first.result, second.result) == ("failed", "migrated")
        assert world.scene.there.unusable_mdevs() == set()
        assert world.broken() == []

    @pytest.mark.parametrize("step", [phases.Step.CREATE, phases.Step.MIGRATE])
    def test_what_others_have_claimed_since_is_theirs(self, world, step):
        """Who finds his claim gone undoes nothing that is another's by now."""
        place = world.place(world.scene.there)
        wanted = builders.wants(*crashes.kinds(2))
        plan = place.provide(builders.instance(1), wanted)
        (path,) = world.folder.glob("*.json")
        path.unlink()
        other = place.provide(builders.instance(2), wanted)
        world.group.faults.forget_calls()

        problems = place.roll_back(builders.instance(1), step, plan)

        assert set(other.mdevs) == set(plan.mdevs)
        assert problems == ()
        assert "destroy" not in [c.name for c in world.group.faults.calls]

    def test_an_answer_that_is_late(self, world):
        """What a host creates after its caller died is found and removed."""
        world.group.faults.on("nodeDeviceCreateXML", testing.die(), nth=1)
        crashes.run(world.migrate)
        world.restart()
        (claim,) = world.claimed().values()
        (mdev,) = claim.plan.create
        there = world.scene.there

        def create_late(link, call):
            answer = call()
            if mdev.uuid not in there.mdevs():
                there.add_mdev(mdev.uuid, mdev.mdev_type)
            return answer

        world.group.faults.on(
            "listAllDevices", create_late, host=there.name, nth=3
        )
        world.recover()

        assert world.broken() == []


class TestWithoutLedger:
    def test_a_retry_settles_what_was_left(self):
        """A process without a ledger settles its own leftovers."""
        scene = scenes.Scene(["mtty-1"], limits=crashes.LIMITS)
        busy = testing.fail(testing.libvirt_error(1, "device in use"))
        for nth in range(1, 400):
            scene.group.faults.on("destroy", busy, nth=nth)
        scene.group.pace = crashes.fail_the_copy
        failed = scene.migrate()
        (left,) = scene.claimed().values()
        scene.group.faults.clear()
        scene.group.pace = lambda _: None

        again = scene.migrate()

        assert (failed.result, left.note.over) == ("failed", True)
        assert scene.missed(again) == []
        assert again.warnings[0].startswith("undone: ")


class TestClearing:
    def test_somebody_else_was_promised_it(self, world):
        """What is in a claim is not removed, the rest is."""
        world.migrate()
        world.migrate(back=True)
        there = world.scene.there
        there.add_mdev(builders.uuid(7), "mtty-1")
        there.add_mdev(builders.uuid(9), "mtty-1")
        place = world.place(there)
        place.claims.remember(
            builders.instance(7), [builders.mdev(n) for n in (7, 8, 9)]
        )
        plan = allocation.AllocationPlan((builders.mdev(7),))
        with place.claims.claim(builders.instance(8), lambda _: plan):
            cleared = clear(place, claims.Note(token="x"))

        assert cleared.problems == ()
        assert dict(cleared.removed) == {
            builders.uuid(9): builders.instance(7)
        }
        assert builders.uuid(7) in there.mdevs()
        assert builders.uuid(9) not in there.mdevs()
        assert place.claims.made() == {builders.uuid(7): builders.instance(7)}

    def test_the_guest_comes_back(self, world):
        """What was made for a guest is let be while it is on its way."""
        there = world.scene.there
        there.add_mdev(builders.uuid(7), "mtty-1")
        place = world.place(there)
        place.claims.remember(builders.instance(7), [builders.mdev(7)])
        plan = allocation.AllocationPlan((builders.mdev(8),))
        with place.claims.claim(builders.instance(7), lambda _: plan):
            cleared = clear(place, claims.Note(token="x"))

        assert (dict(cleared.removed), cleared.problems) == ({}, ())
        assert builders.uuid(7) in there.mdevs()

    def test_the_host_lists_nothing_for_a_moment(self, world):
        """What a guest has is remembered, whatever the host lists."""
        world.migrate()
        place = world.place(world.scene.there)
        made = place.claims.made()
        for nth in (1, 2):
            world.group.faults.on(
                "listAllDevices",
                lambda _link, _call: [],
                host="host-b",
                nth=nth,
            )

        clear(place, claims.Note(token="x"))

        assert made
        assert place.claims.made() == made

    def test_one_that_survives_a_reboot(self, world):
        """What is defined is part of the host's set-up by now."""
        there = world.scene.there
        there.add_mdev(builders.uuid(7), "mtty-1", persistent=True)
        place = world.place(there)
        place.claims.remember(builders.instance(7), [builders.mdev(7)])

        cleared = clear(place, claims.Note(token="x"))

        assert (cleared.removed, builders.uuid(7) in there.mdevs()) == (
            {},
            True,
        )

    def test_busy(self, world):
        """What cannot be removed is left to the next recovery."""
        there = world.scene.there
        there.add_mdev(builders.uuid(7), "mtty-1")
        place = world.place(there)
        place.claims.remember(builders.instance(7), [builders.mdev(7)])
        busy = testing.fail(testing.libvirt_error(1, "device in use"))
        for nth in range(1, 400):
            world.group.faults.on("destroy", busy, nth=nth)

        note = world.owners.note("", place.host.uri, place.host.uri)
        cleared = clear(place, note)
        world.group.faults.clear()
        world.recover()

        assert [e.code for e in cleared.problems] == ["mdev-busy"]
        assert world.broken() == []


class TestWithoutWaiting:
    """What a command does first, that is about another guest."""

    def _left(
        self, world: crashes.Crashes, step: phases.Step, instance_uuid: str
    ) -> None:
        """Leave a claim on an mdev that the host does not list."""
        uris = world.scene.here.uris[0], world.scene.there.uris[0]
        plan = allocation.AllocationPlan(create=(builders.mdev(7),))
        place = world.place(world.scene.there)
        with place.claims.claim(
            instance_uuid,
            lambda _: plan,
            world.owners.note("vm", *uris),
            step=step,
        ):
            pass
        world.restart()

    def _settle(self, world: crashes.Crashes) -> str:
        place = world.place(world.scene.there)
        recovery = Recovery(place, world.open, world.owners)
        (claim,) = recovery.abandoned()
        return recovery.settle(claim, wait=False).action

    @pytest.mark.parametrize("step", [phases.Step.CREATE, phases.Step.MIGRATE])
    def test_kept(self, world, step):
        """What may still be begun is not undone before it was waited for."""
        self._left(world, step, builders.INSTANCE)

        assert self._settle(world) == "kept"
        assert [each.action for each in world.recover()] == ["undone"]
        assert world.claimed() == {}

    def test_created(self, world):
        """What is listed is removed at once."""
        world.scene.there.add_mdev(builders.uuid(7), "mtty-1")
        self._left(world, phases.Step.CREATE, builders.INSTANCE)

        assert self._settle(world) == "undone"
        assert world.broken() == []

    def test_arrived(self, world):
        """A guest that has arrived is not waited for."""
        world.group.faults.on("migrateToURI3", testing.die_after(), nth=2)
        crashes.run(world.migrate)
        world.restart()

        assert self._settle(world) == "finished"
        assert world.broken() == []
