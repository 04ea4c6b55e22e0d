# SPDX-License-Identifier: Apache-2.0
"""What must be changed in the compute manager: all of it is here.

The driver reaches its manager through its virt API object. RPC and the
manager itself look methods up on the instance, so wrapping them there is
enough; no class of Nova's is touched.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from nova.virt import driver as virt_driver

from mdev_migrate.compute import objects, wrapping

_MARK = "_mdev_migrate_wrapped"


def wrap(manager: Any, driver: Any) -> None:
    """Wrap a compute manager's methods, once.

    :param driver: its driver, with the mixin.
    """
    if getattr(manager, _MARK, False):
        return
    setattr(manager, _MARK, True)
    if not hasattr(
        virt_driver.ComputeDriver, "check_source_migrate_data_at_dest"
    ):
        around = _check(manager, driver)
        wrapping.wrap(manager, "check_can_live_migrate_destination", around)
    succeeding = threading.local()
    wrapping.wrap(manager, "_post_live_migration", _note_success(succeeding))
    wrapping.wrap(manager, "_live_migration_cleanup_flags", _reach(succeeding))


def _check(manager: Any, driver: Any) -> Callable[..., Any]:
    """Call, up to Nova 28, the hook that Nova 29 calls by itself."""

    def hook(
        data: Any,
        ctxt: Any,
        instance: Any,
        block_migration: Any,  # noqa: ARG001 - Nova's names
        disk_over_commit: Any,  # noqa: ARG001
        migration: Any = None,
        limits: Any = None,
    ) -> Any:
        ours = driver.mdev_compute
        if not (objects.has_mdevs(data) or ours.flavors.wants_mdevs(instance)):
            return data
        with ours.refusals(instance):
            allocations = manager.reportclient.get_allocations_for_consumer(
                ctxt, instance.uuid
            )
        return driver.check_source_migrate_data_at_dest(
            ctxt, instance, data, migration, limits, allocations
        )

    def check(stock: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return hook(stock(*args, **kwargs), *args, **kwargs)

    return check


def _note_success(succeeding: threading.local) -> Callable[..., Any]:
    """Note that a migration ends well while the source cleans up."""

    def note(stock: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        succeeding.now = True
        try:
            return stock(*args, **kwargs)
        finally:
            succeeding.now = False

    return note


def _reach(succeeding: threading.local) -> Callable[..., Any]:
    """Let a rollback reach the destination whenever there is a claim.

    Nova does not call it for instances on shared storage. The disks there
    are the running guest's: if the claim is the only reason for the call,
    they are not to be destroyed.
    """

    def flags(
        stock: Callable[..., Any],
        migrate_data: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        do_cleanup, destroy_disks = stock(migrate_data, *args, **kwargs)
        rolling_back = not getattr(succeeding, "now", False)
        if rolling_back and not do_cleanup and objects.has_mdevs(migrate_data):
            return True, False
        return do_cleanup, destroy_disks

    return flags
