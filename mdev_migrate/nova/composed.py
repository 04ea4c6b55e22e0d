# SPDX-License-Identifier: Apache-2.0
"""The composed driver class: the mixin first, Nova's class second.

Nova's own code says ``super(LibvirtDriver, self)`` and looks that name up in
its module when it runs: nothing here may be bound to that name there.
"""

from __future__ import annotations

import contextlib
import pathlib
from typing import Any

import nova.conf
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects as nova_objects
from nova.compute import task_states
from nova.virt.libvirt import driver
from oslo_concurrency import lockutils
from oslo_log import log

from mdev_migrate.compute import conf
from mdev_migrate.compute.boots import BOOTS, while_booting
from mdev_migrate.compute.compute import MdevCompute
from mdev_migrate.compute.driver import MdevLiveMigrationMixin
from mdev_migrate.core import claims
from mdev_migrate.ledger import FileStore
from mdev_migrate.nova import manager, migrate_data

LOG = log.getLogger(__name__)
CONF = nova.conf.CONF

migrate_data.extend()
conf.register(CONF)

#: Statuses in which a live migration will do nothing more.
_OVER = frozenset(
    ("completed", "failed", "cancelled", "error", "done", "confirmed")
)


class NovaServices:
    """What Nova provides besides the driver; see ``compute.Nova``."""

    def refusal(self, text: str) -> Exception:
        """Return the error that makes the conductor try another host."""
        error: Exception = nova_exception.MigrationPreCheckError(reason=text)
        return error

    def is_refusal(self, error: Exception) -> bool:
        """Tell whether the conductor takes an error for a refusal."""
        return isinstance(error, nova_exception.MigrationPreCheckError)

    def vgpu_lock(self) -> contextlib.AbstractContextManager[Any]:
        """Return the lock under which Nova chooses mdevs."""
        lock: contextlib.AbstractContextManager[Any] = lockutils.lock(
            driver.VGPU_RESOURCE_SEMAPHORE, lock_file_prefix="nova-"
        )
        return lock

    def is_over(self, migration_uuid: str, host: str) -> bool:
        """Tell whether a migration is over, or goes to another host.

        The status alone does not tell: a source that starts anew, or gives
        an instance up, leaves some records as they were. The instance is
        asked second, for it is marked before its migration is made.
        """
        context = nova_context.get_admin_context()
        try:
            migration = nova_objects.Migration.get_by_uuid(
                context, migration_uuid
            )
            instance = nova_objects.Instance.get_by_uuid(
                context, migration.instance_uuid
            )
        except (
            nova_exception.MigrationNotFound,
            nova_exception.InstanceNotFound,
        ):
            return True
        return bool(
            migration.status in _OVER
            or migration.dest_compute not in (None, host)
            or instance.task_state != task_states.MIGRATING
        )


class LibvirtDriver(
    MdevLiveMigrationMixin,
    driver.LibvirtDriver,  # type: ignore[misc]
):
    """Nova's LibvirtDriver with live migration of guests with mdevs.

    :raises OptionInvalid: if an option of the group cannot be used.
    """

    def __init__(self, virtapi: Any, read_only: bool = False) -> None:
        self.mdev_options = conf.Options(CONF)
        super().__init__(virtapi, read_only)

    def make_mdev_compute(self) -> MdevCompute:
        """Return the mixin's work, with claims that outlive the service."""
        return MdevCompute(
            self,
            NovaServices(),
            limits=self.mdev_options.now.limits,
            claim_table=claims.ClaimTable(_LateStore(self)),
        )

    def init_host(self, host: str) -> None:
        """Reach into the compute manager, before it serves."""
        compute_manager = getattr(self.virtapi, "_compute", None)
        if compute_manager is not None:
            manager.wrap(compute_manager, self)
        super().init_host(host)

    def check_mdev_options(self) -> None:
        """Read what a migration depends on, before it begins."""
        self.mdev_options.check()

    def mdev_downtime_factor(self) -> float:
        """Return how many times longer than others the guest may stop."""
        return self.mdev_options.now.downtime_factor

    def mdev_max_downtime_ms(self) -> int | None:
        """Return how long a guest with mdevs may stop at most."""
        now = self.mdev_options.now
        return now.max_downtime_ms or now.others_downtime_ms


for _name in BOOTS:
    setattr(LibvirtDriver, _name, while_booting(driver.LibvirtDriver, _name))


class _LateStore:
    """The ledger's file, opened when claims are first looked at.

    The driver is made before libvirt is asked anything.
    """

    def __init__(self, owner: LibvirtDriver) -> None:
        self._driver = owner
        self._store: FileStore | None = None

    def edit(self) -> contextlib.AbstractContextManager[dict[str, Any]]:
        """Lend the claims; see ``claims.Store``."""
        return self._opened().edit()

    def edit_made(self) -> contextlib.AbstractContextManager[dict[str, str]]:
        """Lend what is remembered of mdevs made; see ``claims.Store``."""
        return self._opened().edit_made()

    def _opened(self) -> FileStore:
        if self._store is None:
            self._store = FileStore(
                pathlib.Path(self._driver.mdev_options.now.state_dir),
                self._driver.mdev_compute.host.facts(),
                LOG.warning,
            )
        return self._store
