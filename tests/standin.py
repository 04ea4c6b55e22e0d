# SPDX-License-Identifier: Apache-2.0
"""A LibvirtDriver of our own beneath the mixin, on a simulated host.

It has the methods of Nova's driver that the mixin extends or calls, with
Nova's signatures; each writes down how it was called. :class:`Cloud` is two
computes and what a conductor would know of them.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
import uuid as uuids
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import libvirt
from lxml import etree
from oslo_versionedobjects import base, fields

from mdev_migrate import libvirt_host, limits, model, testing
from mdev_migrate.compute import objects
from mdev_migrate.compute.boots import BOOTS, while_booting
from mdev_migrate.compute.compute import MdevCompute
from mdev_migrate.compute.driver import MdevLiveMigrationMixin
from mdev_migrate.core import claim_xml
from tests import builders, migrate_data

#: Short, so that no test waits; long enough for a few tries.
LIMITS = limits.Limits(listed_s=0.2, busy_s=0.1, poll_s=0.001)
PARENT, OTHER_PARENT = "pci_0000_06_00_0", "pci_0000_07_00_0"
TYPE, OTHER_TYPE = "nvidia-11", "nvidia-12"
#: UUIDs of resource providers, by parent.
PROVIDERS = {PARENT: builders.uuid(0xE1), OTHER_PARENT: builders.uuid(0xE2)}
ROOT = builders.uuid(0xE0)


class Refused(Exception):
    """What Nova calls MigrationPreCheckError."""


class StockError(Exception):
    """What the stock driver raises when it cannot go on."""


@base.VersionedObjectRegistry.register_if(False)
class MigrateData(migrate_data.LibvirtLiveMigrateData):
    """Our fields, and those of Nova's that the mixin looks at."""

    fields: ClassVar[dict[str, Any]] = {
        **objects.MDEV_FIELDS,
        "is_shared_instance_path": fields.BooleanField(),
        "migration": fields.Field(fields.FieldType()),
    }


def instance(number: int = 2, **extra_specs: str) -> Any:
    """Return an instance; its flavor asks for one vGPU unless told."""
    return SimpleNamespace(
        uuid=builders.instance(number),
        flavor=SimpleNamespace(
            extra_specs=extra_specs or {"resources:VGPU": "1"}
        ),
    )


def plain_instance(number: int = 2) -> Any:
    """Return an instance whose flavor asks for no mdevs."""
    return instance(number, hidden="1")


def allocations(
    parent: str = PARENT, count: int = 1, name: str = "VGPU"
) -> dict[str, Any]:
    """Return what Placement allocated from a parent's provider."""
    return {
        ROOT: {"resources": {"VCPU": 1}},
        PROVIDERS[parent]: {"resources": {name: count}},
    }


class Guest:
    """What Nova wraps a libvirt domain in."""

    def __init__(self, domain: testing.SimulatedDomain) -> None:
        self._domain = domain
        self.calls: list[tuple[str, dict[str, Any]]] = []

    @property
    def uuid(self) -> str:
        """The instance's UUID."""
        return self._domain.UUIDString()

    def get_xml_desc(
        self,
        dump_inactive: bool = False,
        dump_sensitive: bool = False,
        dump_migratable: bool = False,
    ) -> str:
        """Return the document, as it may be sent if asked so."""
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE if dump_inactive else 0
        if dump_migratable:
            flags |= libvirt.VIR_DOMAIN_XML_MIGRATABLE
        return self._domain.XMLDesc(flags)

    def migrate(
        self,
        destination: str,
        migrate_uri: str | None = None,
        migrate_disks: Any = None,
        destination_xml: str | None = None,
        flags: int = 0,
        bandwidth: int = 0,
        **newer: Any,
    ) -> None:
        """Migrate, handing over one document as Nova does."""
        self.calls.append(("migrate", {**locals(), **newer}))
        params = {
            "destination_xml": destination_xml,
            "persistent_xml": destination_xml,
        }
        self._domain.migrateToURI3(destination, params, flags)

    def get_power_state(self, host: Any) -> int:
        """Return Nova's number of the state, which is libvirt's."""
        return self._domain.state()[0]

    def has_persistent_configuration(self) -> int:
        """Tell whether the guest is defined."""
        return self._domain.isPersistent()

    def get_job_info(self) -> Any:
        """Return some of what libvirt tells, as Nova does."""
        return SimpleNamespace(type=self._domain.jobStats()["type"])

    def migrate_configure_max_downtime(self, mstime: int) -> None:
        """Limit the downtime."""
        self.calls.append(("downtime", {"mstime": mstime}))

    def pause(self) -> None:
        """Pause the guest."""
        self.calls.append(("pause", {}))

    def migrate_start_postcopy(self) -> None:
        """Switch to post-copy."""
        self.calls.append(("postcopy", {}))

    def abort_job(self) -> None:
        """Abort the migration."""
        self.calls.append(("abort", {}))


