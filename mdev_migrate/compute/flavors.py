# SPDX-License-Identifier: Apache-2.0
"""What an instance's flavor asks for besides processors and memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from oslo_log import log

from mdev_migrate.compute import objects

LOG = log.getLogger(__name__)


def _extra_specs(instance: Any) -> Mapping[str, str]:
    """Return the extra specs of an instance's flavor.

    None if they cannot be read, or if the instance is only a UUID: that is
    no reason to stop one without mdevs, and one with mdevs has them in its
    guest's XML.
    """
    try:
        specs = instance.flavor.extra_specs
    except Exception as error:  # noqa: BLE001 - Nova's object loads lazily
        LOG.debug("The flavor of an instance cannot be read: %s", error)
        return {}
    return specs if isinstance(specs, Mapping) else {}


class Flavors:
    """Tells from their flavors what instances have.

    :param driver: the LibvirtDriver.
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def wants_mdevs(self, instance: Any) -> bool:
        """Tell whether an instance has mdevs."""
        classes = {"VGPU", *getattr(self._driver, "mdev_classes", ())}
        return any(
            name.startswith("resources")
            and name.partition(":")[2] in classes
            and str(amount) != "0"
            for name, amount in _extra_specs(instance).items()
        )

    @staticmethod
    def wants_accelerators(instance: Any) -> bool:
        """Tell whether Cyborg makes devices for an instance."""
        return "accel:device_profile" in _extra_specs(instance)

    @contextlib.contextmanager
    def looking(self, instance: Any) -> Iterator[None]:
        """Find out in the block whether an instance's guest has mdevs.

        Trouble does not stop a guest whose flavor asks for none.
        """
        try:
            yield
        except Exception as error:
            if self.wants_mdevs(instance) or self.wants_accelerators(instance):
                raise
            LOG.warning(
                "Taken for a guest without mdevs, as its flavor says: %s",
                error,
                instance_uuid=objects.instance_uuid(instance),
            )
