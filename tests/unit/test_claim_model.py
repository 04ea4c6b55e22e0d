# SPDX-License-Identifier: Apache-2.0
"""Do the rules of claims hold in every interleaving of those who use them?

A model of one destination, where two owners of different guests claim one mdev
each, and one recoverer takes either of them for gone whenever he likes. Each
may be killed at any moment. What one has read is old by his next step, and
each step is a single call to libvirt. All states that can be reached are
visited; the rules are not copied, but asked (:mod:`core.claim_life`,
:mod:`core.allocation`).

What libvirt and QEMU decide is part of the model: a name is given once, an
mdev that is open is neither given to a second guest nor destroyed, and a
parent has so much room and no more.

Two things are left out: that an owner is taken for gone while he ends his
claim himself, for he goes on with his beat, and who is not heard by the host
ends nothing there; and that his process stands still for so long just between
his last look at his claim and the call that sends his guest, for nothing that
a host can tell would prevent that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pytest

from mdev_migrate import exception, model
from mdev_migrate.core import allocation, claim_life
from mdev_migrate.core.claim_life import Deed, End, Owner, Verdict
from mdev_migrate.core.whereabouts import Whereabouts
from mdev_migrate.model import Step
from tests import builders, soak

OWNERS = (0, 1)
#: One that was there before, and what each owner creates if he creates.
SPARE, *MINTED = MDEVS = (builders.mdev(1), builders.mdev(2), builders.mdev(3))
ENDED = ("died", "done", "refused", "tired")


class Claim(NamedTuple):
    """A claim, in short.

    :ivar attempt: which of its owner's it is: each is a new domain.
    :ivar mdev: its place in :data:`MDEVS`.
    """

    owner: int
    attempt: int
    mdev: int
    step: str = Step.CLAIM.value
    over: bool = False

    def is_same(self, other: Claim) -> bool:
        """Tell whether two are one domain."""
        return self[:2] == other[:2]


class Place(NamedTuple):
    """What is on the destination.

    :ivar size: how many mdevs its parent can have.
    :ivar mdevs: those that are there, by their places in :data:`MDEVS`.
    :ivar guests: owner, mdev, and whether it is there or only coming.
    :ivar touched: mdevs that an incoming guest has left its state in.
    :ivar spoiled: a guest was sent to one of those.
    """

    size: int
    mdevs: frozenset[int]
    claims: frozenset[Claim] = frozenset()
    guests: frozenset[tuple[int, int, bool]] = frozenset()
    touched: frozenset[int] = frozenset()
    spoiled: bool = False

    def find(self, claim: Claim) -> Claim | None:
        """Return a claim as it is now, if its domain is there."""
        return next(filter(claim.is_same, self.claims), None)

    def undefine(self, claim: Claim) -> Place:
        """Remove the domain of a claim, if it is there."""
        left = (c for c in self.claims if not claim.is_same(c))
        return self._replace(claims=frozenset(left))

    def write(self, claim: Claim) -> Place:
        """Define or change the domain of a claim."""
        others = self.undefine(claim).claims
        return self._replace(claims=others | {claim})

    def has_open(self, mdev: int) -> bool:
        """Tell whether some guest has an mdev."""
        return any(held == mdev for _, held, _ in self.guests)

    def guest(self, owner: int) -> tuple[int, int, bool] | None:
        """Return an owner's guest, if it is there or coming."""
        return next((g for g in self.guests if g[0] == owner), None)

    def land(self, owner: int, *, well: bool) -> Place:
        """Let a guest that is on its way arrive, or fail to."""
        coming = self.guest(owner)
        assert coming is not None
        guests = self.guests - {coming}
        if not well:
            return self._replace(guests=guests)
        return self._replace(
            guests=guests | {(*coming[:2], True)},
            touched=self.touched - {coming[1]},
        )


class Ending(NamedTuple):
    """A claim that somebody is about to end.

    :ivar then: what he does next.
    """

    claim: Claim
    end: str
    then: str
    deed: str = Deed.LEAVE.name


class Actor(NamedTuple):
    """An owner, or the recoverer.

    :ivar at: what he is about to do: the name of a function.
    :ivar claim: as it was read, or written, last.
    :ivar saw: what he has seen of the host, if that is to be used.
    :ivar attempts: how often he may still claim; then he is not looked at
        any further.
    """

    at: str
    claim: Claim | None = None
    saw: Place | None = None
    ending: Ending | None = None
    attempts: int = 0


