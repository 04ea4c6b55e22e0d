# SPDX-License-Identifier: Apache-2.0
"""Nova's migrate data with our three fields, without Nova."""

from __future__ import annotations

from typing import Any

from oslo_versionedobjects import base
from oslo_versionedobjects import exception as ovo_exception

from mdev_migrate.compute.objects import (
    MDEV_FIELDS,
    MDEV_VERSION,
    drop_mdev_fields,
    is_older,
)


@base.VersionedObjectRegistry.register_if(False)
class LibvirtLiveMigrateData(base.VersionedObject):
    """What two hosts tell each other about a live migration, without Nova.

    It stays out of the registry of objects: that is one for the whole
    process, and Nova's own class of the same name must keep its place.

    :ivar dst_supports_mdev_live_migration: the destination can receive a
        guest with mdevs.
    :ivar source_mdev_types: mdev type by source mdev UUID.
    :ivar target_mdevs: target mdev UUID by source mdev UUID.
    """

    # Version 1.10: without mdevs
    # Version 1.11: the three fields for mdevs
    VERSION = MDEV_VERSION
    OBJ_SERIAL_NAMESPACE = "nova_object"
    OBJ_PROJECT_NAMESPACE = "nova"

    fields = MDEV_FIELDS

    @classmethod
    def obj_class_from_name(
        cls, objname: str, objver: str
    ) -> type[LibvirtLiveMigrateData]:
        """Return the class that a primitive is read with: this one.

        :raises UnsupportedObjectError: if it is of another name.
        :raises IncompatibleObjectVersion: if it is of a newer version.
        """
        if objname != cls.obj_name():
            raise ovo_exception.UnsupportedObjectError(objtype=objname)
        if is_older(cls.VERSION, objver):
            raise ovo_exception.IncompatibleObjectVersion(
                objname=objname, objver=objver, supported=cls.VERSION
            )
        return cls

    def obj_make_compatible(
        self, primitive: dict[str, Any], target_version: str
    ) -> None:
        """Drop what a version does not know, for an older peer."""
        super().obj_make_compatible(primitive, target_version)
        drop_mdev_fields(primitive, target_version)
