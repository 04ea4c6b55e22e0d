# SPDX-License-Identifier: Apache-2.0
"""What an instance's flavor asks for besides processors and memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from oslo_log import log

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


def wants_resources(instance: Any, classes: Collection[str]) -> bool:
    """Tell whether a flavor asks for any of some resource classes."""
    return any(
        name.startswith("resources")
        and name.partition(":")[2] in classes
        and str(amount) != "0"
        for name, amount in _extra_specs(instance).items()
    )


def wants_accelerators(instance: Any) -> bool:
    """Tell whether Cyborg makes devices for an instance."""
    return "accel:device_profile" in _extra_specs(instance)
