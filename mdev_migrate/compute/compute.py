# SPDX-License-Identifier: Apache-2.0
"""A compute service's part: what the hooks of the driver mixin do.

Works on a LibvirtDriver through the few methods and attributes named here,
which are the same from Nova 25 to 34; Nova itself is never imported.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from mdev_migrate import exception, model
from mdev_migrate.compute import objects
from mdev_migrate.compute.claim_ends import ClaimEnds
from mdev_migrate.compute.driver_host import DriverHost
from mdev_migrate.compute.flavors import Flavors
from mdev_migrate.compute.metrics_file import MetricsFile
from mdev_migrate.compute.migration_log import MigrationLog
from mdev_migrate.compute.promises import Promises
from mdev_migrate.compute.providers import Providers
from mdev_migrate.compute.target_claims import TargetClaims
from mdev_migrate.core import claim_xml, guest_xml, precheck, transport
from mdev_migrate.core.phases import Step
from mdev_migrate.limits import Limits


class Nova(Protocol):
    """What Nova must provide besides the driver."""

    def refusal(self, text: str) -> Exception:
        """Return the error that makes the conductor try another host."""
        ...

    def is_refusal(self, error: Exception) -> bool:
        """Tell whether the conductor takes an error for a refusal."""
        ...

    def vgpu_lock(self) -> contextlib.AbstractContextManager[Any]:
        """Return the lock under which Nova chooses mdevs."""
        ...

    def claim_form(self) -> claim_xml.Form:
        """Return what the guests of this host are like."""
        ...

    def is_over(self, migration_uuid: str, host: str) -> bool:
        """Tell whether a migration is over, or goes to another host."""
        ...


class MdevCompute:
    """The mdevs of the live migrations that leave or reach a compute node.

    :param driver: the LibvirtDriver.
    :param nova: what else Nova provides.
    :param metrics_path: returns where metrics are written; empty for nowhere.
    :ivar limits: how long is waited for what.
    :ivar metrics: of migrations from here.
    :ivar targets: claims the mdevs that guests come to.
    :ivar ends: ends those claims.
    """

    def __init__(
        self,
        driver: Any,
        nova: Nova,
        limits: Limits | None = None,
        metrics_path: Callable[[], str] = str,
    ) -> None:
        self._nova = nova
        self.limits = limits = limits or Limits()
        self.host = DriverHost(driver)
        self.metrics = MetricsFile(self.host, metrics_path)
        self.flavors = Flavors(driver)
        self.promises = Promises(self.host, nova.claim_form)
        self.ends = ClaimEnds(
            self.host,
            self.promises,
            limits,
            lambda migration: nova.is_over(migration, self.host.name),
        )
        self.targets = TargetClaims(
            self.ends, self.flavors, Providers(driver), nova.vgpu_lock
        )

    def finish(self, instance: Any) -> None:
        """End the claim of a guest that has come."""
        uuid = objects.instance_uuid(instance)
        claims = self.promises.of(uuid)
        self.ends.finish(uuid)
        if claims:
            kinds = [mdev.mdev_type for each in claims for mdev in each.mdevs]
            self.metrics.arrived(instance, kinds)

    @contextlib.contextmanager
    def refusals(
        self,
        instance: Any,
        migration_uuid: str | None = None,
        *,
        step: Step | None = None,
    ) -> Iterator[None]:
        """Make whatever goes wrong in an instance's pre-check a refusal.

        Anything else would put a guest that runs well into ERROR.

        :param step: which step's time it takes; None for none.
        """
        began = time.monotonic()
        told = MigrationLog(objects.instance_uuid(instance), migration_uuid)
        try:
            yield
        except exception.MdevMigrateError as error:
            reason = f"{error} ({error.code}: {error.hint})"
            told.refused(reason)
            raise self._refusal(instance, reason) from error
        except Exception as error:
            if self._nova.is_refusal(error):
                raise
            told.not_checked(error)
            raise self._refusal(
                instance, f"host {self.host.name} could not check it: {error}"
            ) from error
        if step is not None:
            self.metrics.took(instance, step, time.monotonic() - began)

    def _refusal(self, instance: Any, reason: str) -> Exception:
        uuid = objects.instance_uuid(instance)
        return self._nova.refusal(f"Unable to migrate {uuid}: {reason}")

    # Pre-checks -------------------------------------------------------

    def check_destination(self, instance: Any) -> None:
        """Refuse a guest with mdevs if this host cannot receive it.

        :raises PreCheckError: if it runs something too old.
        """
        self._check_versions("destination", instance)

    def _check_versions(self, side: precheck.Side, instance: Any) -> None:
        checks = precheck.check_versions(side, self.host.facts())
        precheck.refuse(checks)
        told = MigrationLog(str(instance.uuid))
        for check in checks:
            if check.error is not None:
                told.not_known(
                    f"{check.detail} ({check.error.code}: {check.error.hint})"
                )

    def source_mdev_types(
        self, instance: Any, migrate_data: Any
    ) -> dict[str, str]:
        """Return the type of each mdev of a guest that wants to leave.

        :returns: nothing if the guest has no mdevs; then nothing else was
            looked at.
        :raises PreCheckError: if this host, the destination or the guest
            cannot take part.
        """
        domain_xml = ""
        guest_mdevs: tuple[model.GuestMdev, ...] = ()
        by_options: frozenset[str] = frozenset()
        with self.flavors.looking(instance):
            domain_xml = self.host.domain_xml(instance)
            guest_mdevs = guest_xml.read_mdevs(domain_xml)
            by_options = guest_xml.mdevs_by_options(domain_xml)
        precheck.check_replaceable(objects.instance_uuid(instance), by_options)
        if not guest_mdevs:
            return {}
        if self.flavors.wants_accelerators(instance):
            raise exception.MdevsNotOurs(str(instance.uuid), "Cyborg")
        self._check_versions("source", instance)
        transport.check_secrecy(self.host.migration_flags(), self.host.name)
        self._check_destination_answer(migrate_data)
        guest = self.host.guest(instance, guest_mdevs)
        viommu = guest_xml.read_viommu(domain_xml)
        blockers = viommu and self.host.ask_blockers(instance)
        precheck.check_viommu(guest, viommu, blockers)
        own = self.host.mdevs([mdev.uuid for mdev in guest_mdevs])
        wanted = precheck.source_mdevs(
            guest,
            guest_mdevs,
            model.Inventory(self.host.name, (), mdevs=own, guests=()),
        )
        return {want.source_uuid: want.mdev_type for want in wanted}

    @staticmethod
    def _check_destination_answer(migrate_data: Any) -> None:
        needed = f"{objects.MDEV_VERSION} with its mdev fields"
        found = str(migrate_data.VERSION)
        if objects.is_older(found, objects.MDEV_VERSION):
            raise exception.PeerTooOld(
                "the destination", f"version {found}", needed
            )
        if not objects.destination_supports(migrate_data):
            raise exception.PeerUnsupporting(
                str(precheck.MIN_LIBVIRT), str(precheck.MIN_QEMU)
            )
