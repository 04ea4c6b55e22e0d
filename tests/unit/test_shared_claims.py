# SPDX-License-Identifier: Apache-2.0
"""Do Nova and the command find each other's claims on a host?"""

from __future__ import annotations

import pytest

from mdev_migrate import libvirt_host
from mdev_migrate.core import claim_xml
from tests import builders, standin

SPARE = builders.uuid(0xB0)


@pytest.fixture
def command(cloud):
    """Return the destination as the command reaches it."""
    return libvirt_host.LibvirtHost(
        cloud.there.uris[0], opener=cloud.there.group.open
    )


def test_the_command_sees_novas(cloud, command):
    """What Nova has claimed is held, by whom and for whom."""
    data = cloud.check(
        standin.instance(), types={builders.uuid(1): standin.TYPE}
    )

    (claim,) = command.inventory().claims.all

    assert [mdev.uuid for mdev in claim.mdevs] == list(
        data.target_mdevs.values()
    )
    assert claim.migration == cloud.migration().uuid
    assert command.inventory().guests == ()


def test_nova_sees_the_commands(cloud, command):
    """What the command has claimed is given to no guest of Nova's."""
    cloud.there.add_mdev(SPARE, standin.TYPE, standin.PARENT)
    (mdev,) = (m for m in command.inventory().mdevs if m.uuid == SPARE)
    command.claims.define(
        builders.claim(
            builders.target(mdev), instance_uuid=builders.instance(9)
        ),
        claim_xml.Form(),
    )

    data = cloud.check(
        standin.instance(), types={builders.uuid(1): standin.TYPE}
    )

    assert SPARE not in data.target_mdevs.values()
    with pytest.raises(standin.StockError, match="not available"):
        cloud.destination.spawn(
            None, standin.instance(5), None, None, None, standin.allocations()
        )
