# SPDX-License-Identifier: Apache-2.0
"""Teach Nova's LibvirtLiveMigrateData about mdevs.

Nova 29 and later know them. An older class is extended in place: every name
that refers to it, every isinstance check and every entry in the registry
stay right, which a subclass would break in one place or another.
"""

from __future__ import annotations

from typing import Any

from nova.objects import base, migrate_data

from mdev_migrate.compute import objects

_VERSION_KEY = "nova_object.version"
#: What the class is without mdevs: Nova 25 to 28.
_STOCK_VERSION = "1.10"


class ObjectConflict(Exception):
    """This Nova's migrate data cannot be extended."""


def extend(cls: Any = migrate_data.LibvirtLiveMigrateData) -> None:
    """Add the mdev fields to a class that lacks them.

    Does nothing if it has them, so it may be called more than once.

    :raises ObjectConflict: if the class has another version than 1.10 and
        yet not the fields: a fork uses that version for something else.
    """
    if cls.fields.keys() >= objects.MDEV_FIELDS.keys():
        return
    if cls.VERSION != _STOCK_VERSION:
        raise ObjectConflict(
            f"{cls.__name__} {cls.VERSION} has no mdev fields: "
            f"{_STOCK_VERSION} needed to add them as {objects.MDEV_VERSION}"
        )
    cls.fields = {**cls.fields, **objects.MDEV_FIELDS}
    cls.VERSION = objects.MDEV_VERSION
    cls.obj_make_compatible = _make_compatible(cls.obj_make_compatible)
    cls.obj_to_primitive = _to_primitive(cls.obj_to_primitive)
    base.NovaObjectRegistry.register(cls)


def _make_compatible(stock: Any) -> Any:
    def obj_make_compatible(
        self: Any, primitive: dict[str, Any], target_version: str
    ) -> None:
        """Drop the mdev fields for a peer that does not know them."""
        stock(self, primitive, target_version)
        objects.drop_mdev_fields(primitive, target_version)

    return obj_make_compatible


def _to_primitive(stock: Any) -> Any:
    def obj_to_primitive(
        self: Any, target_version: Any = None, version_manifest: Any = None
    ) -> Any:
        """Label what says nothing of mdevs as what it is: version 1.10.

        Then peers and conductors that know no other take it as it is.
        """
        primitive = stock(
            self,
            target_version=target_version,
            version_manifest=version_manifest,
        )
        silent = not any(
            self.obj_attr_is_set(name) for name in objects.MDEV_FIELDS
        )
        if silent and objects.is_older(
            _STOCK_VERSION, primitive[_VERSION_KEY]
        ):
            primitive[_VERSION_KEY] = _STOCK_VERSION
        return primitive

    return obj_to_primitive