class Host:
    """What Nova wraps a libvirt connection in."""

    def __init__(self, simulated: testing.SimulatedHost) -> None:
        self._connection = simulated.open()
        self._simulated = simulated

    def get_connection(self) -> testing.SimulatedConnection:
        """Return the connection, opened anew if it broke."""
        if not self._connection.isAlive():
            self._connection = self._simulated.open()
        return self._connection

    def get_hostname(self) -> str:
        """Return the hypervisor's name."""
        return self.get_connection().getHostname()

    def get_capabilities(self) -> Any:
        """Return what the mixin reads of the capabilities."""
        return SimpleNamespace(
            host=SimpleNamespace(uuid=self._simulated.host_uuid)
        )

    def get_guest(self, which: Any) -> Guest:
        """Return an instance's guest."""
        try:
            domain = self.get_connection().lookupByUUIDString(which.uuid)
        except libvirt.libvirtError as error:
            raise StockError(f"no guest {which.uuid}") from error
        return Guest(domain)

    def list_instance_domains(
        self, only_running: bool = True
    ) -> list[testing.SimulatedDomain]:
        """Return the domains."""
        active = libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
        return self.get_connection().listAllDomains(
            active if only_running else 0
        )

    def list_guests(self, only_running: bool = True) -> list[Guest]:
        """Return the guests."""
        domains = self.list_instance_domains(only_running=only_running)
        return [Guest(domain) for domain in domains]

    def list_mediated_devices(self, flags: int = 0) -> list[str]:
        """Return the names of the active mdevs."""
        listed = self.get_connection().listAllDevices(
            libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV
            | libvirt.VIR_CONNECT_LIST_NODE_DEVICES_ACTIVE
        )
        return [device.name() for device in listed]

    def list_mdev_capable_devices(self, flags: int = 0) -> list[str]:
        """Return the names of the parents."""
        listed = self.get_connection().listAllDevices(
            libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV_TYPES
        )
        return [device.name() for device in listed]

    def device_lookup_by_name(self, name: str) -> testing.SimulatedNodeDevice:
        """Return a node device."""
        return self.get_connection().nodeDeviceLookupByName(name)


class ProviderTree:
    """The host's resource providers: a root, and one for each parent."""

    def __init__(self, name: str) -> None:
        self.roots = [SimpleNamespace(name=name)]
        self._names = {
            uuid: f"{name}_{parent}" for parent, uuid in PROVIDERS.items()
        }

    def data(self, uuid: str) -> Any:
        """Return a provider."""
        if uuid not in self._names:
            raise ValueError(uuid)
        return SimpleNamespace(name=self._names[uuid], parent_uuid=ROOT)


class OnceLock:
    """A lock that is not to be taken twice; a thread that does fails."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=5):
            raise AssertionError("the lock is held already")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def noted(method: Callable[..., Any]) -> Callable[..., Any]:
    """Write down each call of a stock method, with all its arguments."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        given = {k: v for k, v in bound.arguments.items() if k != "self"}
        self.calls.append((method.__name__, given))
        if method.__name__ in self.failing:
            raise StockError(f"{method.__name__} failed")
        return method(self, *args, **kwargs)

    return call


def synchronized(method: Callable[..., Any]) -> Callable[..., Any]:
    """Hold the driver's lock during a call."""

    @functools.wraps(method)
    def locked(self: Any, *args: Any) -> Any:
        with self.vgpu_lock:
            return method(self, *args)

    return locked


