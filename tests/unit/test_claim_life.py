# SPDX-License-Identifier: Apache-2.0
"""Is every state of a claim in the table, and every move that is not one?"""

import itertools
from dataclasses import replace

import pytest

from mdev_migrate import exception, model
from mdev_migrate.core import claim_life
from mdev_migrate.core.claim_life import Deed, End, Holder, Owner, Verdict
from mdev_migrate.core.whereabouts import Whereabouts
from mdev_migrate.model import Step
from tests import builders

MADE = builders.target(builders.mdev(1), created=True)
REUSED = builders.target(builders.mdev(2))
CLAIM = builders.claim(MADE, REUSED)
ANYWHERE = (*Whereabouts, None)


class TestEnds:
    @pytest.mark.parametrize("step", claim_life.STEPS)
    def test_each_state_has_one_end(self, step):
        """Whatever is known, exactly one row of the table matches."""
        claim = replace(CLAIM, step=step)
        sent = claim_life.may_be_sent(step)

        for owner, found in itertools.product(Owner, ANYWHERE):
            rows = [
                row.end
                for row in claim_life.ENDS
                if row.sent is sent
                and owner in row.owners
                and found in row.found
            ]
            assert rows == [claim_life.end(claim, owner, found)]

    @pytest.mark.parametrize("step", claim_life.STEPS)
    @pytest.mark.parametrize("found", ANYWHERE)
    def test_who_works_is_left_alone(self, step, found):
        """Nobody ends what somebody works on."""
        claim = replace(CLAIM, step=step)

        assert claim_life.end(claim, Owner.WORKS, found) is End.KEEP

    @pytest.mark.parametrize("found", [Whereabouts.MOVING, None])
    def test_what_is_not_known_is_kept(self, found):
        """Once a guest may be sent nothing is undone before it is found."""
        claim = replace(CLAIM, step=Step.MIGRATE)

        assert claim_life.end(claim, Owner.GONE, found) is End.KEEP

    @pytest.mark.parametrize(
        "step", [s for s in Step if s not in claim_life.STEPS]
    )
    def test_a_claim_is_never_at_a_step_before_it(self, step):
        """Such a claim is an error, not a case."""
        with pytest.raises(exception.ClaimMoveIllegal):
            claim_life.end(replace(CLAIM, step=step), Owner.GONE)


class TestSteps:
    @pytest.mark.parametrize(
        ("before", "after"), list(itertools.product(claim_life.STEPS, Step))
    )
    def test_steps_go_forward_only(self, before, after):
        """A later step of a claim is come to; any other is an error."""
        claim = replace(CLAIM, step=before)
        order = list(Step)
        later = order.index(after) > order.index(before)

        if later and after in claim_life.STEPS:
            assert claim_life.advanced(claim, after).step is after
        else:
            with pytest.raises(exception.ClaimMoveIllegal):
                claim_life.advanced(claim, after)

    def test_what_is_over_moves_no_more(self):
        """A claim that was left is only ended."""
        with pytest.raises(exception.ClaimMoveIllegal):
            claim_life.advanced(replace(CLAIM, over=True), Step.CREATE)


class TestDeeds:
    def test_the_table_is_whole(self):
        """There is a deed for each end, kind of target and holder."""
        assert len(claim_life.DEEDS) == len(End) * 2 * len(Holder)

    @pytest.mark.parametrize("end", End)
    @pytest.mark.parametrize("created", [True, False])
    @pytest.mark.parametrize("holder", [Holder.GUEST, Holder.OTHER])
    def test_nothing_is_taken_from_a_guest(self, end, created, holder):
        """What a guest has for good, or another holds, is left."""
        assert claim_life.DEEDS[end, created, holder] is Deed.LEAVE

    @pytest.mark.parametrize("holder", Holder)
    def test_a_reused_mdev_is_never_removed(self, holder):
        """What was there before is there afterwards."""
        for end in End:
            assert claim_life.DEEDS[end, False, holder] is not Deed.REMOVE

    def test_a_reused_mdev_that_a_stranger_has_open_is_left(self):
        """Busy without any guest: it is somebody else's."""
        told = claim_life.deeds(
            CLAIM, End.RECYCLE, builders.inventory(), [REUSED.mdev.uuid]
        )

        assert told == {
            MADE.mdev.uuid: Deed.REMOVE,
            REUSED.mdev.uuid: Deed.LEAVE,
        }

    def test_an_incoming_half_is_no_guest_yet(self):
        """What a failed migration left is undone under its dying half."""
        half = builders.guest("vm", 1, 2, running=False)

        told = claim_life.deeds(
            CLAIM, End.RECYCLE, builders.inventory(guests=[half])
        )

        assert told == {
            MADE.mdev.uuid: Deed.REMOVE,
            REUSED.mdev.uuid: Deed.RECYCLE,
        }

    def test_an_arrived_guest_keeps_what_it_runs_on(self):
        """Paused or not, once it is known to have arrived."""
        there = builders.guest("vm", 1, running=False)

        told = claim_life.deeds(
            CLAIM, End.HAND_OVER, builders.inventory(guests=[there])
        )

        assert told == {
            MADE.mdev.uuid: Deed.LEAVE,
            REUSED.mdev.uuid: Deed.RECYCLE,
        }

    def test_anothers_claim_is_left(self):
        """An mdev that was lost to another claim is that one's."""
        other = builders.claim(
            builders.target(REUSED.mdev, domain=0x99), token=2
        )

        told = claim_life.deeds(
            CLAIM, End.RECYCLE, builders.inventory(claims=[CLAIM, other])
        )

        assert told[REUSED.mdev.uuid] is Deed.LEAVE

    @pytest.mark.parametrize(
        ("domain", "deed"),
        [(MADE.domain_uuid, Deed.REMOVE), ("another", Deed.LEAVE)],
    )
    def test_a_damaged_claim_is_its_owners(self, domain, deed):
        """What only looks like a claim holds its mdev, but for the owner."""
        uuids = frozenset({MADE.mdev.uuid})
        strange = model.StrangeClaim("mdev-claim-x", "damaged", uuids, domain)
        inventory = replace(
            builders.inventory(), claims=model.Claims(strange=(strange,))
        )

        told = claim_life.deeds(CLAIM, End.RECYCLE, inventory)

        assert told[MADE.mdev.uuid] is deed


