# SPDX-License-Identifier: Apache-2.0
"""Keep the domains that claim mdevs out of what Nova takes for instances.

Nova compares libvirt's domains with its database: how many there are, whose
power state changed, whether a new service has any. A claim is no instance,
and not in the database.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mdev_migrate import libvirt_errors
from mdev_migrate.compute import wrapping
from mdev_migrate.core import claim_xml


def hide(host: Any) -> None:
    """Leave claims out of what Nova's host lists, once and for all of Nova.

    A domain is taken for a claim by its name, which no instance has, and
    because it is shut off: one that somebody has started holds its mdev like
    any guest.
    """
    wrapping.wrap(host, "list_instance_domains", _without_claims)


def _without_claims(
    stock: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    return [
        domain
        for domain in stock(*args, **kwargs)
        if not claim_xml.is_named_so(str(domain.name())) or _runs(domain)
    ]


def _runs(domain: Any) -> bool:
    """Tell whether a domain is active; one that is gone since is not."""
    try:
        return bool(domain.isActive())
    except Exception as error:
        if libvirt_errors.number_of(error) not in libvirt_errors.GONE:
            raise
        return False