class StockDriver:
    """The parts of a LibvirtDriver of Nova 25 to 28 that matter here.

    :ivar calls: name and arguments of each stock method that was called.
    :ivar failing: names of methods that raise.
    :ivar types: the mdev type that each parent is set up for.
    :ivar during_monitor: is called when a migration is watched.
    :ivar during_boot: is called between a boot's allocation and its guest.
    """

    persistent_mdevs = False

    def __init__(self, virtapi: Any, read_only: bool = False) -> None:
        self.virtapi = virtapi
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.failing: set[str] = set()
        self.simulated = virtapi.simulated
        self._host = Host(self.simulated)
        self.provider_tree = ProviderTree(self.simulated.name)
        self.types = {PARENT: TYPE, OTHER_PARENT: TYPE}
        self.mdev_classes = {"VGPU", "CUSTOM_NIC"}
        self.vgpu_lock = OnceLock()
        self.during_boot: Callable[[], None] = lambda: None
        self.during_monitor: Callable[[], None] = lambda: None
        self.cleaned: list[tuple[bool, bool]] = []

    @property
    def _live_migration_flags(self) -> int:
        """How guests are migrated from here."""
        return int(self.virtapi.flags)

    @property
    def supported_vgpu_types(self) -> list[str]:
        """The types that are enabled."""
        return sorted(set(self.types.values()))

    # Hooks.

    @noted
    def init_host(self, host):
        """Create anew, as Nova up to 31 does, assigned mdevs that are gone."""
        known = {each["uuid"] for each in self._get_mediated_devices()}
        gone = self._get_all_assigned_mediated_devices().keys() - known
        if gone:
            raise StockError(f"assigned, but not there: {gone}")

    @noted
    def get_available_resource(self, nodename):
        """Return the host's resources."""
        return {"name": nodename}

    @noted
    def check_can_live_migrate_destination(
        self,
        context,
        instance,
        src_compute_info,
        dst_compute_info,
        block_migration=False,
        disk_over_commit=False,
    ):
        """Begin the migrate data."""
        return MigrateData(is_shared_instance_path=False)

    @noted
    def check_can_live_migrate_source(
        self, context, instance, dest_check_data, block_device_info=None
    ):
        """Go on with the migrate data."""
        return dest_check_data

    @noted
    def pre_live_migration(
        self,
        context,
        instance,
        block_device_info,
        network_info,
        disk_info,
        migrate_data,
    ):
        """Prepare the destination."""
        return migrate_data

    @noted
    def _live_migration_operation(
        self,
        context,
        instance,
        dest,
        block_migration,
        migrate_data,
        guest,
        device_names,
    ):
        guest.migrate(
            dest,
            destination_xml=guest.get_xml_desc(dump_migratable=True),
            flags=self.virtapi.flags,
        )

    @noted
    def _live_migration_monitor(
        self,
        context,
        instance,
        guest,
        dest,
        post_method,
        recover_method,
        block_migration,
        migrate_data,
        finish_event,
        disk_paths,
    ):
        self.during_monitor()
        guest.migrate_configure_max_downtime(50)
        guest.pause()
        guest.migrate_start_postcopy()
        guest.abort_job()

    @noted
    def live_migration_abort(self, instance):
        """Abort the job of a guest."""
        self._host.get_guest(instance).abort_job()

    @noted
    def live_migration_force_complete(self, instance):
        """Ask the monitor to force the end."""

    @noted
    def post_live_migration_at_destination(
        self,
        context,
        instance,
        network_info,
        block_migration=False,
        block_device_info=None,
    ):
        """Finish the guest's arrival."""

    @noted
    def rollback_live_migration_at_destination(
        self,
        context,
        instance,
        network_info,
        block_device_info,
        destroy_disks=True,
        migrate_data=None,
    ):
        """Destroy what came of the guest."""

    @noted
    def cleanup_lingering_instance_resources(self, instance):
        """Clean up after a deleted instance."""

    @noted
    def cleanup(
        self,
        context,
        instance,
        network_info,
        block_device_info=None,
        destroy_disks=True,
        migrate_data=None,
        destroy_vifs=True,
        destroy_secrets=True,
    ):
        """Clean up, with a folder that is always to be deleted."""
        self._cleanup(
            context,
            instance,
            network_info,
            cleanup_instance_dir=True,
            cleanup_instance_disks=destroy_disks,
        )

    def _cleanup(
        self,
        context,
        instance,
        network_info,
        block_device_info=None,
        destroy_vifs=True,
        cleanup_instance_dir=False,
        cleanup_instance_disks=False,
        destroy_secrets=True,
    ):
        self.cleaned.append((cleanup_instance_dir, cleanup_instance_disks))

    # Boots.

    @noted
    def spawn(
        self,
        context,
        instance,
        image_meta,
        injected_files,
        admin_password,
        allocations,
    ):
        """Start a guest on the mdevs that it is allocated."""
        mdevs = self._allocate_mdevs(allocations) or []
        self.during_boot()
        self.simulated.add_guest(instance.uuid, instance.uuid, mdevs)
        return mdevs

    @noted
    def finish_migration(self, context, migration, instance, allocations):
        """Start a guest that was resized."""
        self._allocate_mdevs(allocations)
        self.during_boot()

    @noted
    def _hard_reboot(self, context, instance, allocations=None):
        """Make the guest anew; return the mdevs that it is rebuilt with."""
        mdevs = self._get_all_assigned_mediated_devices(instance)
        for domain in self._host.get_connection().listAllDomains():
            if domain.UUIDString() == instance.uuid:
                defined = domain.isPersistent()
                if domain.isActive():
                    domain.destroy()
                if defined:
                    domain.undefine()
        self.during_boot()
        self.simulated.add_guest(instance.uuid, instance.uuid, list(mdevs))
        return mdevs

    # mdevs.

    def _get_all_assigned_mediated_devices(self, instance=None):
        guests = self._host.list_guests(only_running=False)
        if instance is not None:
            guests = [each for each in guests if each.uuid == instance.uuid]
        return {
            address.get("uuid"): guest.uuid
            for guest in guests
            for address in etree.fromstring(guest.get_xml_desc()).iterfind(
                "devices/hostdev[@type='mdev']/source/address"
            )
        }

    def _get_mediated_devices(self, types=None):
        found = []
        for name in self._host.list_mediated_devices():
            device = self._host.device_lookup_by_name(name)
            document = etree.fromstring(device.XMLDesc())
            found.append(
                {
                    "dev_id": device.name(),
                    "uuid": document.findtext("capability/uuid"),
                    "type": document.find("capability/type").get("id"),
                    "parent": document.findtext("parent"),
                    "iommu_group": 1,
                }
            )
        return [each for each in found if not types or each["type"] in types]

    def _get_vgpu_type_per_pgpu(self, device_address):
        return self.types.get(device_address)

    def _vgpu_allocations(self, allocations):
        found = {}
        for provider, allocated in (allocations or {}).items():
            resources = {
                name: count
                for name, count in allocated["resources"].items()
                if name in self.mdev_classes
            }
            if resources:
                found[provider] = {"resources": resources}
        return found

    @synchronized
    def _allocate_mdevs(self, allocations):
        asked = self._vgpu_allocations(allocations)
        if not asked:
            return None
        provider, allocated = next(iter(asked.items()))
        parent = self.provider_tree.data(provider).name.split("_", 1)[1]
        available = self._get_existing_mdevs_not_assigned(parent)
        chosen = []
        for _ in range(next(iter(allocated["resources"].values()))):
            one = (
                available.pop(0)
                if available
                else self._create_new_mediated_device(parent)
            )
            if one is None:
                raise StockError("mdev-capable resource is not available")
            chosen.append(one)
        return chosen

    def _get_existing_mdevs_not_assigned(self, parent, requested_types=None):
        assigned = self._get_all_assigned_mediated_devices()
        return [
            each["uuid"]
            for each in self._get_mediated_devices(requested_types)
            if each["parent"] == parent
            and each["type"] == self.types[parent]
            and each["uuid"] not in assigned
        ]

    def _create_new_mediated_device(self, parent, uuid=None):
        if parent not in self._host.list_mdev_capable_devices():
            return None
        connection = self._host.get_connection()
        mdev_type = self.types[parent]
        device = connection.nodeDeviceLookupByName(parent)
        offered = etree.fromstring(device.XMLDesc()).find(
            f".//type[@id='{mdev_type}']"
        )
        if offered.findtext("availableInstances") == "0":
            return None
        uuid = uuid or str(uuids.uuid4())
        request = testing.mdev_request(parent, mdev_type, uuid)
        connection.nodeDeviceCreateXML(request)
        if self.persistent_mdevs:
            connection.nodeDeviceDefineXML(request)
        return uuid


