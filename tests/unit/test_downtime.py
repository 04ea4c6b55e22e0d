# SPDX-License-Identifier: Apache-2.0
"""Does the downtime policy let every guest go that its ceiling lets go?"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mdev_migrate import exception, model
from mdev_migrate.core import downtime
from mdev_migrate.core.downtime import Advice, Bounds, Policy

MIB = 2**20
LOOK_S = 0.25


@dataclass
class Copy:
    """QEMU's copy of a guest, as ``migration_iteration_run`` does it.

    What remains is sent; when it is expected to take no longer than the
    limit, the dirtied memory is counted anew and the devices are asked for
    the size of their state. If all of that fits too, the guest is stopped.

    :ivar rate: bytes sent a second.
    :ivar dirtying: bytes of memory that the guest writes to a second.
    :ivar hot: bytes of memory that it writes to at all.
    :ivar held_up: its devices do not get their turn beside what is a tenth of
        a second of memory or more, unless the bandwidth limit is lifted.
    """

    memory: int
    rate: int
    dirtying: int = 0
    hot: int = 0
    device: int = 0
    held_up: bool = False
    limit_ms: int = 0
    iteration: int = 1
    ended: bool = False
    calm: float = field(init=False)
    busy: float = field(init=False)
    dirtied: float = 0.0
    at_count: float = field(init=False)

    def __post_init__(self) -> None:
        self.busy = self.hot
        self.calm = self.memory - self.hot
        self.at_count = self.memory

    @property
    def remaining(self) -> float:
        """Return what was not sent since it was last counted as dirty."""
        return self.calm + self.busy

    def go_on(self, seconds: float = LOOK_S) -> None:
        """Copy for a while, or until the guest is stopped."""
        threshold = self.rate * self.limit_ms / 1000
        sent = min(self.remaining, self.rate * seconds)
        unsent = 1 - sent / self.remaining if self.remaining else 0.0
        self.calm *= unsent
        self.busy *= unsent
        self.dirtied = min(self.hot, self.dirtied + self.dirtying * seconds)
        if self.remaining <= threshold:
            self.busy = min(self.hot, self.busy + self.dirtied)
            self.dirtied = 0.0
            self.at_count = self.remaining
            self.iteration += 1
            fits = self.remaining + self.device <= threshold
            waits = self.held_up and self.remaining > self.rate / 10
            self.ended = fits and not waits

    def seen(self) -> model.JobProgress:
        """Return what libvirt tells of it."""
        return model.JobProgress(
            data_total=self.memory,
            data_remaining=int(self.remaining),
            downtime_ms=int(1000 * self.at_count / self.rate),
            iteration=self.iteration,
            rate=self.rate,
        )


def watch(
    copy: Copy, policy: Policy, looks: int = 20_000
) -> tuple[list[Advice], float]:
    """Watch a copy until it ends; return what was advised, and the time."""
    advices: list[Advice] = []
    copy.limit_ms = policy.limit_ms
    for look in range(looks):
        now_s = look * LOOK_S
        copy.go_on()
        if copy.ended:
            return advices, now_s
        advice = policy.look(copy.seen(), now_s)
        if advice is not None:
            advices.append(advice)
            copy.limit_ms = advice.limit_ms
            if advice.action == "lift":
                copy.held_up = False
            if advice.action == "give-up":
                return advices, now_s
    raise AssertionError(f"no end after {looks} looks: {copy}, {advices}")


@st.composite
def copies(draw: st.DrawFn) -> Copy:
    """Guests of every kind, on links of every kind."""
    rate = draw(st.integers(MIB, 1 << 34))
    memory = draw(st.integers(16 * MIB, 40 * rate + 16 * MIB))
    return Copy(
        memory=memory,
        rate=rate,
        dirtying=draw(st.integers(0, 4 * rate)),
        hot=draw(st.integers(0, memory)),
        device=draw(st.integers(0, 60 * rate)),
    )


bounds = st.builds(
    lambda ceiling, share, stall: Bounds(
        begin_ms=max(1, int(ceiling * share)),
        ceiling_ms=ceiling,
        stall_timeout_s=stall,
    ),
    st.integers(1, 2_000_000),
    st.floats(0, 1),
    st.floats(1, 60),
)


class TestEveryGuest:
    """What holds for whatever a guest does."""

    @given(copies(), bounds)
    def test_limits_stay_within_their_bounds(self, copy, allowed):
        """No step lowers the limit or goes above the ceiling."""
        policy = Policy(allowed, device_bytes=copy.device)

        advices, _ = watch(copy, policy)

        limits = [
            allowed.first_ms,
            *(a.limit_ms for a in advices),
            policy.limit_ms,
        ]
        assert limits == sorted(limits)
        assert limits[-1] <= allowed.ceiling_ms
        raised = [a.limit_ms for a in advices if a.action == "raise"]
        assert len(set(raised)) == len(raised)

    @given(copies(), st.integers(1, 2_000_000))
    def test_ends_when_the_ceiling_suffices(self, copy, ceiling_ms):
        """A guest whose hot memory and devices fit the ceiling gets there."""
        fits = int(0.95 * copy.rate * ceiling_ms / 1000)
        copy.device = min(copy.device, fits)
        copy = replace(copy, hot=min(copy.hot, fits - copy.device))

        advices, _ = watch(copy, Policy(Bounds(ceiling_ms=ceiling_ms)))

        assert copy.ended, advices

    @given(copies(), st.integers(1, 2_000_000), st.booleans())
    def test_ends_when_devices_are_held_up(self, copy, ceiling_ms, known):
        """A bandwidth limit keeps no guest from ending that could."""
        fits = int(0.95 * copy.rate * ceiling_ms / 1000)
        copy.device = min(copy.device, fits)
        copy = replace(
            copy, hot=min(copy.hot, fits - copy.device), held_up=True
        )
        policy = Policy(
            Bounds(ceiling_ms=ceiling_ms),
            device_bytes=copy.device if known else None,
            bandwidth_limited=True,
        )

        advices, _ = watch(copy, policy)

        assert copy.ended, advices

    @given(copies())
    def test_lifts_no_bandwidth_limit_that_there_is_not(self, copy):
        """Without one there is nothing to lift."""
        copy.held_up = True

        advices, _ = watch(copy, Policy(Bounds(stall_timeout_s=10.0)))

        assert "lift" not in {advice.action for advice in advices}

    @given(copies(), st.floats(1, 60))
    @example(Copy(100 * MIB, MIB, 2 * MIB, 90 * MIB), 30.0)
    def test_never_goes_on_for_ever(self, copy, stall_s):
        """It ends, or there is a time to give up and a reason."""
        advices, _ = watch(copy, Policy(Bounds(stall_timeout_s=stall_s)))

        if not copy.ended:
            assert advices[-1].action == "give-up"
            assert f"for {stall_s:g} s" in advices[-1].why

    @given(copies())
    def test_says_once_that_it_will_not_end(self, copy):
        """What is said once is not said again."""
        advices, _ = watch(copy, Policy(Bounds(stall_timeout_s=60.0)))

        said = [a for a in advices if a.action == "say"]
        assert len(said) <= 1
        assert all(a.limit_ms == downtime.CEILING_MS for a in said)

    @given(st.integers(1, 300), st.integers(MIB, 1 << 34), st.floats(0, 0.5))
    def test_a_guest_that_comes_nearer_keeps_its_limit(
        self, seconds, rate, share
    ):
        """Copies that shrink from round to round are not hurried."""
        memory = rate * seconds
        copy = Copy(memory, rate, int(rate * share), memory)

        advices, _ = watch(copy, Policy(Bounds()))

        assert advices == []


def test_a_step_names_what_it_saw():
    """A raise says from where to where, and what did not become less."""
    copy = Copy(96 * MIB, 4 * MIB, 32 * MIB, 32 * MIB)

    advices, _ = watch(copy, Policy(Bounds()))

    assert copy.ended
    assert advices[0].why == (
        "downtime limit raised from 300 to 8003 ms: iteration 3 has 25.0 MiB "
        "to send, no less than those before"
    )


def test_a_large_device_is_let_go():
    """Memory is done at once; only the device's state does not fit."""
    copy = Copy(1 << 30, 1 << 30, device=6 << 30)

    advices, seconds = watch(copy, Policy(Bounds()))

    assert [a.limit_ms for a in advices] == [600, 1200, 2400, 4800, 9600]
    assert seconds < 20


