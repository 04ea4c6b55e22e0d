# SPDX-License-Identifier: Apache-2.0
"""Two computes with mdevs in one process, on the fixtures of Nova 25 to 34.

Placement, the scheduler, the conductor and the serialisation of objects are
real; libvirt is Nova's fake one with the mdevs of :mod:`fake_host`, and a
live migration that does to the domains what libvirt would do. Casts are
calls in these tests: a refused live migration is an API error, an accepted
one runs on in Nova's own executor.

With MDEV_MIGRATE_STOCK=1 in the environment the tests run on stock Nova.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
import typing as ty
import urllib.parse
from collections.abc import Callable, Iterator
from importlib import metadata

import fixtures
import nova.conf
import nova.privsep.libvirt
from nova import context as nova_context
from nova import objects
from nova.scheduler.client import report
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional.api import client
from nova.tests.functional.libvirt import base as nova_base
from nova.virt.libvirt import driver as libvirt_driver
from oslo_config import cfg

from tests.nova import fake_host
from tests.nova.fake_host import PARENTS, TYPE_A, TYPE_B

STOCK = os.environ.get("MDEV_MIGRATE_STOCK") == "1"
if not STOCK:
    from mdev_migrate import nova as mdev_nova
    from tests.upstream import fake_claims

    mdev_nova.install()
    fake_claims.extend()

#: The release of Nova, as 29.
RELEASE = int(metadata.version("nova").split(".")[0])
CONF = cfg.CONF
IMAGE = "155d900f-4e14-4e4c-a73d-069cbf4541e6"
#: libvirt 8.6.0 and QEMU 8.1.0, the first that migrate mdevs.
NEW_ENOUGH = {"libvirt_version": 8_006_000, "qemu_version": 8_001_000}
#: Statuses that a migration does not leave any more.
FINISHED = ("completed", "failed", "cancelled", "error")

ApiError = client.OpenStackApiException


@dataclasses.dataclass
class Migration:
    """One call of virDomainMigrateToURI3, and what the test makes of it.

    :ivar started: set once libvirt was called.
    :ivar go_on: the fake migration waits for it.
    :ivar error: raised when it goes on; the migration succeeds without.
    :ivar aborted: set by virDomainAbortJob.
    :ivar downtimes: maximum downtimes that were set on the domain, in ms.
    :ivar busy: how many times libvirt cannot tell how far it is; then it goes
        on.
    :ivar unheard: raised, one by one, to who asks how far it is; it goes on
        and ends with the first.
    :ivar held: the source's half is paused then, as libvirt leaves it that
        did not hear whether the other one runs.
    """

    error: Exception | None = None
    started: threading.Event = dataclasses.field(
        default_factory=threading.Event
    )
    go_on: threading.Event = dataclasses.field(default_factory=threading.Event)
    aborted: bool = False
    uri: str = ""
    params: dict[str, ty.Any] = dataclasses.field(default_factory=dict)
    flags: int = 0
    downtimes: list[int] = dataclasses.field(default_factory=list)
    paused: bool = False
    busy: int = 0
    unheard: list[Exception] = dataclasses.field(default_factory=list)
    ended: threading.Event = dataclasses.field(default_factory=threading.Event)
    held: bool = False
    during: Callable[[], None] = lambda: None

    @property
    def target_mdevs(self) -> list[str]:
        """The mdevs in the XML for the destination."""
        return fake_host.xml_mdevs(self.params["destination_xml"])


class _Libvirt:
    """Live migration between the fake hosts, as libvirt does it."""

    def __init__(self, test: MdevComputesTestCase) -> None:
        self.test = test
        self.planned: dict[str, Migration] = {}
        self.calls: list[Migration] = []
        self.unheard: list[Exception] = []

    def plan(self, instance_uuid: str) -> Migration:
        """Return how the next migration of an instance will go."""
        if instance_uuid not in self.planned:
            migration = Migration()
            migration.go_on.set()
            self.planned[instance_uuid] = migration
        return self.planned[instance_uuid]

    def migrate(
        self, domain: ty.Any, uri: str, params: dict[str, ty.Any], flags: int
    ) -> None:
        migration = self.plan(domain.UUIDString())
        self.calls.append(migration)
        migration.uri, migration.flags = uri, flags
        migration.params = params
        host = self.test.hosts[urllib.parse.urlsplit(uri).hostname or ""]
        domain.job_type = fakelibvirt.VIR_DOMAIN_JOB_UNBOUNDED
        try:
            self._prepare(host, migration)
            migration.started.set()
            self._run(migration)
        except fakelibvirt.libvirtError:
            domain.job_type = fakelibvirt.VIR_DOMAIN_JOB_FAILED
            if migration.aborted:
                domain.job_type = fakelibvirt.VIR_DOMAIN_JOB_CANCELLED
            raise
        finally:
            self.planned.pop(domain.UUIDString(), None)
            migration.started.set()
            if migration.error is not None:
                migration.ended.set()
        host.connection.defineXML(params["destination_xml"])
        incoming = host.connection.lookupByUUIDString(domain.UUIDString())
        incoming.create()
        domain._connection._mark_not_running(domain)
        domain._connection._undefine(domain)
        domain._state = fakelibvirt.VIR_DOMAIN_SHUTOFF
        domain.job_type = fakelibvirt.VIR_DOMAIN_JOB_COMPLETED
        migration.ended.set()

    def _prepare(
        self, host: fake_host.FakeMdevHost, migration: Migration
    ) -> None:
        """Fail as the destination's libvirt does before the transfer."""
        for mdev_uuid in migration.target_mdevs:
            if mdev_uuid not in host.mdevs:
                raise fake_host.libvirt_error(
                    f"device not found: mediated device '{mdev_uuid}' "
                    "not found"
                )
            user = host.user_of(mdev_uuid)
            if user is not None:
                raise fake_host.libvirt_error(
                    f"mediated device {mdev_uuid} is in use by driver "
                    f"QEMU, domain {user}"
                )

    def _run(self, migration: Migration) -> None:
        migration.during()
        for _ in range(600):
            if migration.go_on.is_set() or migration.aborted:
                break
            time.sleep(0.05)
        if migration.aborted:
            raise fake_host.libvirt_error(
                "operation aborted: migration out job: canceled by client"
            )
        if migration.error is not None:
            raise migration.error

    def job_stats(self, domain: ty.Any) -> dict[str, int]:
        """Tell the job of a domain; an ended one is told only once."""
        planned = self.planned.get(domain.UUIDString())
        if planned is not None and planned.started.is_set() and planned.busy:
            planned.busy -= 1
            if not planned.busy:
                planned.go_on.set()
            raise fake_host.libvirt_error(
                "Timed out during operation: cannot acquire state change lock",
                fakelibvirt.VIR_ERR_OPERATION_TIMEOUT,
            )
        if planned is not None and planned.started.is_set():
            self.unheard, planned.unheard = planned.unheard, []
        if self.unheard:
            if planned is not None:
                domain.job_type = fakelibvirt.VIR_DOMAIN_JOB_NONE
                planned.go_on.set()
                planned.ended.wait(5)
                domain.job_type = fakelibvirt.VIR_DOMAIN_JOB_NONE
            raise self.unheard.pop(0)
        none = fakelibvirt.VIR_DOMAIN_JOB_NONE
        job_type = getattr(domain, "job_type", none)
        if job_type != fakelibvirt.VIR_DOMAIN_JOB_UNBOUNDED:
            domain.job_type = none
        return {"type": job_type}

    def state(self, domain: ty.Any) -> list[int]:
        """Tell the state of a domain, and why it is in that."""
        if any(call.held for call in self.calls):
            return [fakelibvirt.VIR_DOMAIN_PAUSED, 2]
        return [domain._state, 1]

    def abort(self, domain: ty.Any) -> None:
        if domain.UUIDString() in self.planned:
            self.planned[domain.UUIDString()].aborted = True

    def downtime(self, domain: ty.Any, downtime: int, *flags: int) -> None:
        if domain.UUIDString() in self.planned:
            self.planned[domain.UUIDString()].downtimes.append(downtime)

    def suspend(self, domain: ty.Any) -> None:
        if domain.UUIDString() in self.planned:
            self.planned[domain.UUIDString()].paused = True