class NewerStockDriver(StockDriver):
    """What Nova 29 added, and 30's persistent mdevs."""

    persistent_mdevs = True

    def __init__(self, virtapi: Any, read_only: bool = False) -> None:
        super().__init__(virtapi, read_only)
        self.instance_claimed_mdevs: Any = {}

    @noted
    def check_source_migrate_data_at_dest(
        self, ctxt, instance, migrate_data, migration, limits, allocs
    ):
        """Claim, if there is something to be claimed."""
        if "source_mdev_types" in migrate_data:
            raise AssertionError("claimed a second time")
        return migrate_data

    def _get_all_assigned_mediated_devices(self, instance=None):
        claimed = {
            mdev: holder
            for holder, mdevs in self.instance_claimed_mdevs.items()
            for mdev in mdevs
            if instance is None or holder == instance.uuid
        }
        return claimed | super()._get_all_assigned_mediated_devices(instance)


class _Made(MdevLiveMigrationMixin):
    """What the composed class provides."""

    def _make_mdev_compute(self) -> MdevCompute:
        """Return the mixin's work, with what the test provides."""
        return MdevCompute(
            self,
            self.virtapi.services(self),
            LIMITS,
            lambda: str(self.virtapi.metrics_file),
        )

    def _mdev_downtime_factor(self) -> float:
        """Return what the test says."""
        return float(self.virtapi.downtime_factor)

    def _mdev_max_downtime_ms(self) -> int:
        """Return what follows from it."""
        return int(500 * self.virtapi.downtime_factor)


