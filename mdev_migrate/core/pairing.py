# SPDX-License-Identifier: Apache-2.0
"""Pair each source mdev with a target mdev that can stand in for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

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
            or Counter(target.attributes) == Counter(wanted.attributes)
        )
    )


def misfit(target: model.Mdev, wanted: model.WantedMdev) -> int:
    """Rank by how far a target is from surviving a reboot as its source did.

    :returns: 0 if it is as durable as its source and no more; then how much
        would have to be changed: what is defined for nothing, what does not
        start with the host, what is not defined at all.
    """
    if not wanted.persistent:
        return int(target.persistent)
    if not target.persistent:
        return 3
    if wanted.autostart and not target.autostart:
        return 2
    return int(target.autostart and not wanted.autostart)


def pair_mdevs(
    wanted: Iterable[model.WantedMdev], targets: Iterable[model.Mdev]
) -> dict[str, str]:
    """Choose a target mdev for every source mdev.

    Both sides are taken in the order given, so the result is repeatable; but
    whose target was chosen comes first. Of the targets that serve, the one is
    taken that is as durable.

    :param targets: the claimed target mdevs; spare ones are left over.
    :returns: target mdev UUID by source mdev UUID, each target used once.
    :raises TargetMdevMissing: if a source mdev is left without a target.
    """
    spare = list(targets)
    pairs = {}
    wanted = list(wanted)
    for want in sorted(wanted, key=lambda want: want.target is None):
        serving = [mdev for mdev in spare if serves(mdev, want)]
        if not serving:
            raise exception.TargetMdevMissing(want.source_uuid, want.mdev_type)
        target = min(serving, key=lambda mdev: misfit(mdev, want))
        spare.remove(target)
        pairs[want.source_uuid] = target.uuid
    return {want.source_uuid: pairs[want.source_uuid] for want in wanted}


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
