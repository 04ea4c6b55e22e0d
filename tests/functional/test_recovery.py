# SPDX-License-Identifier: Apache-2.0
"""What recovery does in cases that no single fault makes."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable

import pytest

from mdev_migrate import exception, model, testing, undoing
from mdev_migrate.core import claim_xml, made
from mdev_migrate.core.claim_life import End, Owner
from mdev_migrate.model import Step
from mdev_migrate.workflow import Recovery
from mdev_migrate.workflow.keeping import Watch
from tests import builders, crashes, scenes
from tests.crashes import LIMITS

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)


@pytest.fixture
def world() -> crashes.Crashes:
    """Return hosts and a guest with two mdevs, one to be reused."""
    return crashes.Crashes(crashes.kinds(2), ["mtty-1"])


def killed_while_copying(world: crashes.Crashes) -> testing.Gate:
    """Let a process die while its migration goes on; return the gate."""
    gate = world.group.hold("copy", 3)
    gate.__enter__()
    thread = threading.Thread(target=crashes.run, args=(world.migrate,))
    thread.start()
    gate.wait_reached()
    world.group.kill_process()
    thread.join()
    world.group.new_process()
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

        def abort(_link: object, call: Callable[[], object]) -> object:
            answer = call()
            gate.release()
            return answer

        world.group.faults.on("abortJob", abort)

        (recovered,) = world.recovery(abort=True).run()

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


class TestOwnerThatLives:
    """One that was not heard for long, and goes on all the same."""

    @staticmethod
    def on_writing(
        world: crashes.Crashes, do: Callable[[model.Claim], object]
    ) -> None:
        """Do something whenever a claim that is not sent is written."""

        def effect(_link: object, call: Callable[[], object]) -> object:
            for claim in world.claims():
                if claim.step is Step.CREATE:
                    do(claim)
            return call()

        for nth in range(1, 100):
            world.group.faults.on("setMetadata", effect, nth=nth)

    @pytest.mark.parametrize("spares", [[], ["mtty-1"]])
    def test_sends_no_guest_once_it_is_given_up(self, spares):
        """It stops, and leaves its claim to whoever has taken it over."""
        world = crashes.Crashes(["mtty-1"], spares)
        host = world.scene.host(world.scene.there)
        self.on_writing(world, host.claims.close)

        outcome = world.migrate()
        world.group.faults.clear()

        assert isinstance(outcome.error, exception.ClaimLost)
        calls = [call.name for call in world.group.faults.calls]
        # Once it is asked what would be in the way of a migration.
        assert calls.count("migrateToURI3") == 1
        (recovered,) = world.recover()
        assert recovered.action == "undone"
        assert (world.arrived(), world.broken()) == (False, [])

    @pytest.mark.parametrize("spares", [[], ["mtty-1"]])
    def test_sends_one_while_its_claim_is_judged(self, spares):
        """What it was read at is old by then: the guest is looked for."""
        world = crashes.Crashes(["mtty-1"], spares)
        seen: list[model.Claim] = []
        self.on_writing(world, seen.append)
        world.group.pace = crashes.fail_the_copy
        world.group.faults.on("migrateToURI3", testing.die_after(), nth=2)
        assert not crashes.run(world.migrate)
        world.restart()
        world.group.pace = lambda _: None

        old = world.recovery().settle(seen[-1], Owner.GONE)
        assert old is not None
        assert (old.action, len(world.claims())) == ("kept", 1)
        (recovered,) = world.recover()

        assert recovered.action == "undone"
        assert world.broken() == []

    def test_ends_its_claim_meanwhile(self, world):
        """Nothing is left to do, nor to tell."""
        seen: list[model.Claim] = []
        self.on_writing(world, seen.append)
        assert world.migrate().result == "migrated"

        assert world.recovery().settle(seen[-1], Owner.GONE) is None


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

        sources = [world.scene.host(here)] if reachable else []
        (recovered,) = Recovery(world.place(there), sources).run()
        here.start_daemon()

        assert recovered.action == "finished"
        assert (world.claims(), world.arrived()) == ((), True)

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
        recovery = world.recovery(source_gone=True)
        world.scene.here.stop_daemon()

        (recovered,) = recovery.run()
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
    @pytest.mark.parametrize("copy_fails", [False, True])
    def test_eight_recoveries(self, world, copy_fails):
        """All settle it, which does no more than one alone."""
        if copy_fails:
            world.group.pace = crashes.fail_the_copy
        world.group.faults.on("migrateToURI3", testing.die_after(), nth=2)
        crashes.run(world.migrate)
        world.restart()
        start = threading.Barrier(8)
        settled = []

        def recover() -> None:
            recovery = world.recovery()
            start.wait()
            settled.extend(recovery.run())

        threads = [threading.Thread(target=recover) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        actions = {recovered.action for recovered in settled}
        assert actions == {"undone" if copy_fails else "finished"}
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


class _At(scenes.Silent):
    """Does something when a step begins, once."""

    def __init__(self, step: Step, act: Callable[[], None]) -> None:
        self._step, self._act = step, act

    def step(self, step: Step, detail: str) -> None:
        """Act if it is that step."""
        if step is self._step:
            self._step = Step.CONNECT
            self._act()


def undefine_claims(world: crashes.Crashes) -> None:
    """Remove the claims on the destination, as somebody might."""
    for domain in world.scene.there.open().listAllDomains(0):
        if claim_xml.is_named_so(domain.name()):
            domain.undefine()


class TestLost:
    """Somebody has removed the claim."""

    @pytest.mark.parametrize("step", [Step.CREATE, Step.PREPARE])
    def test_before_the_guest_is_sent(self, world, step):
        """Without its claim a migration is given up, and undone."""
        before = world.scene.snapshot()

        outcome = world.scene.migrate(
            observer=_At(step, lambda: undefine_claims(world))
        )

        assert isinstance(outcome.error, exception.ClaimLost)
        assert world.scene.snapshot() == before

    def test_while_the_guest_moves(self, world):
        """Too late to stop: it arrives, and nothing is left."""
        outcome = world.scene.migrate(
            observer=_At(Step.MIGRATE, lambda: undefine_claims(world))
        )

        assert outcome.result == "migrated"
        assert world.broken() == []

    def test_while_it_fails(self, world):
        """What was made and touched is undone without a claim as well."""
        before = world.scene.snapshot()
        world.group.pace = crashes.fail_the_copy

        outcome = world.scene.migrate(
            observer=_At(Step.MIGRATE, lambda: undefine_claims(world))
        )

        assert outcome.result == "failed"
        assert world.scene.snapshot() == before

    def test_half_loaded_mdevs_cost_one_migration(self, world):
        """Whatever nobody remembers is made usable by failing once."""
        world.group.pace = crashes.fail_the_copy
        world.group.faults.on("migrateToURI3", testing.die_after(), nth=2)
        assert not crashes.run(world.migrate)
        world.restart()
        world.group.pace = lambda _: None
        undefine_claims(world)
        spoiled = world.scene.there.unusable_mdevs()

        first, second = world.migrate(), world.migrate()

        assert len(spoiled) == 2
        assert (first.result, second.result) == ("failed", "migrated")
        assert world.scene.there.unusable_mdevs() == set()
        assert world.broken() == []

    @pytest.mark.parametrize("end", [End.UNDO, End.RECYCLE])
    def test_what_others_have_claimed_since_is_theirs(self, world, end):
        """Who finds his claim gone undoes nothing that is another's by now."""
        host = world.scene.host(world.scene.there)
        (uuid,) = world.spares
        reused = host.inventory().mdevs[0]
        assert reused.uuid == uuid
        other = builders.claim(builders.target(reused, domain=9), token=2)
        host.claims.define(other, claim_xml.PLAIN)
        world.group.faults.forget_calls()

        problems = undoing.end_claim(
            host, builders.claim(builders.target(reused)), end, LIMITS
        )

        assert problems == ()
        assert "destroy" not in [c.name for c in world.group.faults.calls]
        assert scenes.claims_on(world.scene.there).all == (other,)

    def test_an_answer_that_is_late(self, world):
        """What a host creates after its caller died is found and removed."""
        world.group.faults.on("nodeDeviceCreateXML", testing.die(), nth=1)
        crashes.run(world.migrate)
        world.restart()
        (claim,) = world.claims()
        (mdev,) = (t.mdev for t in claim.targets if t.created)
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


