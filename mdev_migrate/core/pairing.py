# SPDX-License-Identifier: Apache-2.0
"""Pair each source mdev with a target mdev that can stand in for it."""

from __future__ import annotations

from collections.abc import Iterable

from mdev_migrate import exception, model


def serves(target: model.Mdev, wanted: model.WantedMdev) -> bool:
    """Tell whether a target mdev can stand in for a source mdev.

    Its type must be the same, and its attributes, if the source told them:
    a guest must not find another frame rate or licence after it moved.
    """
    return (
        target.mdev_type == wanted.mdev_type
        and wanted.attributes in (None, target.attributes)
        and wanted.target in (None, target.uuid, target.parent)
    )


def pair_mdevs(
    wanted: Iterable[model.WantedMdev], targets: Iterable[model.Mdev]
) -> dict[str, str]:
    """Choose a target mdev for every source mdev.

    Both sides are taken in the order given, so the result is repeatable; but
    whose target was chosen comes first.

    :param targets: the claimed target mdevs; spare ones are left over.
    :returns: target mdev UUID by source mdev UUID, each target used once.
    :raises TargetMdevMissing: if a source mdev is left without a target.
    """
    spare = list(targets)
    pairs = {}
    wanted = list(wanted)
    for want in sorted(wanted, key=lambda want: want.target is None):
        target = next((mdev for mdev in spare if serves(mdev, want)), None)
        if target is None:
            raise exception.TargetMdevMissing(want.source_uuid, want.mdev_type)
        spare.remove(target)
        pairs[want.source_uuid] = target.uuid
    return {want.source_uuid: pairs[want.source_uuid] for want in wanted}
