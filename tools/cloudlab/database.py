# SPDX-License-Identifier: Apache-2.0
"""The MariaDB server, and the tables of all services."""

import shutil
from concurrent import futures
from pathlib import Path

from labhost import terminal

from cloudlab import configuration, environments, layout, process, reach
from cloudlab.configuration import Settings
from cloudlab.layout import DATABASES, LOOPBACK, PASSWORD, USER, WorkFolder
from cloudlab.process import Process

START_LIMIT_S = 120
_SERVER = "/usr/sbin/mariadbd"
_INSTALL = "/usr/bin/mariadb-install-db"
#: Nothing of value is kept: speed before safety.
_OPTIONS = (
    *("--user=root", "--skip-name-resolve", "--skip-log-bin"),
    *("--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0"),
    *("--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M"),
    *("--max-connections=500", "--character-set-server=utf8mb3"),
)


def start(folder: Path, port: int, log: Path, *more: str) -> Process:
    """Start a server on a data folder; it answers on its port a bit later.

    Its socket is named within the folder: whole paths may be too long.
    """
    command = [
        *(_SERVER, "--no-defaults", *_OPTIONS, f"--datadir={folder}"),
        *(f"--bind-address={LOOPBACK}", f"--port={port}"),
        *("--socket=socket", "--pid-file=pid", *more),
    ]
    return process.start("database", command, log)


def with_tables(work: WorkFolder, release: str) -> Path:
    """Return a data folder with empty tables, to be copied.

    :raises LabError: if it cannot be made.
    """
    nova = environments.nova(work, release)
    services = environments.services(work)
    modules = (layout.__file__, configuration.__file__, __file__)
    recipe = environments.digest(*map(Path, modules))
    name = f"tables-{recipe}-{services.name}-{nova.name}"
    target = work.cache / name

    def fill() -> None:
        terminal.say(f"making the tables of Nova {release} and the others")
        settings = Settings.prepare(target / "work", services, nova)
        _create(target / "data", settings, work.cache / "log")
        shutil.rmtree(target / "work")

    environments.complete(target, fill)
    return target / "data"


def _create(folder: Path, settings: Settings, log: Path) -> None:
    process.run(
        [
            *(_INSTALL, "--no-defaults", "--user=root", "--skip-test-db"),
            *("--auth-root-authentication-method=normal",),
            f"--datadir={folder}",
        ],
        log,
    )
    first = settings.folder / "first.sql"
    first.write_text(_statements())
    port = settings.ports["database"]
    server = start(folder, port, log, f"--init-file={first}")
    try:
        reach.wait_for_port("database", port, server, START_LIMIT_S, log)
        _sync_all(settings, log)
    finally:
        process.stop(server)


def _statements() -> str:
    user = f"'{USER}'@'{LOOPBACK}'"
    lines = [f"CREATE DATABASE {name};" for name in DATABASES]
    lines.append(f"CREATE USER {user} IDENTIFIED BY '{PASSWORD}';")
    lines.append(f"GRANT ALL ON *.* TO {user};")
    return "\n".join(lines) + "\n"


def _sync_all(settings: Settings, log: Path) -> None:
    """Let each service make its tables, side by side."""
    with futures.ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(_run_all, chain, log) for chain in _chains(settings)
        ]
    for job in jobs:
        job.result()


def _run_all(chain: list[list[object]], log: Path) -> None:
    for command in chain:
        process.run(command, log)


def _chains(settings: Settings) -> list[list[list[object]]]:
    """Return the commands of each service, in their order."""

    def manage(service: str, tool: Path, *words: str) -> list[object]:
        file = settings.write(service)
        return [tool, "--config-file", file, *words]

    services = settings.services / "bin"
    nova = settings.nova / "bin/nova-manage"
    # Ports differ from cloud to cloud: cells follow the configuration.
    cell_database = "{scheme}://{username}:{password}@{hostname}:{port}/"
    cells = (
        ("api_db", "sync"),
        ("cell_v2", "map_cell0", "--database_connection",
         f"{cell_database}nova_cell0?{{query}}"),
        ("cell_v2", "create_cell", "--name", "cell1",
         "--transport-url", f"rabbit://{cell_database.partition('//')[2]}",
         "--database_connection", f"{cell_database}nova?{{query}}"),
        ("db", "sync"),
    )  # fmt: skip
    return [
        [manage("keystone", services / "keystone-manage", "db_sync")],
        [manage("placement", services / "placement-manage", "db", "sync")],
        [manage("glance", services / "glance-manage", "db", "sync")],
        [
            manage(
                "neutron", services / "neutron-db-manage", "upgrade", "heads"
            )
        ],
        [manage("nova", nova, *words) for words in cells],
    ]
