# SPDX-License-Identifier: Apache-2.0
"""The migrate data of a guest with mdevs, as oslo.versionedobjects.

The three fields, their types and the version at which they came are those
of OpenStack Nova 29 (``LibvirtLiveMigrateData`` 1.11), so that what one
side sends the other understands. Nova itself is not needed here;
:mod:`mdev_migrate.nova` adds the same fields to Nova's own object.
"""

from __future__ import annotations

from typing import Any

from oslo_versionedobjects import fields

from mdev_migrate import exception, model
from mdev_migrate.compute.migration_log import MigrationLog
from mdev_migrate.core import wire

#: The version of the migrate data that has the fields below.
MDEV_VERSION = "1.11"

#: What migrate data must have for a guest with mdevs, by field name.
MDEV_FIELDS: dict[str, fields.Field[Any]] = {
    "dst_supports_mdev_live_migration": fields.BooleanField(),
    "source_mdev_types": fields.DictOfStringsField(),
    "target_mdevs": fields.DictOfStringsField(),
}


def is_older(version: str, other: str) -> bool:
    """Tell whether a version of an object, as ``1.10``, is before another."""
    return model.Version.parse(version) < model.Version.parse(other)


def drop_mdev_fields(primitive: dict[str, Any], target_version: str) -> None:
    """Drop from a primitive what a version does not know.

    :param primitive: the object's fields; changed in place.
    :param target_version: as in ``1.10``.
    """
    if is_older(target_version, MDEV_VERSION):
        for name in MDEV_FIELDS:
            primitive.pop(name, None)


def field(migrate_data: Any, name: str) -> Any:
    """Return a field of migrate data, None if it is not set.

    There may be no migrate data at all, or some of another driver.
    """
    try:
        return getattr(migrate_data, name) if name in migrate_data else None
    except (AttributeError, NotImplementedError, TypeError):
        return None


def instance_uuid(instance: Any) -> str:
    """Return the UUID of an instance, which may be given as one."""
    return str(getattr(instance, "uuid", instance))


def has_mdevs(migrate_data: Any) -> bool:
    """Tell whether migrate data is about a guest with mdevs."""
    return bool(
        field(migrate_data, "source_mdev_types")
        or field(migrate_data, "target_mdevs")
    )


def destination_supports(migrate_data: Any) -> bool:
    """Tell whether the destination said that it takes guests with mdevs.

    An older one did not say: its object has no such field, or none set.
    """
    return bool(field(migrate_data, "dst_supports_mdev_live_migration"))


def received_source_mdev_types(migrate_data: Any) -> dict[str, str] | None:
    """Return the type of each source mdev, None if the source said none.

    None and empty differ: a source that knows of mdevs and found none says
    so by an empty field, and an older one says nothing.

    :raises MigrateDataInvalid: if what it said cannot be used.
    """
    types = field(migrate_data, "source_mdev_types")
    return None if types is None else wire.check_source_mdev_types(types)


def known(record: Any, name: str) -> str | None:
    """Return what a record of Nova's says, None if it does not.

    There may be none, or one that is not whole and loads nothing.
    """
    try:
        found = getattr(record, name, None)
    except NotImplementedError:
        return None
    return None if found is None else str(found)


def migration_uuid(migrate_data: Any) -> str | None:
    """Return which migration migrate data is about, None if unknown."""
    return known(field(migrate_data, "migration"), "uuid")


def migration_log(instance: Any, migrate_data: Any) -> MigrationLog:
    """Return what logs the migration that migrate data is about."""
    return MigrationLog(instance_uuid(instance), migration_uuid(migrate_data))


def received_target_mdevs(migrate_data: Any) -> dict[str, str]:
    """Return the target mdev of each source mdev; none if none were sent.

    :raises MigrateDataInvalid: if what was sent cannot be used.
    """
    types = received_source_mdev_types(migrate_data) or {}
    targets = field(migrate_data, "target_mdevs")
    if targets is not None:
        return wire.check_target_mdevs(targets, types)
    if types:
        raise exception.MigrateDataInvalid(
            "target_mdevs", "missing, though there are source mdevs"
        )
    return {}
