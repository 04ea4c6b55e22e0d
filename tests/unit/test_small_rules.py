# SPDX-License-Identifier: Apache-2.0
"""Do transport, phases and whereabouts say what their tables promise?"""

import itertools

import pytest

from mdev_migrate import exception
from mdev_migrate.core import allocation, phases, transport, whereabouts
from mdev_migrate.core.phases import Step, Targets
from mdev_migrate.core.whereabouts import Whereabouts
from tests import builders

PLAN = allocation.AllocationPlan(
    reuse=(builders.mdev(1),), create=(builders.mdev(2),)
)
BAD_FLAGS = list(transport.UNSUPPORTED)


class TestTransport:
    """Which flags and limits a guest with mdevs may use."""

    @pytest.mark.parametrize(
        "bad",
        [
            subset
            for size in range(len(BAD_FLAGS) + 1)
            for subset in itertools.combinations(BAD_FLAGS, size)
        ],
    )
    def test_unsupported_flags_are_dropped(self, bad):
        """All that cannot be used goes, is named, and all else stays."""
        good = transport.LIVE | transport.PEER2PEER | transport.TLS | 1 << 20

        flags, dropped = transport.drop_unsupported(good | sum(bad))

        assert flags == good
        assert dropped == tuple(transport.UNSUPPORTED[flag] for flag in bad)

    def test_flags_are_libvirts(self):
        """Each constant has the value of libvirt's own."""
        libvirt = pytest.importorskip("libvirt")
        names = [
            "LIVE",
            "PEER2PEER",
            "TUNNELLED",
            "PERSIST_DEST",
            "UNDEFINE_SOURCE",
            "UNSAFE",
            "AUTO_CONVERGE",
            "POSTCOPY",
            "TLS",
            "NON_SHARED_DISK",
            "NON_SHARED_INC",
            "COMPRESSED",
            "PARALLEL",
        ]

        ours = {name: getattr(transport, name) for name in names}

        assert ours == {
            name: getattr(libvirt, f"VIR_MIGRATE_{name}") for name in names
        }

    @pytest.mark.parametrize("limit", [1, 300, 2_000_000])
    def test_downtime_within_bounds(self, limit):
        """Both bounds themselves may be asked for."""
        assert transport.check_max_downtime(limit) == limit

    @pytest.mark.parametrize("limit", [-1, 0, 2_000_001])
    def test_downtime_out_of_bounds(self, limit):
        """What QEMU would refuse is refused before."""
        with pytest.raises(exception.OptionInvalid, match=f"{limit} ms found"):
            transport.check_max_downtime(limit)

    @pytest.mark.parametrize(
        "name", ["parallel", "switchover_bandwidth", "disks_port"]
    )
    def test_figures_out_of_bounds(self, name):
        """Nothing is sent by no connection, at no speed, to no port."""
        with pytest.raises(exception.OptionInvalid, match="more than 0"):
            transport.Way(**{name: 0, "copy_storage": "all"}).check()

    @pytest.mark.parametrize(
        "disks", [{"migrate_disks": ("vda",)}, {"disks_port": 49000}]
    )
    def test_disks_without_copying(self, disks):
        """Who names disks and copies none means something else."""
        with pytest.raises(exception.OptionInvalid, match="copy"):
            transport.Way(**disks).check()


class TestPhases:
    """What the table says of each step."""

    def test_every_step_has_a_row(self):
        """The table is complete."""
        assert list(phases.TARGETS) == list(Step)

    def test_targets_follow_the_order(self):
        """No step promises to know less than the one before it."""
        rank = list(Targets)

        ranks = [rank.index(targets) for targets in phases.TARGETS.values()]

        assert ranks == sorted(ranks)


#: How a host may know a guest: not at all, shut off, paused for a migration
#: or for nobody knows what, suspended, running.
STATES = {
    "unknown": None,
    "off": builders.guest(active=False, running=False),
    "paused": builders.guest(active=True, running=False),
    "suspended": builders.guest(active=True, running=False, suspended=True),
    "running": builders.guest(active=True, running=True),
}


class TestWhereabouts:
    """Where a guest is, by all that both hosts may say."""

    @pytest.mark.parametrize("job", [False, True])
    @pytest.mark.parametrize("there", STATES)
    @pytest.mark.parametrize("here", STATES)
    def test_all_combinations(self, here, there, job):
        """Arrived or stayed only if it is beyond doubt."""
        found = whereabouts.tell(STATES[here], STATES[there], job=job)

        active = ("paused", "suspended", "running")
        if here not in active and there not in active:
            expected = Whereabouts.NOWHERE
        elif there in ("suspended", "running") and here not in active:
            expected = Whereabouts.ARRIVED
        elif here in active and there not in active and not job:
            expected = Whereabouts.STAYED
        else:
            expected = Whereabouts.MOVING
        assert found is expected
