# SPDX-License-Identifier: Apache-2.0
"""The driver mixin with what this Nova provides."""

from __future__ import annotations

import contextlib
from typing import Any

import nova.conf
from nova import context as nova_context
from nova import exception as nova_exception
from nova import objects as nova_objects
from nova import version
from nova.compute import task_states
from nova.virt.libvirt import driver
from oslo_concurrency import lockutils
from oslo_log import log

import mdev_migrate
from mdev_migrate.compute import conf
from mdev_migrate.compute.compute import MdevCompute
from mdev_migrate.compute.driver import MdevLiveMigrationMixin
from mdev_migrate.core import claim_xml
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

    def claim_form(self) -> claim_xml.Form:
        """Return what the guests of this host are like."""
        return claim_xml.Form(domain_type=CONF.libvirt.virt_type)

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
            or migration_uuid != _newest(context, instance.uuid)
        )


def _newest(context: Any, instance_uuid: str) -> str:
    """Return the newest live migration of an instance.

    It has one at a time: the record of an older one was left as it was.
    """
    found = nova_objects.MigrationList.get_by_filters(
        context,
        {"instance_uuid": instance_uuid, "migration_type": "live-migration"},
    )
    return str(max(found, key=lambda migration: migration.id).uuid)


class NovaMixin(MdevLiveMigrationMixin):
    """The mixin with what this Nova provides."""

    def _prepare_mdevs(self) -> None:
        """Make what the hooks need, once the stock driver is made.

        :raises OptionInvalid: if an option of the group cannot be used.
        """
        self.mdev_options = conf.Options(CONF)
        super()._prepare_mdevs()

    def _make_mdev_compute(self) -> MdevCompute:
        """Return the mixin's work, on this Nova."""
        limits = self.mdev_options.now.limits
        return MdevCompute(
            self,
            NovaServices(),
            limits,
            lambda: self.mdev_options.now.metrics_file,
        )

    def init_host(self, host: str) -> None:
        """Reach into the compute manager, before it serves."""
        compute_manager = getattr(self.virtapi, "_compute", None)
        if compute_manager is not None:
            manager.wrap(compute_manager, self)
        LOG.info(
            "mdev-migrate %(ours)s with Nova %(nova)s: live migration of "
            "guests with mdevs. mdev types enabled here: %(types)s; claims "
            "are domains %(claims)s in this host's libvirt",
            {
                "ours": mdev_migrate.__version__,
                "nova": version.version_string(),
                "types": ", ".join(self.supported_vgpu_types) or "none",
                "claims": claim_xml.name_of("UUID"),
            },
        )
        super().init_host(host)

    def _check_mdev_options(self) -> None:
        """Read what a migration depends on, before it begins."""
        self.mdev_options.check()

    def _mdev_downtime_factor(self) -> float:
        """Return how many times longer than others the guest may stop."""
        return self.mdev_options.now.downtime_factor

    def _mdev_max_downtime_ms(self) -> int | None:
        """Return how long a guest with mdevs may stop at most."""
        now = self.mdev_options.now
        return now.max_downtime_ms or now.others_downtime_ms