class MixedDriver(_Made, StockDriver):
    """The mixin on Nova 25 to 28."""


class NewerMixedDriver(_Made, NewerStockDriver):
    """The mixin on Nova 29 to 34."""


#: The mixin on all releases.
MIXED = (MixedDriver, NewerMixedDriver)

for _class in MIXED:
    for _name in BOOTS:
        setattr(_class, _name, while_booting(_class.__bases__[1], _name))


class Services:
    """What Nova provides besides the driver."""

    def __init__(self, cloud: Cloud, driver: StockDriver) -> None:
        self._cloud = cloud
        self._driver = driver

    def refusal(self, text: str) -> Exception:
        """Return a refusal."""
        return Refused(text)

    def is_refusal(self, error: Exception) -> bool:
        """Tell whether an error is one."""
        return isinstance(error, Refused)

    def vgpu_lock(self) -> contextlib.AbstractContextManager[Any]:
        """Return the driver's lock."""
        return self._driver.vgpu_lock

    def claim_form(self) -> claim_xml.Form:
        """Return what guests are like."""
        return claim_xml.Form()

    def is_over(self, migration_uuid: str, host: str) -> bool:
        """Tell what the conductor knows."""
        if self._cloud.conductor_down:
            raise StockError("no answer from the conductor")
        status, destination = self._cloud.migrations[migration_uuid]
        return status == "over" or destination not in (None, host)