class World(NamedTuple):
    """All there is; the last of the actors is the recoverer."""

    place: Place
    actors: tuple[Actor, ...]

    def moved(self, who: int, place: Place | None = None, **to: Any) -> World:
        """Return the world after somebody's step."""
        actor = self.actors[who]._replace(**to)
        actors = (*self.actors[:who], actor, *self.actors[who + 1 :])
        return World(place or self.place, actors)


# As the rules know it ------------------------------------------------------


@functools.cache
def known(claim: Claim) -> model.Claim:
    """Return a claim; the second owner has the smaller token."""
    target = builders.target(
        MDEVS[claim.mdev],
        created=claim.mdev != 0,
        domain=claim.owner * 16 + claim.attempt,
    )
    return replace(
        builders.claim(target, token=9 - claim.owner),
        instance_uuid=builders.instance(claim.owner),
        step=Step(claim.step),
        over=claim.over,
    )


@functools.cache
def look_at(place: Place) -> model.Inventory:
    """Return what a look finds."""
    free = place.size - len(place.mdevs)
    guests = [
        builders.guest(
            f"vm-{owner}",
            mdev + 1,
            instance_uuid=builders.instance(owner),
            running=there,
        )
        for owner, mdev, there in sorted(place.guests)
    ]
    return builders.inventory(
        [builders.parent(mtty_1=free)],
        [MDEVS[mdev] for mdev in sorted(place.mdevs)],
        guests,
        map(known, sorted(place.claims)),
    )


@functools.cache
def chosen(place: Place, owner: int) -> int | None:
    """Return the mdev that an owner chooses by what he saw, if any."""
    inventory = look_at(place)
    try:
        plan = allocation.allocate(
            inventory,
            builders.wants("mtty-1"),
            held=inventory.claims.held(),
            mint=lambda: MINTED[owner].uuid,
        )
    except exception.TooFewMdevs:
        return None
    return [mdev.uuid for mdev in MDEVS].index(plan.mdevs[0].uuid)


@functools.cache
def deed(place: Place, ending: Ending) -> Deed:
    """Return what to do with the mdev of a claim that ends."""
    claim = known(ending.claim)
    told = claim_life.deeds(claim, End[ending.end], look_at(place))
    return told[claim.mdevs[0].uuid]


# What owners do ----------------------------------------------------------


def look(world: World, who: int, actor: Actor) -> Iterator[World]:
    """Look at the destination."""
    yield world.moved(who, at="choose", saw=world.place)


def choose(world: World, who: int, actor: Actor) -> Iterator[World]:
    """Choose by what was seen, and claim."""
    assert actor.saw
    mdev = chosen(actor.saw, who)
    if mdev is None:
        waits = any(c.step == Step.CLAIM.value for c in actor.saw.claims)
        yield world.moved(who, at="look" if waits else "refused", saw=None)
    elif any(claim.mdev == mdev for claim in world.place.claims):
        yield world.moved(who, at="look", saw=None)
    elif not actor.attempts:
        yield world.moved(who, at="tired", saw=None)
    else:
        claim = Claim(who, actor.attempts, mdev)
        yield world.moved(
            who,
            world.place.write(claim),
            at="judge",
            claim=claim,
            saw=None,
            attempts=actor.attempts - 1,
        )


def judge(world: World, who: int, actor: Actor) -> Iterator[World]:
    """Look once more."""
    yield world.moved(who, at="stand", saw=world.place)


def stand(world: World, who: int, actor: Actor) -> Iterator[World]:
    """Come to the next step, wait, or give way."""
    assert actor.saw
    assert actor.claim
    verdict = claim_life.judge(known(actor.claim), look_at(actor.saw))
    world = world.moved(who, saw=None)
    if verdict is Verdict.WAIT:
        yield world.moved(who, at="judge")
    elif verdict is Verdict.GIVE_WAY:
        yield end(world, who, actor.claim, then="look")
    else:
        yield advance(world, who, actor.claim, Step.CREATE, "create")