class TestOwner:
    """Who works on a claim is heard; who does not is gone."""

    def test_who_lives_is_left_alone(self, world):
        """A recovery sees a beat and keeps its hands off."""
        with world.group.hold("copy", 3) as gate:
            thread = threading.Thread(target=world.migrate)
            thread.start()
            gate.wait_reached()
            settled = world.recover()
        thread.join()

        assert settled == []
        assert (world.arrived(), world.broken()) == (True, [])

    def test_who_is_cut_off_may_still_arrive(self, world):
        """His claim is ended without him, and his guest comes all the same."""
        with world.group.hold("copy", 3) as gate:
            outcomes = []
            thread = threading.Thread(
                target=lambda: outcomes.append(world.migrate())
            )
            thread.start()
            gate.wait_reached()
            world.scene.there.cut_connections()
            (kept,) = world.recovery().run()
        thread.join()
        world.recover()

        assert (kept.action, "still being" in kept.reason) == ("kept", True)
        assert outcomes[0].result == "migrated"
        assert (world.arrived(), world.broken()) == (True, [])

    def test_a_source_that_nobody_named_is_not_asked(self, world):
        """No host is opened, or asked, for what a claim says."""
        world.group.faults.on("migrateToURI3", testing.die(), nth=2)
        crashes.run(world.migrate)
        world.restart()
        world.group.faults.forget_calls()

        (kept,) = Recovery(world.place(world.scene.there)).run()

        assert (kept.action, "was not named" in kept.reason) == ("kept", True)
        assert {c.host for c in world.group.faults.calls} == {"host-b"}

    def test_another_host_of_the_sources_name_is_not_the_source(self, world):
        """It does not have the guest, and that says nothing."""
        world.group.faults.on("migrateToURI3", testing.die(), nth=2)
        crashes.run(world.migrate)
        world.restart()
        host = world.scene.host(world.scene.there)
        (claim,) = world.claims()
        host.claims.write(
            dataclasses.replace(claim, source_uuid=builders.instance(9))
        )

        (kept,) = world.recovery().run()

        assert (kept.action, "was not named" in kept.reason) == ("kept", True)

    def test_a_source_that_does_not_answer_is_not_every_source(self, world):
        """The one that the claim names is asked all the same."""
        gate = killed_while_copying(world)
        world.scene.here.open().lookupByName("vm").abortJob()
        gate.release()
        world.group.wait_for_migrations()
        dead = world.group.add_host("dead")
        silent = world.scene.host(dead)
        dead.stop_daemon()

        (recovered,) = Recovery(
            world.place(world.scene.there),
            [silent, world.scene.host(world.scene.here)],
        ).run()

        assert (recovered.action, world.broken()) == ("undone", [])

    def test_others_may_come_all_the_time(self, world):
        """Who is there at first is judged, however many follow."""
        killed_while_copying(world).release()
        world.group.wait_for_migrations()
        claims = world.scene.host(world.scene.there).claims
        (left,) = claims.read().all
        tokens = map(builders.uuid, range(0x1000, 0x9000))

        def read():
            newcomer = dataclasses.replace(left, token=next(tokens))
            return [left, newcomer]

        watched = Watch(LIMITS).until_known(read)

        assert (left, Owner.GONE) in watched

    def test_novas_claims_are_novas(self, world):
        """They have no beat, and are settled on request alone."""
        host = world.scene.host(world.scene.there)
        claim = builders.claim(
            builders.target(host.inventory().mdevs[0]),
            migration=builders.instance(7),
        )
        host.claims.define(claim, claim_xml.PLAIN)

        assert world.recover() == []
        (settled,) = world.recovery(nova_too=True).run()
        assert (settled.action, world.claims()) == ("undone", ())

    def test_a_retry_settles_what_was_left(self):
        """The next migration of the guest ends the claim of the last."""
        scene = scenes.Scene(["mtty-1"], limits=crashes.LIMITS)
        busy = testing.fail(testing.libvirt_error(1, "device in use"))
        for nth in range(1, 400):
            scene.group.faults.on("destroy", busy, nth=nth)
        scene.group.pace = crashes.fail_the_copy
        failed = scene.migrate()
        (left,) = scene.claims()
        scene.group.faults.clear()
        scene.group.pace = lambda _: None

        again = scene.migrate()

        assert (failed.result, left.over) == ("failed", True)
        assert scene.missed(again) == []
        assert again.warnings[0].startswith("undone: ")