class TestTakingOver:
    taken = model.Claims((replace(CLAIM, over=True),))

    def test_its_owner_leaves_it(self):
        """Not so one that nobody has taken over, nor the other's own."""
        (theirs,) = self.taken.all

        assert claim_life.is_taken_over(CLAIM, self.taken)
        assert not claim_life.is_taken_over(theirs, self.taken)
        assert not claim_life.is_taken_over(CLAIM, model.Claims((CLAIM,)))
        assert not claim_life.is_taken_over(CLAIM, model.Claims())

    def test_nova_ends_its_own(self):
        """Its claims are over when the migration is, whatever they say."""
        nova = replace(CLAIM, migration=builders.instance(7))

        assert not claim_life.is_taken_over(nova, self.taken)

    def test_what_another_has_ended_is_not_recycled(self):
        """By then the mdev may be chosen by others."""
        (theirs,) = self.taken.all
        other = replace(CLAIM, token=builders.instance(9))

        assert claim_life.may_recycle(theirs, REUSED, self.taken)
        assert not claim_life.may_recycle(theirs, REUSED, model.Claims())
        assert not claim_life.may_recycle(
            theirs, REUSED, model.Claims((theirs, other))
        )

    def test_an_owner_recycles_without_his_claim(self):
        """Whoever undefined it by hand does not know what is in the mdev."""
        assert claim_life.may_recycle(CLAIM, REUSED, model.Claims())


def judged(mine, *others, guests=(), ports=1):
    """Judge a claim on a host with room for so many ports."""
    return claim_life.judge(
        mine,
        builders.inventory(
            [builders.mtty(ports)], guests=guests, claims=[mine, *others]
        ),
    )


class TestJudging:
    one = builders.claim(MADE, token=1)
    two = builders.claim(
        builders.target(builders.mdev(3), created=True),
        token=2,
        instance_uuid=builders.instance(9),
    )

    def test_alone_it_stands(self):
        """Nobody else claims anything."""
        assert judged(self.one) is Verdict.STANDS

    def test_beside_others_that_fit_it_stands(self):
        """There is room for both."""
        assert judged(self.one, self.two, ports=2) is Verdict.STANDS

    def test_of_two_that_do_not_fit_one_gives_way(self):
        """The smaller token waits for the other, which gives way."""
        assert judged(self.one, self.two) is Verdict.WAIT
        assert judged(self.two, self.one) is Verdict.GIVE_WAY

    def test_who_fits_in_with_the_first_waits_for_the_others(self):
        """Of many, as many stand as there is room for."""
        three = builders.claim(
            builders.target(builders.mdev(4), created=True),
            token=3,
            instance_uuid=builders.instance(8),
        )
        crowd = (self.one, self.two, three)

        assert [
            judged(mine, *(c for c in crowd if c is not mine), ports=2)
            for mine in crowd
        ] == [Verdict.WAIT, Verdict.WAIT, Verdict.GIVE_WAY]

    def test_who_has_gone_on_was_first(self):
        """One that came to the next step does not look again."""
        gone_on = replace(self.two, step=Step.CREATE)

        assert judged(self.one, gone_on) is Verdict.GIVE_WAY

    def test_two_claims_of_one_guest_do_not_stand(self):
        """Whatever room there is."""
        same = replace(self.two, instance_uuid=self.one.instance_uuid)

        assert judged(self.one, same, ports=9) is Verdict.WAIT
        assert judged(same, self.one, ports=9) is Verdict.GIVE_WAY

    def test_what_a_guest_took_meanwhile_is_its(self):
        """A guest that was started on it between the looks has it."""
        mine = builders.claim(REUSED)
        guest = builders.guest("other", 2, instance_uuid=builders.instance(5))

        assert judged(mine, guests=[guest]) is Verdict.GIVE_WAY

    def test_room_that_is_gone_is_given_up(self):
        """Somebody without claims took it."""
        assert judged(self.one, ports=0) is Verdict.GIVE_WAY
