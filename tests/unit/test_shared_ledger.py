# SPDX-License-Identifier: Apache-2.0
"""Do Nova and the command find each other's claims on a host?"""

from __future__ import annotations

import pytest

from mdev_migrate import ledger, libvirt_host
from mdev_migrate.core import allocation, claims
from tests import standin


@pytest.fixture
def hosts(cloud):
    """Return one host as Nova reaches it, and as the command does."""
    simulated = cloud.there
    return (
        cloud.destination.mdev_compute.host,
        libvirt_host.LibvirtHost(
            simulated.uris[0], opener=simulated.group.open
        ),
    )


def test_the_same_ledger(hosts):
    """It is named after facts that both are told alike."""
    nova, command = (ledger.ledger_name(host.facts()) for host in hosts)

    assert nova == command


def test_the_second_sees_the_claims_of_the_first(hosts, tmp_path):
    """In the one folder that is the default of both."""
    nova, command = (
        claims.ClaimTable(ledger.FileStore(tmp_path, host.facts()))
        for host in hosts
    )
    plan = allocation.AllocationPlan()
    which = standin.instance()
    note = claims.Note(owner="nova-compute", migration="m")

    with nova.claim(which.uuid, lambda _: plan, note):
        seen = command.all()

    assert [claim.note for claim in seen.values()] == [note]