def test_says_what_would_do():
    """Beyond the ceiling it says with which limit it would end."""
    device = 20 << 30
    copy = Copy(1 << 30, 1 << 30, device=device)
    policy = Policy(Bounds(), device_bytes=device)

    advices, _ = watch(copy, policy)

    assert [a.action for a in advices[-2:]] == ["say", "give-up"]
    assert advices[-2].why == (
        "it will not end: 10000 ms, the maximal downtime, do not do; about "
        "20000 ms would"
    )
    assert advices[-1].why == (
        "it came no nearer to its end for 300 s with a downtime limit of "
        "10000 ms; about 20000 ms would"
    )


def test_does_not_name_what_it_cannot_know():
    """Without a size of the device's state there is no such figure."""
    copy = Copy(1 << 30, 1 << 30, device=20 << 30)

    advices, _ = watch(copy, Policy(Bounds()))

    assert advices[-2].why.endswith("what would is not known")
    assert advices[-1].why.endswith("of 10000 ms")


def test_a_bandwidth_limit_holds_while_memory_is_copied():
    """It is lifted when round after round could be the last, not before."""
    copy = Copy(96 * MIB, 2 * MIB, 16 * MIB, 2 * MIB, held_up=True)
    policy = Policy(Bounds(begin_ms=10_000), bandwidth_limited=True)

    advices, seconds = watch(copy, policy)

    assert copy.ended
    assert [a.action for a in advices] == ["lift"]
    assert 38 < seconds < 50  # 80 MiB at 2 MiB/s, and eight looks.


