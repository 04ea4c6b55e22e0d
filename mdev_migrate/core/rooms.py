# SPDX-License-Identifier: Apache-2.0
"""What can parents still take, and which of them takes what?

The types of a parent share its room, but libvirt reports for each type
only how many more the parent would create *if it created nothing else*.
:class:`Room` makes the least demanding sense of these numbers: the type
with the most available instances takes one unit each, another type as many
whole units as explain its number. A vendor whose rule is stricter (one type
a parent, say) refuses the creation; the caller then plans again and avoids
what could not be had.
"""

from __future__ import annotations

import functools
import math
import operator
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from mdev_migrate import model

#: How many mdevs of each type a parent is to take, in the types' order.
_Share = tuple[int, ...]


class Avoided(NamedTuple):
    """What must not be created together on a parent.

    :ivar kinds: mdev types, in order; the one of the creation that failed
        and those created there before it.
    :ivar beside: how many of the type that failed the other functions of
        the parent's card had taken before it.
    """

    parent: str
    kinds: tuple[str, ...]
    beside: int = 0


class Room:
    """What one parent can still take.

    Counted in parts of a unit small enough for whole numbers.
    """

    def __init__(
        self, parent: model.Parent, avoid: Collection[Avoided]
    ) -> None:
        self.name = parent.name
        self._avoid = [
            Counter(each.kinds) for each in avoid if each.parent == parent.name
        ]
        units = _units(
            {
                offered.mdev_type: offered.available_instances
                for offered in parent.types
                if offered.available_instances > 0
            }
        )
        parts = math.lcm(*(size.denominator for size in units.values()))
        self._sizes = {kind: int(size * parts) for kind, size in units.items()}
        self._left = parts * max(
            (offered.available_instances for offered in parent.types),
            default=0,
        )

    def promise(self, mdev_type: str) -> None:
        """Take room for an mdev that somebody else was promised."""
        self._left -= self._sizes.get(mdev_type, 0)

    def most(self, mdev_type: str) -> int:
        """Return how many mdevs of a type would fit in alone, at most."""
        size = self._sizes.get(mdev_type)
        return 0 if size is None else max(self._left // size, 0)

    def fits(self, counts: Mapping[str, int]) -> bool:
        """Tell whether so many mdevs of each type fit in together."""
        asked = {kind: count for kind, count in counts.items() if count}
        if not asked.keys() <= self._sizes.keys():
            return False
        if any(together <= Counter(asked) for together in self._avoid):
            return False
        sizes = (self._sizes[kind] * count for kind, count in asked.items())
        return not asked or sum(sizes) <= self._left


def _units(available: Mapping[str, int]) -> dict[str, Fraction]:
    """Return how many units of its parent's room each type takes.

    :param available: instances of each type, none of them 0.
    """
    total = max(available.values(), default=0)
    units = {}
    for kind, count in available.items():
        whole = total // (count + 1) + 1
        fits = total // whole == count
        units[kind] = Fraction(whole) if fits else Fraction(total, count)
    return units


def _fitting(
    room: Room, kinds: Sequence[str], demand: Mapping[str, int]
) -> dict[_Share, None]:
    """Return what a room could take of a demand, in order, most first."""
    found: list[_Share] = [()]
    for kind in kinds:
        found = [
            share
            for shorter in found
            for count in range(demand[kind] + 1)
            if room.fits(
                dict(zip(kinds, share := (*shorter, count), strict=False))
            )
        ]
    found.sort(key=lambda share: (sum(share), share), reverse=True)
    return dict.fromkeys(found)


def _reach(rooms: Sequence[Room], kinds: Sequence[str]) -> list[_Share]:
    """Return a bound of what rooms can take, from each on to the last.

    :returns: for each kind alone, and at last of all kinds.
    """
    reach = [(0,) * (len(kinds) + 1)]
    for room in reversed(rooms):
        alone = [room.most(kind) for kind in kinds]
        most = (*alone, max(alone, default=0))
        reach.append(tuple(map(sum, zip(most, reach[-1], strict=True))))
    return reach[::-1]


def _fullest(fitting: Collection[_Share], left: _Share) -> Iterator[_Share]:
    """Yield the shares of what is left to which nothing can be added."""
    for share in fitting:
        if all(map(operator.le, share, left)) and not any(
            count < wanted
            and (*share[:place], count + 1, *share[place + 1 :]) in fitting
            for place, (count, wanted) in enumerate(
                zip(share, left, strict=True)
            )
        ):
            yield share


def place(
    demand: Mapping[str, int], rooms: Sequence[Room]
) -> list[tuple[str, str]] | None:
    """Return parent and type of each mdev to create, None if no way fits.

    Goes from room to room, taking as much as fits first. A share that more
    could be added to need not be tried: what fits without the addition fits
    with it, for that much less is left to the other rooms. ``hopeless``
    remembers what is known not to fit into the rooms that are left.
    """
    kinds = sorted(demand)
    reach = _reach(rooms, kinds)
    hopeless = set()

    @functools.cache
    def fitting(index: int) -> dict[_Share, None]:
        return _fitting(rooms[index], kinds, demand)

    def fill(index: int, left: _Share) -> list[tuple[str, str]] | None:
        if not any(left):
            return []
        beyond = any(map(operator.gt, (*left, sum(left)), reach[index]))
        if beyond or (index, left) in hopeless:
            return None
        for share in _fullest(fitting(index), left):
            rest = fill(index + 1, tuple(map(operator.sub, left, share)))
            if rest is not None:
                return [
                    (rooms[index].name, kind)
                    for kind, count in zip(kinds, share, strict=True)
                    for _ in range(count)
                ] + rest
        hopeless.add((index, left))
        return None

    return fill(0, tuple(demand[kind] for kind in kinds))
