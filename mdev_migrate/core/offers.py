# SPDX-License-Identifier: Apache-2.0
"""Is what a destination's parents offer what a guest needs?

A type's id is given by the driver: the same one may be another profile with
another version of the driver, or on another card. What a profile is, its
name tells. Vendors have changed the brand in front of it, though.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from mdev_migrate import exception, model
from mdev_migrate.core.rooms import Avoided

#: What vendors put in front of a profile's name: NVIDIA's "GRID T4-1Q" became
#: "NVIDIA T4-1Q".
_BRANDS = re.compile(r"^((nvidia|grid|intel|amd)\b[ _-]*)+")


def _is_called(name: str, wanted: str) -> bool:
    """Tell whether two names are the same; one that is not known may be."""
    return not name or not wanted or _words(name) == _words(wanted)


def _words(name: str) -> str:
    return " ".join(name.casefold().split())


def _profile(name: str) -> str:
    return _BRANDS.sub("", _words(name))


def _fits(offer: model.MdevType, want: model.WantedMdev) -> bool:
    """Tell whether a type of the right id is what is wanted.

    Whoever has chosen a target knows what it is called.
    """
    if want.device_api not in (None, offer.device_api):
        return False
    return (
        want.target is not None
        or _is_called(offer.name, want.type_name)
        or _profile(offer.name) == _profile(want.type_name)
    )


def _offers(
    inventory: model.Inventory, mdev_type: str
) -> list[model.MdevType]:
    found = (parent.offer(mdev_type) for parent in inventory.parents)
    return [offer for offer in found if offer is not None]


def check_types(
    inventory: model.Inventory, wanted: Iterable[model.WantedMdev]
) -> None:
    """Refuse types that the destination lacks or offers differently.

    :raises MdevTypeMissing: if no parent offers a type.
    :raises DeviceApiMissing: if the parents that do have another device
        API than the guest's hostdev asks for.
    :raises MdevTypeDiffers: if to those that have it the type's id means
        another profile.
    """
    not_read = tuple(inventory.not_read("parent", "mdev type"))
    for want in wanted:
        offers = _offers(inventory, want.mdev_type)
        if not offers:
            raise exception.MdevTypeMissing(
                inventory.host,
                want.mdev_type,
                frozenset(
                    offered.mdev_type
                    for parent in inventory.parents
                    for offered in parent.types
                ),
                not_read,
            )
        apis = frozenset(offer.device_api for offer in offers)
        if want.device_api is not None and want.device_api not in apis:
            raise exception.DeviceApiMissing(
                inventory.host,
                want.mdev_type,
                apis,
                want.device_api,
                not_read,
            )
        if not any(_fits(offer, want) for offer in offers):
            raise exception.MdevTypeDiffers(
                inventory.host,
                want.mdev_type,
                frozenset(offer.name for offer in offers),
                want.type_name,
                not_read,
            )


def renamed(
    inventory: model.Inventory, wanted: Iterable[model.WantedMdev]
) -> Iterator[str]:
    """Yield in words which types are called something else there.

    Also those that one side alone gives a name: they may be another.
    """
    for mdev_type, name in dict.fromkeys(
        (want.mdev_type, want.type_name) for want in wanted
    ):
        names = {offer.name for offer in _offers(inventory, mdev_type)}
        if names and _words(name) not in map(_words, names):
            yield (
                f"mdev type {mdev_type} is {_called(name)} on the source and "
                f"{' or '.join(map(_called, sorted(names)))} on "
                f"{inventory.host}: is it the same profile?"
            )


def _called(name: str) -> str:
    return repr(name) if name else "not named"


def misnamed(
    inventory: model.Inventory, wanted: Iterable[model.WantedMdev]
) -> dict[Avoided, str]:
    """Return in words where a type is not used for what it is called."""
    wanted = tuple(wanted)
    return {
        each: f"there {_called(offer.name)}, not {' or '.join(sorted(names))}"
        for each in unfit(inventory, wanted)
        for parent in inventory.parents
        if parent.name == each.parent
        and (offer := parent.offer(each.kinds[0])) is not None
        and (
            names := {
                _called(want.type_name)
                for want in wanted
                if want.mdev_type == offer.mdev_type
                and _words(want.type_name) != _words(offer.name)
            }
        )
    }


def unfit(
    inventory: model.Inventory, wanted: Iterable[model.WantedMdev]
) -> frozenset[Avoided]:
    """Return where a type is not what any of the source mdevs is.

    If some parents call it just as the source does, others that only may
    mean the same are unfit, too.
    """
    wanted = tuple(wanted)
    called_so = {
        want.mdev_type
        for want in wanted
        for offer in _offers(inventory, want.mdev_type)
        if want.type_name and _words(offer.name) == _words(want.type_name)
    }

    def is_for(offer: model.MdevType, want: model.WantedMdev) -> bool:
        return _fits(offer, want) and (
            want.target is not None
            or want.mdev_type not in called_so
            or _words(offer.name) == _words(want.type_name)
        )

    return frozenset(
        Avoided(parent.name, (kind,))
        for kind in {want.mdev_type for want in wanted}
        for parent in inventory.parents
        if (offer := parent.offer(kind)) is not None
        and not any(
            is_for(offer, want) for want in wanted if want.mdev_type == kind
        )
    )


def refused_by_cards(
    inventory: model.Inventory, avoid: Collection[Avoided], patience: int
) -> frozenset[Avoided]:
    """Return what the other functions of cards that refused would refuse.

    Functions of a card share limits that none of them reports, as one size
    of frame buffer for all. A function that refuses while it says that it
    has room tells of such a limit; one that says so no longer was taken by
    somebody else.

    :param patience: of how many functions a refusal counts as the card's.
    """
    parents = {parent.name: parent for parent in inventory.parents}
    refusals: dict[tuple[str, str], list[Avoided]] = {}
    for each in avoid:
        parent = parents.get(each.parent)
        if parent is None or not parent.card or len(each.kinds) != 1:
            continue
        offer = parent.offer(each.kinds[0])
        if offer is not None and offer.available_instances:
            place = (parent.card, offer.mdev_type)
            refusals.setdefault(place, []).append(each)
    return frozenset(
        Avoided(name, (kind,))
        for (card, kind), found in refusals.items()
        if len(found) >= patience
        for name in _siblings(inventory, card, kind, found)
    )


def _siblings(
    inventory: model.Inventory,
    card: str,
    kind: str,
    refusals: Collection[Avoided],
) -> list[str]:
    """Return the functions of a card beyond those that it can serve."""
    refused = {each.parent for each in refusals}
    others = [
        parent.name
        for parent in sorted(inventory.parents, key=lambda p: p.name)
        if parent.card == card and parent.name not in refused
        if (offer := parent.offer(kind)) and offer.available_instances
    ]
    return others[min(each.beside for each in refusals) :]
