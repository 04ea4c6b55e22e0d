# SPDX-License-Identifier: Apache-2.0
"""mdev-migrate-status looks at a real compute node."""

import json

from tests.cloud.compute_host import ComputeHost
from tests.cloud.openstack import OpenStack
from tests.cloud.test_stock import FIRST

#: How many things it looks at.
_CHECKS = 8


def test_the_upgrade_check(openstack: OpenStack, b: ComputeHost) -> None:
    """It warns of this cloud's low bandwidth, and leaves nothing behind."""
    answer = b.run(
        "PYTHONPATH=/opt/project $(cat /cloud/environment)/bin/python"
        " /opt/project/bin/mdev-migrate-status"
        " --config-file /etc/nova/nova.conf upgrade check --json"
        " 2>/tmp/status.log; echo $?",
        600,
    )

    document, status = answer.strip().rsplit("\n", 1)
    found = {
        check["check"]: check["result"]
        for check in json.loads(document)["checks"]
    }
    assert len(found) >= _CHECKS
    wanted = {"Bandwidth"}
    if openstack.major < FIRST:
        # Whether those that run know the object cannot be seen from there.
        wanted |= {"Conductors"}
    assert {name for name, result in found.items() if result} == wanted
    assert (found["Bandwidth"], status) == (1, "1")
    assert b.claims() == []
