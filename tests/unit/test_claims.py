# SPDX-License-Identifier: Apache-2.0
"""Is an mdev promised to one instance only, and given back in the end?"""

import threading

import pytest

from mdev_migrate import exception
from mdev_migrate.core import allocation, claims, phases
from tests import builders

ONE = allocation.AllocationPlan(reuse=(builders.mdev(1),))
TWO = allocation.AllocationPlan(create=(builders.mdev(2),))
OTHER = builders.instance(9)


def _claim(table, instance=builders.INSTANCE, plan=ONE, **facts):
    """Claim a plan and keep it."""
    with table.claim(instance, lambda _: plan, **facts) as claimed:
        return claimed


class TestClaim:
    """Claiming, and what others see of it."""

    def test_kept_when_the_block_ends_well(self):
        """A claim stays until it is released."""
        table = claims.ClaimTable()

        plan = _claim(table)

        assert (plan, table.held()) == (ONE, ONE.mdevs)

    def test_failed_block_gives_the_mdevs_back(self):
        """An error while the claim is used leaves nothing claimed."""
        table = claims.ClaimTable()

        with (
            pytest.raises(KeyboardInterrupt),
            table.claim(builders.INSTANCE, lambda _: ONE),
        ):
            raise KeyboardInterrupt

        assert table.all() == {}

    def test_failed_choice_claims_nothing(self):
        """A refusal leaves the claims as they were."""
        table = claims.ClaimTable()
        _claim(table, OTHER, TWO)

        def refuse(held):
            raise exception.TargetMdevMissing(builders.uuid(1), "mtty-1")

        with (
            pytest.raises(exception.TargetMdevMissing),
            table.claim(builders.INSTANCE, refuse),
        ):
            pass

        assert list(table.all()) == [OTHER]

    def test_choice_sees_what_others_hold(self):
        """Existing and new mdevs of all other instances."""
        table = claims.ClaimTable()
        _claim(table, builders.instance(7), ONE)
        _claim(table, builders.instance(8), TWO)
        seen = []

        with table.claim(OTHER, lambda held: seen.append(held) or ONE):
            pass

        assert seen == [(*ONE.mdevs, *TWO.mdevs)]

    def test_newer_claim_replaces_the_older(self):
        """A pre-check whose answer was lost does not count twice."""
        table = claims.ClaimTable()
        _claim(table)
        seen = []

        with table.claim(
            builders.INSTANCE, lambda held: seen.append(held) or TWO
        ):
            pass

        assert (seen, table.held()) == ([()], TWO.mdevs)

    @pytest.mark.parametrize("step", list(phases.Step)[4:])
    def test_claim_that_must_not_be_replaced(self, step):
        """One whose migration has begun stays until it is settled."""
        table = claims.ClaimTable()
        _claim(table)
        table.advance(builders.INSTANCE, step)

        with pytest.raises(exception.ClaimHeld):
            _claim(table, plan=TWO)

        assert table.held() == ONE.mdevs

    def test_refused_replacement_leaves_the_older(self):
        """Who asks may say that the older claim must stay."""
        table = claims.ClaimTable()
        _claim(table)

        def refuse(claim):
            raise exception.ClaimHeld(claim.instance_uuid, claim.note.owner)

        with pytest.raises(exception.ClaimHeld):
            _claim(table, plan=TWO, may_replace=refuse)

        assert table.held() == ONE.mdevs

    def test_older_block_that_fails_late(self):
        """It does not give back what a newer claim promised."""
        table = claims.ClaimTable()

        with (  # noqa: PT012 - the block is what fails
            pytest.raises(KeyError),
            table.claim(builders.INSTANCE, lambda _: ONE),
        ):
            _claim(table, plan=TWO)
            raise KeyError

        assert table.held() == TWO.mdevs

    def test_block_that_fails_after_its_release(self):
        """Giving back what was released already is no error."""
        table = claims.ClaimTable()

        with (  # noqa: PT012 - the block is what fails
            pytest.raises(KeyError),
            table.claim(builders.INSTANCE, lambda _: ONE),
        ):
            table.release(builders.INSTANCE)
            raise KeyError

        assert table.all() == {}

    def test_note(self):
        """A claim says who made it, and for what."""
        table = claims.ClaimTable()
        note = claims.Note(owner="process 7", since=1.5, guest="vm")

        _claim(table, note=note)

        assert table.get(builders.INSTANCE) == claims.Claim(
            builders.INSTANCE, ONE, phases.Step.CLAIM, note
        )

    def test_step_to_begin_with(self):
        """A claim may be made for a migration that is further on."""
        table = claims.ClaimTable()

        _claim(table, step=phases.Step.MIGRATE)

        assert table.all()[builders.INSTANCE].step is phases.Step.MIGRATE