def create(world: World, who: int, actor: Actor) -> Iterator[World]:
    """Create the mdev, which the parent refuses if it has no room."""
    assert actor.claim
    place, mdev = world.place, actor.claim.mdev
    if mdev == 0:
        yield world.moved(who, at="prepare")
    elif len(place.mdevs) >= place.size:
        yield end(world, who, actor.claim, then="look")
    else:
        place = place._replace(mdevs=place.mdevs | {mdev})
        yield world.moved(who, place, at="prepare")


def prepare(world: World, who: int, actor: Actor) -> Iterator[World]:
    """Note that the guest is about to be sent."""
    assert actor.claim
    yield advance(world, who, actor.claim, Step.MIGRATE, "confirm")


def advance(
    world: World, who: int, claim: Claim, step: Step, at: str
) -> World:
    """Write a step, unless the claim is gone; then all is undone."""
    found = world.place.find(claim)
    if found is None:
        return end(world, who, claim, then="done")
    further = claim_life.advanced(known(claim), step).step.value
    # That it is over stands in an element of its own.
    place = world.place.write(found._replace(step=further))
    return world.moved(who, place, at=at, claim=claim._replace(step=further))


def confirm(world: World, who: int, actor: Actor) -> Iterator[World]:
    """See that nobody ends the claim."""
    assert actor.claim
    found = world.place.find(actor.claim)
    if found is None or found.over:
        unsent = actor.claim._replace(step=Step.CREATE.value)
        yield end(world, who, unsent, then="done")
    else:
        yield world.moved(who, at="send")


def send(world: World, who: int, actor: Actor) -> Iterator[World]:
    """Send the guest: libvirt refuses an mdev that is open, or gone."""
    assert actor.claim
    place, mdev = world.place, actor.claim.mdev
    if place.has_open(mdev) or mdev not in place.mdevs:
        yield end(world, who, actor.claim, then="done")
        return
    place = place._replace(
        guests=place.guests | {(who, mdev, False)},
        spoiled=place.spoiled or mdev in place.touched,
        touched=place.touched | {mdev},
    )
    yield world.moved(who, place, at="arrive")


def arrive(world: World, who: int, actor: Actor) -> Iterator[World]:
    """See how it ends."""
    assert actor.claim
    yield world.moved(who, world.place.land(who, well=True), at="release")
    failed = World(world.place.land(who, well=False), world.actors)
    yield end(failed, who, actor.claim, then="done")


def release(world: World, who: int, actor: Actor) -> Iterator[World]:
    """Give the claim up: the guest holds its mdev."""
    assert actor.claim
    yield world.moved(
        who, world.place.undefine(actor.claim), at="done", claim=None
    )


def died(world: World, who: int, actor: Actor) -> Iterator[World]:
    """Do nothing: but his guest may still be on its way."""
    guest = world.place.guest(who)
    if guest is not None and not guest[2]:
        for well in (True, False):
            yield world.moved(who, world.place.land(who, well=well))


# Ending a claim: its owner, or the recoverer -------------------------------


def end(
    world: World,
    who: int,
    claim: Claim,
    *,
    then: str,
    owner: Owner = Owner.OVER,
    found: Whereabouts | None = Whereabouts.STAYED,
) -> World:
    """Let somebody end a claim, as the table says."""
    decided = claim_life.end(known(claim), owner, found)
    if decided is End.KEEP:
        return world.moved(who, at=then, claim=None)
    ending = Ending(claim, decided.name, then)
    return world.moved(who, at="decide", claim=None, ending=ending)


def decide(world: World, who: int, actor: Actor) -> Iterator[World]:
    """Look who has the mdev; leave it to whoever has taken the claim over."""
    assert actor.ending
    claims = look_at(world.place).claims
    if claim_life.is_taken_over(known(actor.ending.claim), claims):
        yield world.moved(who, at="done", ending=None)
        return
    told = deed(world.place, actor.ending)
    at = {Deed.RECYCLE: "recheck", Deed.REMOVE: "do"}.get(told, "undefine")
    ending = actor.ending._replace(deed=told.name)
    yield world.moved(who, at=at, ending=ending)


def recheck(world: World, who: int, actor: Actor) -> Iterator[World]:
    """Leave the mdev if it is not this claim's any more."""
    assert actor.ending
    claims, claim = look_at(world.place).claims, known(actor.ending.claim)
    ours = claim_life.may_recycle(claim, claim.targets[0], claims)
    yield world.moved(who, at="do" if ours else "undefine")


