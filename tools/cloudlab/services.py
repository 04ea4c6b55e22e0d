# SPDX-License-Identifier: Apache-2.0
"""The OpenStack services on this machine: five APIs and Nova's two others."""

import shutil
from collections.abc import Callable
from pathlib import Path

from labhost import terminal
from labhost.failure import LabError

from cloudlab import process
from cloudlab.api import Api
from cloudlab.configuration import Settings
from cloudlab.layout import ASSETS, LOOPBACK, PASSWORD, REGION, USER
from cloudlab.process import Process

ANSWER_LIMIT_S = 240

#: Service type, by listener.
TYPES = {
    "placement": "placement",
    "image": "image",
    "network": "network",
    "compute": "compute",
}
_PATHS = {"compute": "/v2.1"}


def prepare(settings: Settings, log: Path) -> None:
    """Write the files of all, and make keystone's keys and first user."""
    for service in ("keystone", "placement", "glance", "neutron", "nova"):
        settings.write(service)
    for name in ("images", "neutron", "nova", "lock"):
        (settings.folder / name).mkdir(exist_ok=True)
    tool = settings.services / "bin/keystone-manage"
    manage = [tool, "--config-file", settings.write("keystone")]
    owner = ("--keystone-user", "root", "--keystone-group", "root")
    for name in ("tokens", "credentials"):
        (settings.folder / "keys" / name).mkdir(parents=True, exist_ok=True)
    process.run([*manage, "fernet_setup", *owner], log)
    process.run([*manage, "credential_setup", *owner], log)
    process.run(
        [
            *(*manage, "bootstrap", "--bootstrap-password", PASSWORD),
            *("--bootstrap-region-id", REGION),
            *("--bootstrap-public-url", settings.url("identity") + "/v3"),
            "--bootstrap-internal-url",
            settings.url("identity", outside=True) + "/v3",
        ],
        log,
    )


def start_api(name: str, settings: Settings, log: Path) -> Process:
    """Start one of the five APIs."""
    service, module = {
        "identity": ("keystone", "keystone.wsgi.api"),
        "placement": ("placement", "placement.wsgi.api"),
        "image": ("glance", "glance.wsgi.api"),
        "network": ("neutron", "neutron_api"),
        "compute": ("nova", "nova.wsgi.osapi_compute"),
    }[name]
    environment = settings.nova if name == "compute" else settings.services
    folder = settings.folder / "etc" / service
    prefix = f"OS_{service.upper()}_CONFIG"
    files = {"neutron": "neutron.conf", "nova": "api-paste.ini;nova.conf"}
    return process.start(
        name,
        [
            *(environment / "bin/uwsgi", "--http-socket"),
            *(f"{LOOPBACK}:{settings.ports[name]}", "--need-app"),
            *("--processes", 1, "--threads", 4, "--master", "--lazy-apps"),
            "--no-orphans",
            *("--die-on-term", "--virtualenv", environment),
            # Without it clients keep connections that are closed here.
            *("--add-header", "Connection: close"),
            # A snapshot comes in parts, as quick as an emulated host is.
            *("--chunked-input-limit", 2**26, "--chunked-input-timeout", 120),
            *("--pythonpath", ASSETS, "--buffer-size", 65535),
            *_application(environment, module),
        ],
        log,
        {
            f"{prefix}_DIR": str(folder),
            **(
                {f"{prefix}_FILES": files[service]} if service in files else {}
            ),
        },
    )


def _application(environment: Path, module: str) -> list[object]:
    """Return what tells uWSGI what to serve: older Novas have a script."""
    script = environment / "bin/nova-api-wsgi"
    path = module.replace(".", "/") + ".py"
    if module.startswith("nova.") and not any(
        environment.glob(f"lib/python3*/site-packages/{path}")
    ):
        return ["--wsgi-file", script]
    return ["--module", f"{module}:application"]


def start_worker(
    name: str, settings: Settings, log: Path, project: Path | None = None
) -> Process:
    """Start nova-scheduler or nova-conductor.

    :param project: where this project is installed, for a conductor that
        knows its objects.
    """
    file = settings.folder / "etc/nova/nova.conf"
    tool = settings.nova / "bin" / f"nova-{name}"
    if project is None:
        return process.start(name, [tool, "--config-file", file], log)
    command = [
        *(settings.nova / "bin/python", project / f"bin/nova-{name}-mdev"),
        *("--config-file", file),
    ]
    return process.start(name, command, log, {"PYTHONPATH": str(project)})


def register(api: Api, settings: Settings) -> None:
    """Enter all services into the catalog.

    All of them act as the administrator, who is therefore a service too.
    """
    users = api.get("identity", f"/v3/users?name={USER}")["users"]
    projects = api.get("identity", f"/v3/projects?name={USER}")["projects"]
    roles = api.get("identity", "/v3/roles?name=service")["roles"]
    grant = f"users/{users[0]['id']}/roles/{roles[0]['id']}"
    api.put("identity", f"/v3/projects/{projects[0]['id']}/{grant}")
    for name, kind in TYPES.items():
        body = {"service": {"type": kind, "name": name}}
        service = api.post("identity", "/v3/services", body)["service"]["id"]
        for interface, outside in (("public", False), ("internal", True)):
            url = settings.url(name, outside=outside) + _PATHS.get(name, "")
            endpoint = {
                "service_id": service,
                "interface": interface,
                "region_id": REGION,
                "url": url,
            }
            api.post("identity", "/v3/endpoints", {"endpoint": endpoint})


def wait_for(
    name: str, running: Process, ask: Callable[[], object], log: Path
) -> None:
    """Wait until an API answers.

    :raises LabError: if it ends, or does not answer in time.
    """

    def answers() -> bool:
        if not running.is_running():
            raise LabError(f"{name} ended; see {log}")
        try:
            ask()
        except LabError:
            return False
        return True

    terminal.wait_for(
        f"answer from the {name} API", answers, ANSWER_LIMIT_S, see=log
    )


def forget(folder: Path) -> None:
    """Remove what the services wrote."""
    shutil.rmtree(folder, ignore_errors=True)
