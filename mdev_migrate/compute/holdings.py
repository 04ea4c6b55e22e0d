# SPDX-License-Identifier: Apache-2.0
"""Who holds which mdevs of a compute node, as Nova's driver is told."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from mdev_migrate.compute import claim_domains
from mdev_migrate.compute.compute import MdevCompute

if TYPE_CHECKING:
    _Driver = Any
else:
    _Driver = object


class HoldingsMixin(_Driver):  # type: ignore[misc]
    """Counts, for a LibvirtDriver, what is promised and not assigned yet."""

    mdev_compute: MdevCompute

    def _prepare_mdevs(self) -> None:
        """Make what these methods need, once the stock driver is made."""
        super()._prepare_mdevs()
        claim_domains.hide(self._host)

    def _get_mdev_types_from_uuids(self, mdev_uuids: Any) -> Any:
        """Look at a guest's own mdevs alone, where Nova looks at all."""
        with self.mdev_compute.host.listing.mdevs(mdev_uuids):
            return super()._get_mdev_types_from_uuids(mdev_uuids)

    def _get_existing_mdevs_not_assigned(
        self, parent: Any, requested_types: Any = None
    ) -> Any:
        """Look for an mdev among those that nobody is seen to hold."""
        held = self.mdev_compute.promises.seen() or ()
        with self.mdev_compute.host.listing.mdevs_besides(held):
            return super()._get_existing_mdevs_not_assigned(
                parent, requested_types
            )

    @property
    def instance_claimed_mdevs(self) -> dict[str, list[str]]:
        """Target mdev UUIDs by instance UUID, as Nova 29 and later have it.

        The mixin claims, and ends claims, by itself. Empty while this thread
        asks what its guests have.
        """
        return self.mdev_compute.promises.claimed()

    @instance_claimed_mdevs.setter
    def instance_claimed_mdevs(self, claimed: dict[str, list[str]]) -> None:
        # Nova's own class sets it before there are any promises.
        if hasattr(self, "mdev_compute"):
            view = self.mdev_compute.promises.view
            # What is given may be the view itself, as by "|=".
            now = dict(claimed)
            view.clear()
            view.update(now)

    def _stock_allocate_mdevs(self) -> Any:
        """Return the driver's own ``_allocate_mdevs``, not ours."""
        return super()._allocate_mdevs.__func__

    def _get_all_assigned_mediated_devices(self, instance: Any = None) -> Any:
        """Return which instance each mdev belongs to, claims included.

        Asked for one instance, claims are left out: the answer is what its
        guest is rebuilt with. Asked under Nova's lock, guests have been
        looked at before.
        """
        promises = self.mdev_compute.promises
        seen = promises.seen()
        if instance is None and seen is not None:
            return seen
        # Before the guests are read: what a guest gets meanwhile is in one.
        promised = promises.by_mdev() if instance is None else {}
        with promises.hidden():
            assigned = super()._get_all_assigned_mediated_devices(instance)
        if instance is not None:
            promises.hold(assigned)
            return assigned
        unseen = self.mdev_compute.host.held_besides(assigned)
        return {**promised, **unseen, **assigned}

    def _allocate_mdevs(self, allocations: Any) -> Any:
        """Let Nova choose mdevs for a boot, and hold them until it is up."""
        return self.mdev_compute.targets.allocate_for_boot(allocations)

    def _create_new_mediated_device(
        self, parent: Any, uuid: Any = None
    ) -> Any:
        """Create an mdev; one for a migration is claimed first.

        Nova looks at all parents, though it has been given one.
        """
        compute = self.mdev_compute
        with contextlib.ExitStack() as stack:
            if parent is not None:
                stack.enter_context(compute.host.listing.parent(parent))
            return super()._create_new_mediated_device(
                parent, uuid=uuid or compute.targets.claim_new()
            )