def do(world: World, who: int, actor: Actor) -> Iterator[World]:
    """Destroy the mdev, which the host refuses if it is open."""
    assert actor.ending
    place, mdev = world.place, actor.ending.claim.mdev
    if place.has_open(mdev):
        yield world.moved(who, at="decide")
        yield world.moved(who, at="leave")
        return
    gone = place._replace(
        mdevs=place.mdevs - {mdev}, touched=place.touched - {mdev}
    )
    recycle = actor.ending.deed == Deed.RECYCLE.name
    yield world.moved(who, gone, at="make" if recycle else "undefine")


def make(world: World, who: int, actor: Actor) -> Iterator[World]:
    """Create again what was recycled."""
    assert actor.ending
    place, mdev = world.place, actor.ending.claim.mdev
    if mdev not in place.mdevs and len(place.mdevs) >= place.size:
        yield world.moved(who, at="leave")
        return
    again = place._replace(mdevs=place.mdevs | {mdev})
    yield world.moved(who, again, at="undefine")


def undefine(world: World, who: int, actor: Actor) -> Iterator[World]:
    """Release the claim."""
    assert actor.ending
    place = world.place.undefine(actor.ending.claim)
    yield world.moved(who, place, at=actor.ending.then, ending=None)


def leave(world: World, who: int, actor: Actor) -> Iterator[World]:
    """Give up after trouble: leave the claim to whoever comes."""
    assert actor.ending
    place, found = world.place, world.place.find(actor.ending.claim)
    if found is not None:
        place = place.write(found._replace(over=True))
    at = "done" if who in OWNERS else actor.ending.then
    yield world.moved(who, place, at=at, ending=None)


# What the recoverer does ---------------------------------------------------


def idle(world: World, who: int, actor: Actor) -> Iterator[World]:
    """Read the claims, and take the owner of one for gone."""
    for claim in world.place.claims:
        yield world.moved(who, at="read_anew", claim=claim)


def read_anew(world: World, who: int, actor: Actor) -> Iterator[World]:
    """Look whether the owner is heard; if not, that the claim is over."""
    assert actor.claim
    found = world.place.find(actor.claim)
    if found is None or found.step != actor.claim.step:
        # Whoever writes a step beats.
        yield world.moved(who, at="idle", claim=None)
    else:
        at = "ask" if found.over else "close"
        yield world.moved(who, at=at, claim=found)


def close(world: World, who: int, actor: Actor) -> Iterator[World]:
    """Say that the claim is over."""
    assert actor.claim
    found = world.place.find(actor.claim)
    if found is None:
        yield world.moved(who, at="idle", claim=None)
    else:
        place = world.place.write(found._replace(over=True))
        yield world.moved(who, place, at="read_anew")


def ask(world: World, who: int, actor: Actor) -> Iterator[World]:
    """Find out where the guest is if it may be sent; decide."""
    assert actor.claim
    owner = actor.claim.owner
    if world.actors[owner].at == "send" or world.actors[owner].ending:
        return  # This is what is left out.
    found = None
    if claim_life.may_be_sent(Step(actor.claim.step)):
        found = whereabouts(world.place, owner)
    yield end(
        world, who, actor.claim, then="idle", owner=Owner.GONE, found=found
    )


def whereabouts(place: Place, owner: int) -> Whereabouts:
    """Return where an owner's guest is, as both hosts say."""
    guest = place.guest(owner)
    if guest is None:
        return Whereabouts.STAYED
    return Whereabouts.ARRIVED if guest[2] else Whereabouts.MOVING


STEPS: dict[str, Callable[[World, int, Actor], Iterator[World]]] = {
    step.__name__: step
    for step in (
        *(look, choose, judge, stand, create, prepare, confirm, send),
        *(arrive, release, died, decide, recheck, do, make, undefine, leave),
        *(idle, read_anew, close, ask),
    )
}


def steps(world: World) -> Iterator[World]:
    """Yield what may be after the next step of anybody."""
    for who, actor in enumerate(world.actors):
        if actor.at in STEPS:
            yield from STEPS[actor.at](world, who, actor)
        if actor.at in (*ENDED, "idle"):
            continue
        # He is killed; another recoverer may come.
        at = "died" if who in OWNERS else "idle"
        yield world.moved(who, at=at, claim=None, saw=None, ending=None)


