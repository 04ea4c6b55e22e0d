# SPDX-License-Identifier: Apache-2.0
"""Which mdevs of a destination does nobody have?

A guest may have left a definition of its own there, from an earlier stay:
what only that names is nobody's but its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from mdev_migrate import model
from mdev_migrate.core import pairing


def available_mdevs(
    inventory: model.Inventory, held: Collection[model.Mdev]
) -> tuple[model.Mdev, ...]:
    """Return the mdevs that exist and that nobody holds.

    None, if the guests are not all known: whoever cannot be read may hold
    any of them.

    :param held: mdevs in the claims of other instances.
    """
    return tuple(m for m in nobodys(inventory, held) if m.active)


def nobodys(
    inventory: model.Inventory, held: Collection[model.Mdev]
) -> Iterator[model.Mdev]:
    """Yield the mdevs that are listed once, and that nobody holds."""
    if any(each.kind == "guest" for each in inventory.left_out()):
        return
    taken = {mdev.uuid for mdev in held} | inventory.assigned().keys()
    listed = Counter(mdev.uuid for mdev in inventory.mdevs)
    for mdev in sorted(inventory.mdevs, key=lambda m: (m.parent, m.uuid)):
        if mdev.uuid not in taken and listed[mdev.uuid] == 1:
            yield mdev


def left_behind(
    inventory: model.Inventory,
    targets: Iterable[model.Mdev],
    held: Collection[model.Mdev],
    owner: str,
) -> list[model.Mdev]:
    """Return what of a guest's own definition nobody has once it has come.

    That is replaced, and what exists of its mdevs is not removed.

    :param targets: what it will have.
    :param held: mdevs in the claims of other instances.
    :param owner: UUID of the instance.
    """
    others = inventory.without_definition(owner)
    names = own(inventory, others) - {mdev.uuid for mdev in targets}
    taken = (*held, *inventory.claims.held())
    return [m for m in available_mdevs(others, taken) if m.uuid in names]


def own(inventory: model.Inventory, others: model.Inventory) -> frozenset[str]:
    """Return what only the guest's own definition names.

    :param others: the inventory without that.
    """
    return frozenset(inventory.assigned()) - frozenset(others.assigned())


def in_the_way(
    inventory: model.Inventory,
    others: model.Inventory,
    held: Collection[model.Mdev],
    wanted: Sequence[model.WantedMdev],
) -> Iterator[str]:
    """Yield in words what nobody has, and takes the room of what is wanted.

    :param others: the inventory without the guest's own definition.
    """
    names = own(inventory, others)
    kinds = {want.mdev_type for want in wanted}
    places = {
        parent.name
        for parent in inventory.parents
        if any(map(parent.offer, kinds))
    }
    for mdev in available_mdevs(others, (*held, *inventory.claims.held())):
        if mdev.parent in places and not any(
            pairing.serves(mdev, want) for want in wanted
        ):
            yield (
                f"{mdev.uuid} ({mdev.mdev_type}"
                + " with other attributes" * (mdev.mdev_type in kinds)
                + f" on {mdev.parent}"
                + ", of the guest's own old definition" * (mdev.uuid in names)
                + ")"
            )
