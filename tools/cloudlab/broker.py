# SPDX-License-Identifier: Apache-2.0
"""The RabbitMQ server and its name server."""

from pathlib import Path

from cloudlab import process
from cloudlab.layout import LOOPBACK
from cloudlab.process import Process

START_LIMIT_S = 180
_NODE = "cloud@localhost"
_SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"


def start_names(ports: dict[str, int], log: Path) -> Process:
    """Start what tells Erlang's nodes each other's ports, on its own port."""
    port = ports["broker_names"]
    command = ["epmd", "-address", LOOPBACK, "-port", port]
    return process.start("broker_names", command, log)


def start(folder: Path, ports: dict[str, int], log: Path) -> Process:
    """Start the broker; it answers on its port a good deal later.

    :param folder: what it writes to; kept, it has the queues of before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plugins = folder / "plugins"
    plugins.write_text("[].\n")
    environment = {
        "HOME": str(folder),
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "ERL_EPMD_PORT": str(ports["broker_names"]),
        "RABBITMQ_NODENAME": _NODE,
        "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
        "RABBITMQ_NODE_PORT": str(ports["broker"]),
        "RABBITMQ_DIST_PORT": str(ports["broker_peers"]),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "-kernel inet_dist_use_interface {127,0,0,1}"
        ),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
    }
    return process.start("broker", [_SERVER], log, environment)
