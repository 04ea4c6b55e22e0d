# SPDX-License-Identifier: Apache-2.0
"""Simulated hosts: libvirt connections for tests, with mdevs and migration.

``SimulatedGroup`` holds hosts that reach each other; ``two_hosts`` makes the
usual pair. ``docs/simulated-hosts.rst`` says what is simulated and what not.
"""

from mdev_migrate.testing.cards import IdleCard
from mdev_migrate.testing.connection import SimulatedConnection
from mdev_migrate.testing.devices import SimulatedMdev
from mdev_migrate.testing.errors import libvirt_error
from mdev_migrate.testing.faults import (
    Call,
    CallPoint,
    Effect,
    Faults,
    Late,
    ProcessDied,
    call_points,
    die,
    die_after,
    fail,
    hang,
    lose_answer,
    lose_connection,
)
from mdev_migrate.testing.group import Gate, SimulatedGroup, two_hosts
from mdev_migrate.testing.handles import SimulatedDomain, SimulatedNodeDevice
from mdev_migrate.testing.markup import guest_document, mdev_request
from mdev_migrate.testing.parents import (
    MttyParent,
    NvidiaParent,
    OfferedType,
    Parent,
    SharedParent,
    SriovParent,
)
from mdev_migrate.testing.simulated_host import SimulatedHost
from mdev_migrate.testing.transfer import Step

__all__ = [
    "Call",
    "CallPoint",
    "Effect",
    "Faults",
    "Gate",
    "IdleCard",
    "Late",
    "MttyParent",
    "NvidiaParent",
    "OfferedType",
    "Parent",
    "ProcessDied",
    "SharedParent",
    "SimulatedConnection",
    "SimulatedDomain",
    "SimulatedGroup",
    "SimulatedHost",
    "SimulatedMdev",
    "SimulatedNodeDevice",
    "SriovParent",
    "Step",
    "call_points",
    "die",
    "die_after",
    "fail",
    "guest_document",
    "hang",
    "libvirt_error",
    "lose_answer",
    "lose_connection",
    "mdev_request",
    "two_hosts",
]
