# SPDX-License-Identifier: Apache-2.0
"""The cloud as its users and administrators see it."""

import contextlib
import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cloudlab import cli, control, hosts, state
from cloudlab.api import Api, ApiError
from cloudlab.layout import WorkFolder
from cloudlab.state import Running

from tests.cloud.compute_host import ComputeHost
from tests.lab.hosts import until

#: Emulated processors, and maybe other work beside them.
BOOT_LIMIT_S = 900
MIGRATION_LIMIT_S = 1200
CLIENT_LIMIT_S = 180
COPY_LIMIT_S = 600

#: What a live migration ends as.
OVER = ("completed", "failed", "cancelled", "error")

_numbers = itertools.count(1)


class OpenStack:
    """The cloud under test.

    :ivar a: the host that guests begin on.
    :ivar b: the other.
    """

    def __init__(self, work: WorkFolder, cloud: Running) -> None:
        self._work = work
        self._cloud = cloud
        self.release = cloud.release
        self.api = Api(cloud.settings.ports)
        self.a = ComputeHost(work, cloud, "a")
        self.b = ComputeHost(work, cloud, "b")

    @property
    def major(self) -> int:
        """Return the first number of Nova's release."""
        return int(self.release.split(".")[0])

    @property
    def is_mixed(self) -> bool:
        """Whether a host has another release than the rest."""
        return self._cloud.is_mixed

    def client(self, *words: str) -> Any:
        """Run the real ``openstack`` client and return its document."""
        answer = subprocess.run(
            [
                str(self._cloud.settings.services / "bin/openstack"),
                *words,
                *("-f", "json"),
            ],
            env=os.environ | cli.credentials(self._cloud),
            capture_output=True,
            text=True,
            timeout=CLIENT_LIMIT_S,
            check=False,
        )
        assert answer.returncode == 0, answer
        return json.loads(answer.stdout)

    def manage(self, *words: str) -> None:
        """Run ``nova-manage``, as an administrator does."""
        settings = self._cloud.settings
        configuration = self._work.etc("nova") / "nova.conf"
        subprocess.run(
            [
                str(settings.nova / "bin/nova-manage"),
                *("--config-file", str(configuration)),
                *words,
            ],
            capture_output=True,
            text=True,
            timeout=CLIENT_LIMIT_S,
            check=False,
        )

    # Services ---------------------------------------------------------

    def restart(self, name: str, pause: Callable[[], None]) -> None:
        """Stop a service of this machine, wait, and start it again."""
        cloud = state.running(self._work)
        control.stop(cloud, name)
        pause()
        control.start(self._work, cloud, name)

    def restart_compute(
        self,
        host: ComputeHost,
        flavour: str = "mixin",
        first: str = "",
        **more: Any,
    ) -> None:
        """Kill a nova-compute and start it, as something else maybe.

        :param first: a program of Python that runs in it first.
        :param more: options by group, beside or instead of the usual.
        """
        self._restart([host], flavour, more, first)

    def _change(self, host: ComputeHost, values: dict[str, Any]) -> None:
        """Change what the API says of a nova-compute."""
        found = self.api.get(
            "compute",
            f"/v2.1/os-services?binary=nova-compute&host={host.compute}",
        )
        path = f"/v2.1/os-services/{found['services'][0]['id']}"
        self.api.put("compute", path, values)

    def restart_computes(self, flavour: str) -> None:
        """Kill both nova-computes and start them, side by side."""
        self._restart([self.a, self.b], flavour, {})

    def _restart(
        self,
        found: list[ComputeHost],
        flavour: str,
        more: dict[str, Any],
        first: str = "",
    ) -> None:
        for host in found:
            host.control("kill")
            host.configure(flavour, first, **more)
        self._start_again(found)

    def _start_again(self, found: list[ComputeHost]) -> None:
        """Start nova-computes that were killed, and wait for them."""
        since = hosts.now()
        for host in found:
            host.control("start")
        names = [host.name for host in found]
        hosts.wait_until_ready(self._work, self.api, names, since)

    @contextlib.contextmanager
    def lost(self, host: ComputeHost) -> Iterator[None]:
        """Lose a nova-compute, and have Nova know that."""
        host.control("kill")
        self._change(host, {"forced_down": True})
        try:
            yield
        finally:
            self._change(host, {"forced_down": False})
            self._start_again([host])

    def wait_for_computes(self) -> None:
        """Wait until both nova-computes have given a sign of life from now on.

        They give it by the broker and the conductor.
        """
        since = hosts.now()
        hosts.wait_until_ready(self._work, self.api, since=since)

    # Servers ----------------------------------------------------------

    def create(
        self, flavor: str, host: ComputeHost, image: str = "guest"
    ) -> str:
        """Ask for a server on a host and return its id."""
        request = {
            "name": f"{flavor}-{next(_numbers)}",
            "imageRef": self._image(image),
            "flavorRef": self._flavor(flavor),
            "networks": "none",
            "host": host.compute,
        }
        answer = self.api.post("compute", "/v2.1/servers", {"server": request})
        return str(answer["server"]["id"])

    def see_started(self, server: str, host: ComputeHost) -> None:
        """Wait until a server runs on a host, and its program works."""
        self.wait_for_status(server, "ACTIVE")
        host.see_counting(server, 0)

    def server(self, server: str) -> dict[str, Any]:
        """Return what the API tells of a server."""
        answer = self.api.get("compute", f"/v2.1/servers/{server}")
        found: dict[str, Any] = answer["server"]
        return found

    def host_of(self, server: str) -> str:
        """Return the compute host on which a server is."""
        return str(self.server(server)["OS-EXT-SRV-ATTR:host"])

    def status(self, server: str) -> str:
        """Return a server's status."""
        return str(self.server(server)["status"])

    def wait_for_status(self, server: str, status: str) -> None:
        """Wait until a server has a status, and nothing more to do."""

        def reached() -> bool:
            found = self.server(server)
            now, task = found["status"], found["OS-EXT-STS:task_state"]
            assert status == "ERROR" or now != "ERROR", found.get("fault")
            return bool(now == status and task is None)

        until(f"{status} of server {server}", reached, BOOT_LIMIT_S)

    def act(self, server: str, action: str, **values: Any) -> None:
        """Ask for an action on a server."""
        body = {action: values or None}
        self.api.post("compute", f"/v2.1/servers/{server}/action", body)

    def resize(self, server: str, flavor: str, on: ComputeHost) -> None:
        """Give a server another flavor, on the host where it is."""
        with self._alone(on):
            self.act(server, "resize", flavorRef=self._flavor(flavor))
            self._confirm(server, on)

    def migrate_cold(self, server: str, to: ComputeHost) -> None:
        """Move a server to another host while it is off."""
        self.act(server, "migrate", host=to.compute)
        self._confirm(server, to)

    def _confirm(self, server: str, on: ComputeHost) -> None:
        """Wait for a server that was moved, and agree."""
        self.wait_for_status(server, "VERIFY_RESIZE")
        assert self.host_of(server) == on.compute
        self.act(server, "confirmResize")
        self.wait_for_status(server, "ACTIVE")

    @contextlib.contextmanager
    def _alone(self, host: ComputeHost) -> Iterator[None]:
        """Let the scheduler choose no other host meanwhile."""
        (other,) = (each for each in (self.a, self.b) if each is not host)
        self._change(other, {"status": "disabled"})
        try:
            yield
        finally:
            self._change(other, {"status": "enabled"})

    def empty(self) -> None:
        """Leave no server, and no mdev on the hosts."""
        self.remove(self._servers())
        for host in (self.a, self.b):
            host.mend()
            host.clean()

    def remove(self, servers: Iterable[str]) -> None:
        """Delete servers, whatever their state, and wait for their end."""
        for each in servers:
            for action, values in (
                ("os-resetState", {"state": "active"}),
                ("forceDelete", {}),
            ):
                with contextlib.suppress(ApiError):
                    self.act(each, action, **values)
        until(
            "list without the servers",
            lambda: not {*servers} & {*self._servers()},
            600,
        )

    def _servers(self) -> list[str]:
        answer = self.api.get("compute", "/v2.1/servers?all_tenants=1")
        return [each["id"] for each in answer["servers"]]

    # Live migrations --------------------------------------------------

    def migrate(self, server: str, to: ComputeHost | None = None) -> int:
        """Ask for a live migration and return its number."""
        return self._start(
            server,
            "os-migrateLive",
            host=to.compute if to else None,
            block_migration="auto",
        )

    def start_copying(
        self, server: str, source: ComputeHost, to: ComputeHost
    ) -> int:
        """Start a live migration, wait until it copies, return its number."""
        number = self.migrate(server, to)

        def copies() -> bool:
            found = self.migration(server, number)
            assert found["status"] not in ("error", "failed"), self.reasons(
                server
            )
            return source.is_copying(server)

        until(f"copy of the memory of {server}", copies, COPY_LIMIT_S)
        return number

    def evacuate(self, server: str, to: ComputeHost) -> int:
        """Ask for a server of a lost host elsewhere; return the number."""
        return self._start(server, "evacuate", host=to.compute)

    def _start(self, server: str, action: str, **values: Any) -> int:
        """Ask for an action with a record of a migration."""
        before = {each["id"] for each in self._migrations(server)}
        self.act(server, action, **values)
        return until(
            f"record of the migration of {server}",
            lambda: next(
                (
                    int(each["id"])
                    for each in self._migrations(server)
                    if each["id"] not in before
                ),
                0,
            ),
            120,
        )

    def migration(self, server: str, number: int) -> dict[str, Any]:
        """Return the record of a migration."""
        found = self._migrations(server)
        return next(each for each in found if each["id"] == number)

    def running_migrations(self, server: str) -> list[int]:
        """Return the numbers of those that are not over."""
        return [
            int(each["id"])
            for each in self._migrations(server)
            if each["status"] not in OVER
        ]

    def end_of(self, server: str, number: int) -> str:
        """Wait until a migration is over and return how it ended."""
        return until(
            f"end of migration {number} of {server}",
            lambda: (
                now
                if (now := self.migration(server, number)["status"]) in OVER
                else ""
            ),
            MIGRATION_LIMIT_S,
        )

    def abort(self, server: str, number: int) -> None:
        """Ask for the end of a migration."""
        path = f"/v2.1/servers/{server}/migrations/{number}"
        self.api.delete("compute", path)

    def force_complete(self, server: str, number: int) -> None:
        """Ask that a migration ends, whatever it costs the guest."""
        path = f"/v2.1/servers/{server}/migrations/{number}/action"
        self.api.post("compute", path, {"force_complete": None})

    def reasons(self, server: str, action: str = "live-migration") -> str:
        """Return what the real client shows of the last such action."""
        events = self.client("server", "event", "list", server)
        request = next(
            each["Request ID"] for each in events if each["Action"] == action
        )
        shown = self.client("server", "event", "show", server, request)
        return json.dumps(shown)

    def _migrations(self, server: str) -> list[dict[str, Any]]:
        path = f"/v2.1/os-migrations?instance_uuid={server}"
        found: list[dict[str, Any]] = self.api.get("compute", path)[
            "migrations"
        ]
        return found

    # Placement --------------------------------------------------------

    def allocations(self, consumer: str) -> dict[str, dict[str, int]]:
        """Return what a consumer holds: amounts by class, by provider."""
        found = self.api.get("placement", f"/allocations/{consumer}")
        names = self._provider_names()
        return {
            names[provider]: dict(each["resources"])
            for provider, each in found["allocations"].items()
        }

    def usage(self, provider: str, resource: str) -> int:
        """Return how much of a class is in use on a provider."""
        names = self._provider_names()
        uuid = next(u for u, name in names.items() if name == provider)
        path = f"/resource_providers/{uuid}/usages"
        found = self.api.get("placement", path)["usages"]
        return int(found[resource])

    def _provider_names(self) -> dict[str, str]:
        found = self.api.get("placement", "/resource_providers")
        return {
            each["uuid"]: each["name"] for each in found["resource_providers"]
        }

    # What the cloud offers --------------------------------------------

    def _image(self, name: str) -> str:
        found = self.api.get("image", f"/v2/images?name={name}")
        return str(found["images"][0]["id"])

    def _flavor(self, name: str) -> str:
        found = self.api.get("compute", "/v2.1/flavors")["flavors"]
        return next(str(f["id"]) for f in found if f["name"] == name)
