# SPDX-License-Identifier: Apache-2.0
"""Guests that do not converge at first, with own disks, or in parallel."""

from collections.abc import Callable

from tests.lab.hosts import LabHost
from tests.lab.scenes import Scene

#: What is written to in a round does not fit into QEMU's 300 ms.
BUSY = {"dirty_mib": 8}
SLOW = ("--bandwidth", "4")
DISK = "/var/log/vda.img"


def test_a_busy_guest_ends_with_a_longer_stop(
    scene: Callable[..., Scene],
) -> None:
    """At 300 ms it does not end; with a limit that is raised it does."""
    busy = scene(**BUSY)
    stuck = busy.migrate(
        *(*SLOW, "--max-downtime", "300", "--stall-timeout", "60")
    ).end()

    busy.see_undone()
    answer = busy.migrate(*SLOW, "--max-downtime", "60000").end()

    assert (stuck.status, stuck.code) == (1, "migration-aborted"), stuck
    message = stuck.document["error"]["message"]
    assert "with a downtime limit of 300 ms" in message
    assert (answer.status, answer.document["result"]) == (0, "migrated")
    assert 300 < answer.document["limit_ms"] <= 60_000


def test_the_limit_of_a_failed_migration_is_put_back(
    scene: Callable[..., Scene],
) -> None:
    """Whoever migrates the guest next finds the limit that there was."""
    busy = scene(**BUSY)
    with busy.a.connected() as connection:
        domain = connection.lookupByName(busy.guest.name)
        domain.migrateSetMaxDowntime(777, 0)

        answer = busy.migrate(
            *(*SLOW, "--downtime", "310", "--max-downtime", "320"),
            *("--stall-timeout", "8"),
        ).end()

        assert answer.status == 1, answer
        assert domain.migrateGetMaxDowntime(0) == 777


def test_a_guest_takes_its_disk_along(
    scene: Callable[..., Scene], a: LabHost, b: LabHost
) -> None:
    """A disk that the hosts do not share is copied."""
    a.run(f"head -c 16M /dev/urandom >{DISK}")
    b.run(f"truncate -s 16M {DISK}")
    own = scene(disk=DISK)

    answer = own.migrate("--copy-storage-all").end()

    assert (answer.status, answer.code) == (0, None), answer
    assert b.see_counting(own.guest.name, own.count) > own.count
    checksum = f"sha256sum {DISK}"
    assert a.run(checksum) == b.run(checksum)
    for host in (a, b):
        host.run(f"rm {DISK}")


def test_a_guest_goes_over_several_connections(
    scene: Callable[..., Scene], b: LabHost
) -> None:
    """QEMU sends memory, and device state, over four of them."""
    parallel = scene()

    answer = parallel.migrate("--parallel", "4").end()

    assert (answer.status, answer.code) == (0, None), answer
    assert b.see_counting(parallel.guest.name, parallel.count)