class Cloud:
    """Two computes, and the migrations that a conductor knows.

    :ivar migrations: status and destination, by UUID.
    """

    def __init__(self, driver_class: type) -> None:
        self.here, self.there = testing.two_hosts(
            [self.card(PARENT), self.card(OTHER_PARENT)],
            [self.card(PARENT), self.card(OTHER_PARENT)],
        )
        self.driver_class = driver_class
        self.migrations: dict[str, tuple[str, str | None]] = {}
        self.conductor_down = False
        self.source = self.start(self.here)
        self.destination = self.start(self.there)

    @staticmethod
    def card(name: str) -> testing.NvidiaParent:
        """Return a parent with room for two mdevs."""
        return testing.NvidiaParent(name, {TYPE: 2, OTHER_TYPE: 2})

    def start(self, host: testing.SimulatedHost) -> Any:
        """Start a host's compute service, anew if it was started before."""
        virtapi = SimpleNamespace(
            simulated=host,
            services=functools.partial(Services, self),
            downtime_factor=20,
            metrics_file="",
            flags=libvirt.VIR_MIGRATE_PEER2PEER,
            _compute=SimpleNamespace(host=host.name),
        )
        return self.driver_class(virtapi)

    def migration(self, number: int = 1) -> Any:
        """Return a migration whose destination is being chosen."""
        uuid = builders.uuid(0x1000 + number)
        self.migrations.setdefault(uuid, ("accepted", None))
        return SimpleNamespace(
            uuid=uuid, source_compute="host-a", dest_compute=None
        )

    def check(
        self,
        which: Any,
        allocated: Any = None,
        migration: Any = None,
        types: dict[str, str] | None = None,
    ) -> MigrateData:
        """Make all three checks as Nova does.

        :param types: what the source says, in place of asking it.
        """
        data = self.destination.check_can_live_migrate_destination(
            None, which, None, None
        )
        if types is None:
            data = self.source.check_can_live_migrate_source(None, which, data)
        else:
            data.source_mdev_types = types
        return self.destination.check_source_migrate_data_at_dest(
            None,
            which,
            data,
            migration or self.migration(),
            None,
            allocations() if allocated is None else allocated,
        )

    def prepare(self, which: Any, data: Any) -> Any:
        """Prepare the destination."""
        return self.destination.pre_live_migration(
            None, which, None, None, None, data
        )

    def migrate(self, which: Any, data: Any) -> Guest:
        """Migrate the guest; return it as the source knew it."""
        guest = self.source._host.get_guest(which)
        self.source._live_migration_operation(
            None, which, self.there.uris[0], False, data, guest, []
        )
        return guest

    def roll_back(self, which: Any, data: Any) -> None:
        """Roll the destination back."""
        self.destination.rollback_live_migration_at_destination(
            None, which, None, None, migrate_data=data
        )

    def arrive(self, which: Any) -> None:
        """Finish at the destination."""
        self.destination.post_live_migration_at_destination(None, which, None)

    def claimed(self) -> dict[str, list[str]]:
        """Return what is claimed on the destination, as its service knows."""
        return dict(self.destination.instance_claimed_mdevs)

    def claims(self) -> model.Claims:
        """Return what is claimed on the destination, as libvirt knows."""
        host = libvirt_host.LibvirtHost(
            self.there.uris[0], opener=self.there.group.open
        )
        return host.claims.read()

    def remove_claims(self) -> None:
        """Remove the claims by hand."""
        for domain in self.there.open().listAllDomains():
            if claim_xml.is_named_so(domain.name()):
                domain.undefine()

    def damage_claims(self) -> None:
        """Take out of the claims whose they are."""
        for domain in self.there.open().listAllDomains():
            if claim_xml.is_named_so(domain.name()):
                domain.setMetadata(
                    libvirt.VIR_DOMAIN_METADATA_ELEMENT,
                    None,
                    claim_xml.KEY,
                    claim_xml.NAMESPACE,
                    libvirt.VIR_DOMAIN_AFFECT_CONFIG,
                )

    def over(self, number: int = 1, destination: str | None = None) -> None:
        """Let a migration be over, or go to another destination."""
        status = "running" if destination else "over"
        uuid = self.migration(number).uuid
        self.migrations[uuid] = (status, destination)


@contextlib.contextmanager
def busy(cloud: Cloud) -> Iterator[None]:
    """Let a process that libvirt does not know have the target mdevs open."""
    error = testing.libvirt_error(
        libvirt.VIR_ERR_INTERNAL_ERROR, "Device or resource busy"
    )
    for number in range(1, 500):
        cloud.there.faults.on("destroy", testing.fail(error), nth=number)
    try:
        yield
    finally:
        cloud.there.faults.clear()


def in_thread(act: Callable[[], Any]) -> threading.Thread:
    """Do something in a thread of its own, which is returned, started."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread
