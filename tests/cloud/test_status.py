# SPDX-License-Identifier: Apache-2.0
"""mdev-migrate-status looks at a real compute node."""

import json

from tests.cloud.compute_host import ComputeHost
from tests.cloud.openstack import OpenStack


def test_the_upgrade_check(openstack: OpenStack, b: ComputeHost) -> None:
    """All is well, and the check leaves nothing behind."""
    answer = b.run(
        "PYTHONPATH=/opt/project $(cat /cloud/environment)/bin/python"
        " /opt/project/bin/mdev-migrate-status"
        " --config-file /etc/nova/nova.conf upgrade check --json"
        " 2>/tmp/status.log || true",
        600,
    )

    found = json.loads(answer)
    assert {check["result"] for check in found["checks"]} == {0}, found
    assert b.claims() == []
