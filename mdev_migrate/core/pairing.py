# SPDX-License-Identifier: Apache-2.0
"""Pair each source mdev with a target mdev that can stand in for it."""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from mdev_migrate import exception, model


def serves(target: model.Mdev, wanted: model.WantedMdev) -> bool:
    """Tell whether a target mdev can stand in for a source mdev.

    Its type must be the same, and its attributes, if the source told them:
    a guest must not find another frame rate or licence after it moved. They
    may stand in any order, and one may stand there several times: so does
    vfio-ap with its adapters and domains.
    """
    return (
        target.mdev_type == wanted.mdev_type
        and wanted.target in (None, target.uuid, target.parent)
        and (
            wanted.attributes is None
            or _meant(target.attributes) == _meant(wanted.attributes)
        )
    )


#: Attributes of vfio-ap that take a number, and how the kernel reads one:
#: kstrtoul() with base 0 in drivers/s390/crypto/vfio_ap_ops.c, where 0x begins
#: a hexadecimal and another 0 an octal number.
_NUMBERS = {
    f"{deed}_{what}"
    for deed in ("assign", "unassign")
    for what in ("adapter", "domain", "control_domain")
}
_BASES = (
    (re.compile("0x[0-9a-f]+", re.IGNORECASE), 16),
    (re.compile("0[0-7]*"), 8),
    (re.compile("[1-9][0-9]*"), 10),
)


def _meant(attributes: model.Attributes) -> list[tuple[str, str]]:
    """Return attributes in one order, and equal numbers in one spelling."""
    return sorted(
        (name, _spelt(value) if name in _NUMBERS else value)
        for name, value in attributes
    )


def _spelt(value: str) -> str:
    for spelling, base in _BASES:
        if spelling.fullmatch(value):
            return f"{int(value, base)}"
    return value


#: The rank of what is furthest from surviving a reboot as its source did.
WORST = 3


def misfit(target: model.Mdev, wanted: model.WantedMdev) -> int:
    """Rank by how far a target is from surviving a reboot as its source did.

    :returns: 0 if it is as durable as its source and no more; then how much
        would have to be changed: what is defined for nothing, what does not
        start with the host, what is not defined at all.
    """
    if not wanted.persistent:
        return int(target.persistent)
    if not target.persistent:
        return WORST
    if wanted.autostart and not target.autostart:
        return 2
    return int(target.autostart and not wanted.autostart)


def fit(target: model.Mdev, wanted: model.WantedMdev) -> int | None:
    """Rank a target for a source mdev; None if it does not serve."""
    return misfit(target, wanted) if serves(target, wanted) else None


def match(
    wanted: Iterable[model.WantedMdev],
    targets: Iterable[model.Mdev],
    rank: Callable[[model.Mdev, model.WantedMdev], int | None] = fit,
) -> dict[str, model.Mdev]:
    """Give as many source mdevs as can be a target mdev of their own.

    Those who chose an mdev come first, then those who chose a parent. Of all
    ways to do so it is one with the least sum of ranks. Of equal ones both
    sides are taken in the order given, so the result is repeatable.

    :param rank: how far a target is from what is wanted, None if it does not
        serve.
    :returns: target mdev by source mdev UUID, in the order of these.
    """
    wanted, targets = list(wanted), list(targets)
    ranks = _ranks(wanted, targets, rank)
    columns = sorted({place for row in ranks for place in row})
    unserved = 1 + sum(max(row.values(), default=0) for row in ranks)
    uuids = {mdev.uuid for mdev in targets}
    lacking = [
        unserved * (1 + len(wanted)) ** _choosiness(want, uuids)
        for want in wanted
    ]
    costs = [
        [
            row.get(place, lack)
            # One without a target has a column all the same.
            for place in (*columns, *(-1 for _ in wanted))
        ]
        for row, lack in zip(ranks, lacking, strict=True)
    ]
    pairs = zip(wanted, ranks, _assign(costs), strict=True)
    return {
        want.source_uuid: targets[columns[column]]
        for want, row, column in pairs
        if column < len(columns) and columns[column] in row
    }


def _ranks(
    wanted: Sequence[model.WantedMdev],
    targets: Sequence[model.Mdev],
    rank: Callable[[model.Mdev, model.WantedMdev], int | None],
) -> list[dict[int, int]]:
    """Return for each source mdev the ranks of what serves it best, by place.

    No more than there are source mdevs are needed: of its best so many the
    others leave it one. Those that want the same are asked for once.
    """
    known: dict[model.WantedMdev, dict[int, int]] = {}
    ranks = []
    for want in wanted:
        alike = replace(want, source_uuid="")
        if alike not in known:
            serving = (
                (found, place)
                for place, mdev in enumerate(targets)
                if (found := rank(mdev, want)) is not None
            )
            best = heapq.nsmallest(len(wanted), serving)
            known[alike] = {place: found for found, place in best}
        ranks.append(known[alike])
    return ranks


def _choosiness(want: model.WantedMdev, uuids: Collection[str]) -> int:
    """Rank by how little else will do if a source mdev is not served."""
    if want.target is None:
        return 0
    return 2 if want.target in uuids else 1


def _assign(costs: Sequence[Sequence[int]]) -> list[int]:
    """Choose a column for each row, none twice, for the least sum of costs.

    The Hungarian method: each row in turn enters by the cheapest chain of
    exchanges, by costs from which prices of rows and columns are taken.

    :param costs: of each row by columns, of which there are enough.
    """
    width = len(costs[0]) if costs else 0
    row_prices = [0] * len(costs)
    prices = [0] * (width + 1)
    # The last column is no column: there a row enters.
    holders: list[int | None] = [None] * (width + 1)
    for entering in range(len(costs)):
        column, holders[width] = width, entering
        least = [math.inf] * width
        before = [width] * width
        left, reached = list(range(width)), []
        while (row := holders[column]) is not None:
            reached.append((column, row))
            for other in left:
                cost = costs[row][other] - row_prices[row] - prices[other]
                if cost < least[other]:
                    least[other], before[other] = cost, column
            column = min(left, key=least.__getitem__)
            left.remove(column)
            step = int(least[column])
            for other, holder in reached:
                row_prices[holder] += step
                prices[other] -= step
            for other in left:
                least[other] -= step
        while column != width:
            source = before[column]
            holders[column], column = holders[source], source
    found = {row: column for column, row in enumerate(holders[:width])}
    return [found[row] for row in range(len(costs))]


def pair_mdevs(
    wanted: Iterable[model.WantedMdev], targets: Iterable[model.Mdev]
) -> dict[str, str]:
    """Choose a target mdev for every source mdev: as durable as can be.

    :param targets: the claimed target mdevs; spare ones are left over.
    :returns: target mdev UUID by source mdev UUID, each target used once.
    :raises TargetMdevMissing: if a source mdev is left without a target.
    """
    wanted = list(wanted)
    pairs = match(wanted, targets)
    for want in wanted:
        if want.source_uuid not in pairs:
            raise exception.TargetMdevMissing(want.source_uuid, want.mdev_type)
    return {source: target.uuid for source, target in pairs.items()}


def to_define(
    wanted: Collection[model.WantedMdev], targets: Collection[model.Mdev]
) -> dict[str, bool]:
    """Return which targets do not survive a reboot as their sources did.

    :returns: by UUID of the target, whether it is to start with the host.
    """
    mdevs = {mdev.uuid: mdev for mdev in targets}
    pairs = pair_mdevs(wanted, targets)
    return {
        pairs[want.source_uuid]: want.autostart
        for want in wanted
        if misfit(mdevs[pairs[want.source_uuid]], want) > 1
    }