class MdevComputesTestCase(nova_base.ServersTestBase):
    """A source and a destination, each with parents of two mdev types.

    The first parent of a host is configured for type A, the second for type
    B, and the third, if there is one, for type A again.
    """

    api_major_version = "v2.1"
    microversion = "latest"
    ADMIN_API = True

    #: How many parents every host has.
    parents = 2
    #: Room on every parent, by type.
    room: ty.ClassVar[dict[str, int]] = {TYPE_A: 4, TYPE_B: 4}
    #: The same on the destination, if it differs.
    destination_room: ty.ClassVar[dict[str, int] | None] = None
    #: Mdev type by parent.
    parent_types: ty.ClassVar[dict[str, str]] = {
        PARENTS[0]: TYPE_A,
        PARENTS[1]: TYPE_B,
        PARENTS[2]: TYPE_A,
    }
    source_versions: ty.ClassVar[dict[str, int]] = NEW_ENOUGH
    destination_versions: ty.ClassVar[dict[str, int]] = NEW_ENOUGH

    def setUp(self) -> None:
        super().setUp()
        self.context = nova_context.get_admin_context()
        self.hosts: dict[str, fake_host.FakeMdevHost] = {}
        self.libvirt_migrations = _Libvirt(self)
        self.allocations_error = False
        self._patch_libvirt()
        self._patch_mdev_creation()
        self._patch(
            "nova.virt.libvirt.LibvirtDriver._get_instance_disk_info",
            lambda *args, **kwargs: [],
        )
        self.configure_types(self.parent_types)
        self.start_host("source", self.source_versions)
        self.start_host("destination", self.destination_versions)

        self.addCleanup(self._let_migrations_end)

    def _let_migrations_end(self) -> None:
        """Wait for what a test left under way.

        The services are stopped next, and would wait for it without end.
        """
        for planned in self.libvirt_migrations.planned.values():
            planned.go_on.set()

        def ended() -> bool:
            found = objects.MigrationList.get_by_filters(
                self.context,
                {
                    "migration_type": "live-migration",
                    "status": ["queued", "preparing", "running"],
                },
            )
            return not found

        self.wait_for(ended, "the migrations to end before the services")
        time.sleep(0.5)

    # -- the hosts ---------------------------------------------------------

    @property
    def source(self) -> ty.Any:
        """The source's compute service."""
        return self.computes["source"]

    @property
    def destination(self) -> ty.Any:
        """The destination's compute service."""
        return self.computes["destination"]

    @property
    def target_host(self) -> fake_host.FakeMdevHost:
        """The mdevs of the destination."""
        return self.hosts["destination"]

    def configure_types(self, parent_types: dict[str, str]) -> None:
        """Configure Nova's mdev types; services take it when they start."""
        types = sorted(set(parent_types.values()))
        self.flags(enabled_mdev_types=types, group="devices")
        nova.conf.devices.register_dynamic_opts(CONF)
        for mdev_type in types:
            self.flags(
                device_addresses=[
                    fake_host.pci_address(parent)
                    for parent, kind in parent_types.items()
                    if kind == mdev_type
                ],
                group=f"mdev_{mdev_type}",
            )

    def start_host(self, name: str, versions: dict[str, int]) -> None:
        """Start a compute with parents, and give these their traits."""
        room = self.room
        if name == "destination" and self.destination_room is not None:
            room = self.destination_room
        host = fake_host.FakeMdevHost(
            name, {parent: dict(room) for parent in PARENTS[: self.parents]}
        )
        self.hosts[name] = host
        self.start_compute(
            hostname=name,
            pci_info=host.pci_info(),
            mdev_info=host.mdev_info(),
            **versions,
        )
        host.connection = self.computes[name].driver._host.get_connection()
        for parent in host.room:
            self.set_trait(name, parent, self.parent_types[parent])

    def set_trait(self, name: str, parent: str, *mdev_types: str) -> None:
        """Mark a parent's resource provider with its mdev types."""
        traits = [type_trait(mdev_type) for mdev_type in mdev_types]
        for trait in traits:
            self._create_trait(trait)
        provider = self._get_provider_uuid_by_name(f"{name}_{parent}")
        self._set_provider_traits(provider, traits)

    def restart(self, name: str) -> ty.Any:
        """Restart a compute; its guests and mdevs stay."""
        host = self.hosts[name]
        service = self.restart_compute_service(name)
        host.connection = service.driver._host.get_connection()
        return service

    def unshare_instance_path(self) -> None:
        """Let the two hosts have instance directories of their own."""
        elsewhere = self.useFixture(fixtures.TempDir()).path
        self._patch(
            "nova.virt.libvirt.LibvirtDriver._check_shared_storage_test_file",
            lambda *args: False,
        )
        self._patch(
            "nova.virt.libvirt.utils.get_instance_path_at_destination",
            lambda instance, migrate_data=None: os.path.join(
                elsewhere, instance.uuid
            ),
        )
        self._patch(
            "nova.virt.libvirt.LibvirtDriver._create_images_and_backing",
            lambda *args, **kwargs: None,
        )

    @contextlib.contextmanager
    def placement_unreachable(self) -> Iterator[None]:
        """Make the allocations of a consumer unreadable for computes."""
        self.allocations_error = True
        try:
            yield
        finally:
            self.allocations_error = False

    # -- servers -----------------------------------------------------------

    def mdev_flavor(
        self, mdevs: int = 1, mdev_type: str | None = TYPE_A
    ) -> ty.Any:
        """Create a flavor with some mdevs of one parent."""
        extra = {"resources:VGPU": str(mdevs)}
        if mdev_type is not None:
            extra[f"trait:{type_trait(mdev_type)}"] = "required"
        return self._create_flavor(extra_spec=extra)

    def parents_flavor(self, *mdev_types: str) -> ty.Any:
        """Create a flavor with a mdev of each type, on parents of its own."""
        extra = {"group_policy": "isolate"}
        for number, mdev_type in enumerate(mdev_types, 1):
            extra[f"resources{number}:VGPU"] = "1"
            extra[f"trait{number}:{type_trait(mdev_type)}"] = "required"
        return self._create_flavor(extra_spec=extra)

    def boot(
        self,
        flavor: ty.Any = None,
        host: str = "source",
        *,
        name: str | None = None,
        wait: bool = True,
    ) -> str:
        """Boot a server with mdevs and return its UUID.

        :param wait: whether to wait until it is active.
        """
        server = self._build_server(
            name=name,
            image_uuid=IMAGE,
            flavor_id=flavor or self.mdev_flavor(),
            networks="none",
            host=host,
        )
        server = self.api.post_server({"server": server})
        if wait:
            self._wait_for_state_change(server, "ACTIVE")
        return str(server["id"])

    def cold_migrate(
        self, instance_uuid: str, source: str, destination: str
    ) -> None:
        """Migrate a server that is shut down for it, and confirm that."""
        server = {"id": instance_uuid}
        # The disks do not exist. And the driver takes its host's name from
        # the configuration, which all hosts share here.
        with fixtures.MonkeyPatch("os.rename", lambda *args: None):
            self.api.post_server_action(
                instance_uuid, {"migrate": {"host": destination}}
            )
            self._wait_for_state_change(server, "VERIFY_RESIZE")
        configured = CONF.host
        self.flags(host=source)
        self.api.post_server_action(instance_uuid, {"confirmResize": None})
        self._wait_for_state_change(server, "ACTIVE")
        self.flags(host=configured)

    def hard_reboot(self, instance_uuid: str) -> None:
        """Hard reboot a server and wait until it is active."""
        self._reboot_server({"id": instance_uuid}, hard=True)

    def instance(self, instance_uuid: str) -> ty.Any:
        """Read an instance from the database."""
        return objects.Instance.get_by_uuid(self.context, instance_uuid)

    def guest_mdevs(self, host: str, instance_uuid: str) -> list[str]:
        """Return the mdevs in a domain: empty if the host lacks it."""
        return self.hosts[host].domain_mdevs().get(instance_uuid, [])

    def claimed(self, host: str = "destination") -> dict[str, list[str]]:
        """Return a host's claims: mdev UUIDs by instance UUID."""
        claims = self.computes[host].driver.instance_claimed_mdevs
        return {uuid: list(mdevs) for uuid, mdevs in claims.items() if mdevs}

    # -- live migration ----------------------------------------------------

    def plan(self, instance_uuid: str) -> Migration:
        """Return how the next migration of a server will go, to change it."""
        return self.libvirt_migrations.plan(instance_uuid)

    def hold(self, instance_uuid: str) -> Migration:
        """Let the next migration of a server wait for the test."""
        migration = self.plan(instance_uuid)
        migration.go_on.clear()
        self.addCleanup(migration.go_on.set)
        return migration

    def fail_migration(
        self, instance_uuid: str, message: str = "load of migration failed"
    ) -> Migration:
        """Let the next migration of a server fail as libvirt fails."""
        migration = self.plan(instance_uuid)
        migration.error = fake_host.libvirt_error(message)
        return migration

    def live_migrate(
        self, instance_uuid: str, host: str | None = None
    ) -> None:
        """Ask for a live migration; a refusal is an API error."""
        self.api.post_server_action(
            instance_uuid,
            {"os-migrateLive": {"host": host, "block_migration": "auto"}},
        )

    def refused(self, instance_uuid: str) -> ApiError:
        """Ask for a live migration that must be refused by every host."""
        return ty.cast(
            ApiError,
            self.assertRaises(ApiError, self.live_migrate, instance_uuid),
        )

    def migration(self, instance_uuid: str) -> ty.Any:
        """Return the newest live migration of a server."""
        found = objects.MigrationList.get_by_filters(
            self.context,
            {
                "instance_uuid": instance_uuid,
                "migration_type": "live-migration",
            },
        )
        return max(found, key=lambda migration: migration.id)

    def finish(self, instance_uuid: str) -> str:
        """Wait for the end of the newest migration; return its status."""

        def settled() -> bool:
            instance = self.instance(instance_uuid)
            return (
                self.migration(instance_uuid).status in FINISHED
                and instance.task_state is None
            )

        self.wait_for(settled, "the migration to end")
        # The status is not the last thing that the manager does.
        time.sleep(0.2)
        return str(self.migration(instance_uuid).status)

    def run_migration(self, instance_uuid: str) -> str:
        """Live-migrate a server and return the status it ends with."""
        self.live_migrate(instance_uuid)
        return self.finish(instance_uuid)

    def wait_for_status(self, instance_uuid: str, *statuses: str) -> None:
        """Wait until the newest migration has one of the statuses."""
        self.wait_for(
            lambda: self.migration(instance_uuid).status in statuses,
            f"a migration that is {' or '.join(statuses)}",
        )

    def abort(self, instance_uuid: str) -> None:
        """Abort the newest migration of a server."""
        number = self.migration(instance_uuid).id
        self.api.api_delete(f"/servers/{instance_uuid}/migrations/{number}")

    def wait_for(
        self, holds: Callable[[], object], what: str, timeout_s: float = 20
    ) -> None:
        """Wait until a condition holds; fail the test if it never does."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline:
                self.fail(f"waited {timeout_s} s for {what}")
            time.sleep(0.05)

    def assert_state(
        self, instance_uuid: str, vm_state: str, host: str
    ) -> None:
        """Assert where an instance is, in which state, with no task."""
        instance = self.instance(instance_uuid)
        self.assertEqual(
            (vm_state, None, host),
            (instance.vm_state, instance.task_state, instance.host),
        )

    # -- patches on Nova ---------------------------------------------------

    def _patch(self, name: str, replacement: ty.Any) -> None:
        self.useFixture(fixtures.MonkeyPatch(name, replacement))

    def _patch_libvirt(self) -> None:
        libvirt = self.libvirt_migrations
        domain = "nova.tests.fixtures.libvirt.Domain."
        original_suspend = fakelibvirt.Domain.suspend

        def suspend(dom: ty.Any) -> None:
            libvirt.suspend(dom)
            original_suspend(dom)

        # As libvirt has it: the fake one has a number of its own.
        self._patch("nova.tests.fixtures.libvirt.VIR_ERR_NO_DOMAIN", 42)
        self._patch(
            domain + "migrateToURI3",
            lambda dom, uri, params, flags=0: libvirt.migrate(
                dom, uri, params, flags
            ),
        )
        self._patch(
            domain + "jobStats",
            lambda dom, flags=0: libvirt.job_stats(dom),
        )
        self._patch(domain + "state", lambda dom, flags=0: libvirt.state(dom))
        self._patch(domain + "abortJob", lambda dom: libvirt.abort(dom))
        self._patch(
            domain + "migrateSetMaxDowntime",
            lambda dom, ms, *flags: libvirt.downtime(dom, ms, *flags),
        )
        self._patch(domain + "suspend", suspend)
        read = report.SchedulerReportClient.get_allocations_for_consumer

        def get_allocations(report_client: ty.Any, *args: ty.Any) -> ty.Any:
            if self.allocations_error:
                return None
            return read(report_client, *args)

        self._patch(
            "nova.scheduler.client.report.SchedulerReportClient."
            "get_allocations_for_consumer",
            get_allocations,
        )

    def _patch_mdev_creation(self) -> None:
        """Let the driver create mdevs on the fake host it drives."""
        driver = "nova.virt.libvirt.driver.LibvirtDriver."
        if hasattr(libvirt_driver.LibvirtDriver, "_create_mdev"):
            self._patch(
                driver + "_create_mdev",
                lambda driver, parent, mdev_type, uuid=None: self._host_of(
                    driver
                ).create(parent, mdev_type, uuid),
            )
            return
        # Before 30 a privileged function that knows no host creates them:
        # remember whose driver is at it, thread by thread.
        at_work = threading.local()
        create = libvirt_driver.LibvirtDriver._create_new_mediated_device

        def create_new(driver: ty.Any, *args: ty.Any, **kwargs: ty.Any) -> str:
            at_work.driver = driver
            return ty.cast(str, create(driver, *args, **kwargs))

        def create_in_sysfs(
            address: str, mdev_type: str, uuid: str | None = None
        ) -> str:
            parent = "pci_" + address.replace(":", "_").replace(".", "_")
            return self._host_of(at_work.driver).create(
                parent, mdev_type, uuid
            )

        self._patch(driver + "_create_new_mediated_device", create_new)
        self._patch("nova.privsep.libvirt.create_mdev", create_in_sysfs)

    def _host_of(self, driver: ty.Any) -> fake_host.FakeMdevHost:
        return self.hosts[driver._host.get_hostname()]


def type_trait(mdev_type: str) -> str:
    """Return the trait that marks a parent of a mdev type."""
    return "CUSTOM_" + mdev_type.upper().replace("-", "_")