class TestMade:
    """What was made for a guest is removed as it leaves."""

    def test_it_is_noted_in_the_guest(self, world):
        """The note arrives with it, in both its documents."""
        outcome = world.migrate()

        host = world.scene.host(world.scene.there)
        created = set(outcome.target_mdevs.values()) - world.spares
        for text in (
            host.live_xml(builders.INSTANCE),
            host.inactive_xml(builders.INSTANCE),
        ):
            assert made.read(text) == created

    def test_never_while_it_is_only_shut_off(self, world):
        """Whatever is migrated there, or recovered, meanwhile."""
        world.migrate()
        there = world.scene.there
        mdevs = set(there.mdevs())
        there.open().lookupByName("vm").destroy()

        world.recover()

        assert set(there.mdevs()) == mdevs

    def test_what_somebody_else_has_claimed_is_his(self, world):
        """The claim of another is not touched, nor its mdev."""
        outcome = world.migrate()
        (created,) = set(outcome.target_mdevs.values()) - world.spares
        host = world.scene.host(world.scene.there)
        mdev = next(m for m in host.inventory().mdevs if m.uuid == created)
        other = builders.claim(builders.target(mdev), token=2)
        host.claims.define(other, claim_xml.PLAIN)

        back = world.migrate(back=True)

        assert created in world.scene.there.mdevs()
        assert scenes.claims_on(world.scene.there).all == (other,)
        # It may be what a killed command left of this guest's arrival.
        (warning,) = back.warnings
        assert f"not removed from the source: mdev {created}" in warning

    def test_busy(self, world):
        """What cannot be removed is left to the next recovery."""
        world.migrate()
        busy = testing.fail(testing.libvirt_error(1, "device in use"))
        for nth in range(1, 400):
            world.group.faults.on("destroy", busy, nth=nth)

        outcome = world.migrate(back=True)
        world.group.faults.clear()
        world.recover()

        assert "not removed from the source" in outcome.warnings[0]
        assert set(world.scene.there.mdevs()) == world.spares
        assert world.claims() == ()