class TestRelease:
    """Giving a claim up."""

    def test_twice(self):
        """The second time there is nothing to release."""
        table = claims.ClaimTable()
        _claim(table)

        released = [table.release(builders.INSTANCE) for _ in range(2)]

        assert [claim and claim.plan for claim in released] == [ONE, None]

    def test_others_stay(self):
        """Releasing one instance leaves the others' claims."""
        table = claims.ClaimTable()
        _claim(table)
        _claim(table, OTHER, TWO)

        table.release(builders.INSTANCE)

        assert list(table.all()) == [OTHER]


class TestAdvance:
    """Noting how far a migration is."""

    def test_step(self):
        """The step is noted; plan and note stay."""
        table = claims.ClaimTable()
        _claim(table)

        table.advance(builders.INSTANCE, phases.Step.MIGRATE)

        claim = table.all()[builders.INSTANCE]
        assert (claim.step, claim.plan) == (phases.Step.MIGRATE, ONE)

    def test_without_a_claim(self):
        """Nothing is claimed by it."""
        table = claims.ClaimTable()

        table.advance(builders.INSTANCE, phases.Step.MIGRATE)

        assert table.all() == {}


class TestAdopt:
    """Taking over the claim of an owner that is gone."""

    def test_claim_as_given(self):
        """It gets the new note; plan and step stay."""
        table = claims.ClaimTable()
        _claim(table)
        note = claims.Note(owner="heir")

        adopted = table.adopt(table.all()[builders.INSTANCE], note)

        assert (adopted, table.all()[builders.INSTANCE].note) == (True, note)

    def test_somebody_was_faster(self):
        """A claim that changed meanwhile is not taken over."""
        table = claims.ClaimTable()
        _claim(table)
        claim = table.all()[builders.INSTANCE]
        table.adopt(claim, claims.Note(owner="first"))

        adopted = table.adopt(claim, claims.Note(owner="second"))

        assert adopted is False
        assert table.all()[builders.INSTANCE].note.owner == "first"


def test_what_is_lent_out_is_not_the_store():
    """Changing what was told changes no claim."""
    table = claims.ClaimTable()
    _claim(table)

    table.all().clear()

    assert table.held() == ONE.mdevs


@pytest.mark.parametrize("reusable", [0, 10, 24])
def test_64_threads_compete_for_24_instances(reusable):
    """Exactly the capacity is given out, and no mdev twice."""
    existing = [builders.mdev(n) for n in range(1, reusable + 1)]
    found = builders.inventory([builders.mtty(24 - reusable)], existing)
    table = claims.ClaimTable()
    mint = builders.minting()
    start = threading.Barrier(64)
    refused = []

    def compete(number):
        def choose(held):
            return allocation.allocate(
                found, builders.wants("mtty-1"), held=held, mint=mint
            )

        start.wait()
        try:
            with table.claim(builders.instance(number), choose):
                pass
        except exception.TooFewMdevs:
            refused.append(number)

    threads = [threading.Thread(target=compete, args=(n,)) for n in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    held = [mdev.uuid for mdev in table.held()]
    assert (len(held), len(set(held)), len(refused)) == (24, 24, 40)