def test_one_round_that_fits_is_no_reason_to_lift():
    """However often it is looked at: the next one may be the last."""
    policy = Policy(Bounds(begin_ms=10_000), bandwidth_limited=True)
    job = model.JobProgress(
        data_total=1 << 30, data_remaining=MIB, iteration=2, downtime_ms=9_000
    )

    told = {policy.look(job, look * LOOK_S) for look in range(100)}

    assert told == {None}


@given(
    st.lists(
        st.builds(
            model.JobProgress,
            data_total=st.sampled_from([None, 0, 1 << 30]),
            data_remaining=st.sampled_from([None, 0, 1, MIB, 1 << 30]),
            iteration=st.sampled_from([None, 0, 1, 2, 3]),
            rate=st.sampled_from([None, 0, MIB]),
            downtime_ms=st.sampled_from([None, 0, 300, 20_000]),
        ),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
@example(
    [
        model.JobProgress(data_total=100, data_remaining=50, iteration=number)
        for number in (2, 1)
    ],
    False,
)
def test_gives_up_whatever_the_figures_are(jobs, bandwidth_limited):
    """Figures that are missing, or go back and forth, keep nothing going."""
    policy = Policy(
        Bounds(ceiling_ms=1000, stall_timeout_s=10.0),
        bandwidth_limited=bandwidth_limited,
    )

    told = [
        policy.look(job, look * LOOK_S)
        for look, job in zip(range(400), itertools.cycle(jobs), strict=False)
    ]

    assert "give-up" in {advice.action for advice in told if advice}


def test_goes_on_if_told_so():
    """Without a limit for that nothing is given up."""
    policy = Policy(Bounds(stall_timeout_s=None))
    copy = Copy(1 << 30, 1 << 30, device=20 << 30)

    with pytest.raises(AssertionError, match="no end"):
        watch(copy, policy, looks=5000)


def test_gives_up_what_does_not_begin():
    """A job without figures is given up too."""
    policy = Policy(Bounds(stall_timeout_s=30.0))

    assert policy.look(model.JobProgress(), 1.0) is None
    advice = policy.look(model.JobProgress(), 31.0)

    assert advice is not None
    assert advice.why == "nothing was sent for 30 s"


def test_disks_and_first_memory_are_no_reason():
    """Memory that follows disks is larger, and yet not sent again."""
    policy = Policy(Bounds())
    job = model.JobProgress(data_total=9 << 30, data_remaining=1 << 30)
    policy.look(job, 0.0)
    rest = 8 << 30

    for look in range(1, 100):
        rest -= MIB
        job = model.JobProgress(
            data_total=9 << 30, data_remaining=rest, iteration=1
        )
        assert policy.look(job, look * LOOK_S) is None


def test_raises_without_rounds():
    """A host that does not count rounds is judged by what remains."""
    policy = Policy(Bounds())
    job = model.JobProgress(data_total=1 << 30, data_remaining=MIB)

    advices = [policy.look(job, look * LOOK_S) for look in range(100)]

    limits = [advice.limit_ms for advice in advices if advice]
    assert limits == [600, 1200, 2400, 4800, 9600, 10_000, 10_000]


def _rounds(
    policy: Policy,
    looks: int,
    *,
    falls: int = 0,
    downtime_ms: int | None = None,
) -> list[tuple[float, Advice]]:
    """Look at a round that began with no less than the one before."""
    first = model.JobProgress(
        data_total=8 << 30, data_remaining=1 << 30, iteration=2
    )
    policy.look(first, 0.0)
    told = []
    for look in range(1, looks):
        job = model.JobProgress(
            data_total=8 << 30,
            data_remaining=(1 << 30) - look * falls,
            iteration=3,
            downtime_ms=downtime_ms,
        )
        advice = policy.look(job, look * LOOK_S)
        if advice is not None:
            told.append((look * LOOK_S, advice))
    return told


def test_long_round_is_no_stall():
    """While it sends, and the limit can be raised after it, it goes on."""
    policy = Policy(Bounds(stall_timeout_s=10.0))

    told = _rounds(policy, 400, falls=MIB)

    assert [advice.action for _, advice in told] == ["raise"]


def test_link_that_stands_still_is_no_reason():
    """A round that begins with less than all before it is let end."""
    policy = Policy(Bounds(stall_timeout_s=None))
    first = model.JobProgress(
        data_total=8 << 30, data_remaining=1 << 30, iteration=1
    )
    second = replace(first, data_remaining=MIB, iteration=2)

    told = [policy.look(first, 0.0)]
    told += [policy.look(second, look * LOOK_S) for look in range(1, 100)]

    assert set(told) == {None}


def test_raised_limit_gets_its_time():
    """How long to go on counts from when the limit was raised last."""
    policy = Policy(Bounds(stall_timeout_s=5.0))
    job = model.JobProgress(data_total=1 << 30, data_remaining=MIB)

    looks = [(n * LOOK_S, policy.look(job, n * LOOK_S)) for n in range(120)]

    told = [(now, advice) for now, advice in looks if advice is not None]
    raised = [now for now, advice in told if advice.action == "raise"]
    given_up = [now for now, advice in told if advice.action == "give-up"]
    assert policy.limit_ms == 10_000
    assert given_up[0] == raised[-1] + 5.0


def test_says_in_the_same_round_that_no_limit_will_do():
    """Who expects more than the ceiling need not wait for another round."""
    policy = Policy(Bounds())

    told = _rounds(policy, 40, falls=MIB, downtime_ms=20_000)

    assert [advice.action for _, advice in told] == ["raise", "say"]
    assert told[0][1].limit_ms == 10_000


@pytest.mark.parametrize(
    "wrong",
    [
        Bounds(ceiling_ms=0),
        Bounds(ceiling_ms=2_000_001),
        Bounds(begin_ms=0),
        Bounds(begin_ms=10_001),
        Bounds(stall_timeout_s=0.0),
    ],
)
def test_bounds_out_of_bounds(wrong):
    """What QEMU refuses, or nobody can mean, is refused."""
    with pytest.raises(exception.OptionInvalid):
        wrong.check()


@pytest.mark.parametrize(
    ("given_bounds", "first_ms"),
    [
        (Bounds(), 300),
        (Bounds(ceiling_ms=100), 100),
        (Bounds(begin_ms=2000), 2000),
    ],
)
def test_where_it_begins(given_bounds, first_ms):
    """Low, unless the ceiling is lower or the user says otherwise."""
    given_bounds.check()

    assert given_bounds.first_ms == first_ms
    assert Policy(given_bounds).limit_ms == first_ms