# What must hold ------------------------------------------------------------


def violations(place: Place) -> Iterator[str]:
    """Tell what must never be."""
    held = [mdev for _, mdev, _ in place.guests]
    claimed = [claim.mdev for claim in place.claims]
    if len(set(held)) < len(held):
        yield "two guests have one mdev"
    if not place.mdevs.issuperset(held):
        yield "a guest's mdev is gone"
    if len(set(claimed)) < len(claimed):
        yield "an mdev is claimed twice"
    if place.touched.difference(held, claimed):
        yield "an mdev that nobody claims is half loaded"
    if place.spoiled:
        yield "a guest was sent to an mdev that is half loaded"


def leftovers(world: World, before: frozenset[int]) -> Iterator[str]:
    """Tell what must not be when nobody has anything left to do."""
    place, ways = world.place, [actor.at for actor in world.actors]
    if place.claims:
        yield "a claim is left"
    if not before <= place.mdevs:
        yield "an mdev that was there before is gone"
    if place.touched:
        yield "an mdev is half loaded"
    if "refused" in ways and (place.size > 1 or ways.count("refused") > 1):
        yield "a guest was refused though there is room"


@dataclass(slots=True)
class Explored:
    """What was found.

    :ivar states: that can be reached.
    :ivar ends: of them, those in which nobody has anything left to do.
    :ivar leaked: of those, the ones with an mdev that was made for a guest
        and is free.
    :ivar stuck: states from which no end can be reached.
    :ivar wrong: what must not be, each with the shortest way to it.
    """

    states: int = 0
    ends: int = 0
    leaked: int = 0
    stuck: int = 0
    wrong: dict[str, list[str]] = field(default_factory=dict)


def explore(spares: int, room: int, attempts: int) -> Explored:
    """Visit every state, the nearest first."""
    before = frozenset(range(spares))
    owner = Actor("look", attempts=attempts)
    actors = (owner, owner, Actor("idle"))
    first = World(Place(spares + room, before), actors)
    ways: dict[World, list[World]] = {first: []}
    todo, ends, result = [first], [], Explored()
    for world in todo:
        found, after = list(violations(world.place)), list(steps(world))
        if not after:
            ends.append(world)
            found += leftovers(world, before)
            held = {mdev for _, mdev, _ in world.place.guests}
            result.leaked += bool(world.place.mdevs - held - before)
        for text in found:
            result.wrong.setdefault(text, shortest_way(world, ways))
        for then in after:
            if then not in ways:
                todo.append(then)
            ways.setdefault(then, []).append(world)
    result.states, result.ends = len(ways), len(ends)
    result.stuck = len(ways) - count_before(ends, ways)
    return result


def count_before(ends: list[World], ways: dict[World, list[World]]) -> int:
    """Return from how many states one of some can be reached."""
    seen, todo = set(ends), list(ends)
    for world in todo:
        new = set(ways[world]) - seen
        seen |= new
        todo += new
    return len(seen)


def shortest_way(world: World, ways: dict[World, list[World]]) -> list[str]:
    """Return what happened until a state."""
    told = []
    while True:
        place = world.place
        told.append(
            f"{[actor.at for actor in world.actors]}: mdevs "
            f"{[*place.mdevs]}, touched {[*place.touched]}, guests "
            f"{[*place.guests]}, claims {[tuple(c) for c in place.claims]}"
        )
        if not ways[world]:
            return told[::-1]
        world = ways[world][0]


#: Mdevs to reuse, room for more, and how often each owner claims.
CASES = [(1, 0, 2), (0, 1, 1)]
if soak.SOAKING:
    CASES += [(0, 1, 2), (1, 1, 2)]


@pytest.mark.parametrize(("spares", "room", "attempts"), CASES)
def test_every_interleaving(spares: int, room: int, attempts: int):
    """Whoever is killed where, or taken for gone: nothing is wrong."""
    found = explore(spares, room, attempts)

    print(  # noqa: T201
        f"{spares} mdevs, room for {room}, {attempts} attempts: "
        f"{found.states} states, {found.ends} ends, {len(found.wrong)} "
        f"violations, {found.stuck} stuck, {found.leaked} free mdevs more"
    )
    assert found.wrong == {}
    assert found.stuck == 0
    assert found.ends > 1
