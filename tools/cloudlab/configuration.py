# SPDX-License-Identifier: Apache-2.0
"""The configuration files of all services."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labhost.layout import HostSpec

from cloudlab import reach
from cloudlab.layout import LOOPBACK, OUTSIDE, PASSWORD, REGION, USER

Sections = dict[str, dict[str, object]]

#: Emulated processors, and other work beside them, take their time.
RPC_LIMIT_S = 180
#: MiB a second of a live migration: lets tests meddle in the middle.
BANDWIDTH_MIB = 2
#: How long a service of Nova that was told to end may go on.
_SOON_OVER = {"manager_shutdown_timeout": 10, "graceful_shutdown_timeout": 20}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the services must know of each other.

    :ivar folder: gets the files.
    :ivar services: environment of keystone and the others.
    :ivar nova: environment of Nova.
    :ivar ports: by listener, on the loopback address.
    """

    folder: Path
    services: Path
    nova: Path
    ports: Mapping[str, int]

    @classmethod
    def prepare(cls, folder: Path, services: Path, nova: Path) -> "Settings":
        """Choose ports, and make the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, services, nova, reach.unused_ports())

    def url(self, service: str, *, outside: bool = False) -> str:
        """Return where a service answers.

        :param outside: for those in a host.
        """
        address = OUTSIDE if outside else LOOPBACK
        return f"http://{address}:{self.ports[service]}"

    def write(self, service: str) -> Path:
        """Write the files of a service and return the one to name."""
        sections, name, beside = {
            "keystone": (self._keystone, "keystone.conf", ()),
            "placement": (self._placement, "placement.conf", ()),
            "glance": (
                self._glance,
                "glance-api.conf",
                ("etc/glance/glance-api-paste.ini",),
            ),
            "neutron": (
                self._neutron,
                "neutron.conf",
                ("etc/neutron/api-paste.ini",),
            ),
            "nova": (self._nova, "nova.conf", ("etc/nova/api-paste.ini",)),
        }[service]
        environment = self.nova if service == "nova" else self.services
        folder = self.folder / "etc" / service
        folder.mkdir(parents=True, exist_ok=True)
        for path in beside:
            shutil.copy(environment / path, folder)
        (folder / name).write_text(text_of(sections()))
        return folder / name

    def compute(self, spec: HostSpec, more: Sections) -> str:
        """Return the text of nova-compute's file in a host."""
        client = self._client(outside=True)
        sections: Sections = {
            "DEFAULT": {
                "transport_url": self._transport(OUTSIDE),
                "host": f"host-{spec.name}",
                "my_ip": spec.address,
                "state_path": "/var/lib/nova",
                "rpc_response_timeout": RPC_LIMIT_S,
                "reserved_host_memory_mb": 0,
                "reserved_host_disk_mb": 0,
                "initial_cpu_allocation_ratio": 64.0,
                "vif_plugging_is_fatal": False,
                "vif_plugging_timeout": 0,
                "compute_driver": "libvirt.LibvirtDriver",
                "heal_instance_info_cache_interval": -1,
                **_SOON_OVER,
                "sync_power_state_interval": -1,
                "allow_resize_to_same_host": True,
            },
            "oslo_concurrency": {"lock_path": "/var/lib/nova/lock"},
            "placement": client,
            "neutron": client,
            "glance": client,
            "service_user": self._auth(outside=True)
            | {"send_service_user_token": True},
            "keystone_authtoken": self._auth(outside=True),
            "vnc": {"enabled": False},
            "libvirt": {
                "virt_type": "qemu",
                "cpu_mode": "none",
                "images_type": "raw",
                "hw_machine_type": "x86_64=q35",
                "inject_partition": -2,
                "live_migration_inbound_addr": spec.address,
                "live_migration_scheme": "tcp",
                "live_migration_bandwidth": BANDWIDTH_MIB,
            },
        }
        for group, options in more.items():
            sections[group] = sections.get(group, {}) | options
        return text_of(sections)

    # The services on this machine -------------------------------------

    def _keystone(self) -> Sections:
        keys = self.folder / "keys"
        return {
            "DEFAULT": {"use_stderr": True},
            "database": {"connection": self.database("keystone")},
            "fernet_tokens": {"key_repository": keys / "tokens"},
            "credential": {"key_repository": keys / "credentials"},
            # The default costs a second for each login.
            "identity": {"password_hash_rounds": 4},
        }

    def _placement(self) -> Sections:
        return {
            "placement_database": {"connection": self.database("placement")},
            "keystone_authtoken": self._middleware(),
        }

    def _glance(self) -> Sections:
        return {
            "DEFAULT": {
                "enabled_backends": "local:file",
                "transport_url": self._transport(LOOPBACK),
            },
            "database": {"connection": self.database("glance")},
            "glance_store": {"default_backend": "local"},
            "local": {"filesystem_store_datadir": self.folder / "images"},
            "paste_deploy": {"flavor": "keystone"},
            "keystone_authtoken": self._middleware(),
        }

    def _neutron(self) -> Sections:
        return {
            "DEFAULT": {
                "core_plugin": "ml2",
                "service_plugins": "",
                "transport_url": self._transport(LOOPBACK),
                "state_path": self.folder / "neutron",
                "notify_nova_on_port_status_changes": False,
                "notify_nova_on_port_data_changes": False,
            },
            "ml2": {
                "type_drivers": "local",
                "tenant_network_types": "local",
                "mechanism_drivers": "",
            },
            "database": {"connection": self.database("neutron")},
            "oslo_concurrency": {"lock_path": self.folder / "lock"},
            "keystone_authtoken": self._middleware(),
        }

    def _nova(self) -> Sections:
        client = self._client(outside=False)
        return {
            "DEFAULT": {
                "transport_url": self._transport(LOOPBACK),
                "state_path": self.folder / "nova",
                "rpc_response_timeout": RPC_LIMIT_S,
                "service_down_time": RPC_LIMIT_S,
                "osapi_compute_workers": 1,
                "allow_resize_to_same_host": True,
                **_SOON_OVER,
            },
            "api_database": {"connection": self.database("nova_api")},
            "database": {"connection": self.database("nova")},
            "oslo_concurrency": {"lock_path": self.folder / "lock"},
            "conductor": {"workers": 1},
            "scheduler": {
                "workers": 1,
                "discover_hosts_in_cells_interval": 15,
            },
            "placement": client,
            "neutron": client,
            "glance": client,
            "service_user": self._auth(outside=False)
            | {"send_service_user_token": True},
            "keystone_authtoken": self._middleware(),
        }

    # What they have in common -----------------------------------------

    def database(self, name: str) -> str:
        """Return the URL of a database."""
        server = f"{LOOPBACK}:{self.ports['database']}"
        return f"mysql+pymysql://{USER}:{PASSWORD}@{server}/{name}"

    def _transport(self, address: str) -> str:
        return f"rabbit://guest:guest@{address}:{self.ports['broker']}/"

    def _auth(self, *, outside: bool) -> dict[str, object]:
        """Return how a service logs in."""
        return {
            "auth_type": "password",
            "auth_url": self.url("identity", outside=outside) + "/v3",
            "username": USER,
            "password": PASSWORD,
            "user_domain_id": "default",
            "project_name": USER,
            "project_domain_id": "default",
            "region_name": REGION,
        }

    def _client(self, *, outside: bool) -> dict[str, object]:
        interface = "internal" if outside else "public"
        return self._auth(outside=outside) | {"valid_interfaces": interface}

    def _middleware(self) -> dict[str, object]:
        """Return how a service checks the tokens of others."""
        return self._auth(outside=False) | {
            "interface": "public",
            "www_authenticate_uri": self.url("identity"),
            "service_token_roles_required": True,
        }


def text_of(sections: Sections) -> str:
    """Return the text of a configuration file."""
    lines = []
    for name, options in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {value}" for key, value in options.items()]
        lines.append("")
    return "\n".join(lines)
