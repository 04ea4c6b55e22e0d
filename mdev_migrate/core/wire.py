# SPDX-License-Identifier: Apache-2.0
"""Check what a peer sent before it is used."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mdev_migrate import exception, model

#: A type id is the name of a folder in sysfs: the driver's name, a hyphen
#: and the vendor's own name (Documentation/driver-api/vfio-mediated-device).
_MDEV_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}")


def _uuid(field: str, text: object) -> str:
    try:
        return model.normalise_uuid(text if isinstance(text, str) else "")
    except ValueError:
        raise exception.MigrateDataInvalid(
            field, f"not a UUID: {text!r:.80}"
        ) from None


def check_mdev_type(text: object) -> str:
    """Return a type id that could be one.

    :raises ValueError: if it could not.
    """
    if not isinstance(text, str) or not _MDEV_TYPE.fullmatch(text):
        raise ValueError(f"not an mdev type: {text!r:.80}")
    return text


def _pairs(field: str, received: object) -> list[tuple[object, object]]:
    if not isinstance(received, Mapping):
        raise exception.MigrateDataInvalid(field, "not a mapping")
    return list(received.items())


def check_source_mdev_types(received: object) -> dict[str, str]:
    """Return the mdev type of each source mdev, checked.

    :param received: ``source_mdev_types`` of the migrate data.
    :raises MigrateDataInvalid: if a UUID or type is not one, or a UUID
        stands there twice.
    """
    field = "source_mdev_types"
    types: dict[str, str] = {}
    for key, mdev_type in _pairs(field, received):
        uuid = _uuid(field, key)
        if uuid in types:
            raise exception.MigrateDataInvalid(field, f"{uuid} stands twice")
        try:
            types[uuid] = check_mdev_type(mdev_type)
        except ValueError as error:
            raise exception.MigrateDataInvalid(field, str(error)) from None
    return types


def check_target_mdevs(
    received: object, source_mdev_types: Mapping[str, str]
) -> dict[str, str]:
    """Return the target mdev of each source mdev, checked.

    :param received: ``target_mdevs`` of the migrate data.
    :param source_mdev_types: what the source had sent, checked.
    :raises MigrateDataInvalid: if a UUID is not one, a source mdev has no
        target, a target none of ours, or two share one.
    """
    field = "target_mdevs"
    pairs = [
        (_uuid(field, source), _uuid(field, target))
        for source, target in _pairs(field, received)
    ]
    targets = dict(pairs)
    if len(targets) != len(pairs):
        raise exception.MigrateDataInvalid(field, "a source mdev stands twice")
    if targets.keys() != source_mdev_types.keys():
        odd = ", ".join(sorted(targets.keys() ^ source_mdev_types.keys()))
        raise exception.MigrateDataInvalid(
            field, f"the source mdevs are not those asked for: {odd}"
        )
    if len(set(targets.values())) != len(targets):
        raise exception.MigrateDataInvalid(
            field, "two source mdevs have the same target"
        )
    return targets
