# SPDX-License-Identifier: Apache-2.0
"""Does a guest arrive on target mdevs like those that it left?"""

import itertools
from dataclasses import replace

import pytest

from mdev_migrate import exception, libvirt_host, service, testing
from mdev_migrate.core import transport
from mdev_migrate.core.phases import Step
from mdev_migrate.workflow import GuestCheck, GuestMigration, Options
from tests import builders, scenes

KINDS = ("mtty-1", "mtty-2")


def _kinds(count):
    return tuple(itertools.islice(itertools.cycle(KINDS), count))


def _types(scene, outcome):
    """Return source and target type of every pair."""
    here = {mdev.uuid: mdev.mdev_type for mdev in scene.here.all_mdevs()}
    there = scene.there.mdevs()
    return [
        (here[source], there[target].mdev_type)
        for source, target in outcome.target_mdevs.items()
    ]


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_guest_moves_to_created_mdevs(count, persistent):
    """It runs on new mdevs of the same types, and no claim is left."""
    scene = scenes.Scene(_kinds(count), persistent=persistent)

    outcome = scene.migrate()

    assert scene.missed(outcome) == []
    assert _types(scene, outcome) == [(kind, kind) for kind in _kinds(count)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_guest_moves_to_existing_mdevs(count):
    """What is there and available is reused, and nothing is created."""
    scene = scenes.Scene(_kinds(count), _kinds(count))
    known = set(scene.there.mdevs())

    outcome = scene.migrate()

    assert scene.missed(outcome) == []
    assert set(outcome.target_mdevs.values()) == known
    assert set(scene.there.mdevs()) == known


def test_mdevs_that_libvirt_half_knows_are_passed_over():
    """One that went without libvirt is no reason to stop, and no target."""
    scene = scenes.Scene(["mtty-1"], ["mtty-1"])
    (half_known,) = scene.there.mdevs()
    scene.there.lose_mdev(half_known)

    outcome = scene.migrate()

    assert scene.missed(outcome) == []
    assert set(outcome.target_mdevs.values()).isdisjoint({half_known})


def test_pairs_are_in_guest_order():
    """The first mdev of the guest gets the first target of its type."""
    scene = scenes.Scene(["mtty-1", "mtty-1"], ["mtty-1", "mtty-1"])

    outcome = scene.migrate()

    spare = [builders.uuid(scenes.SPARE), builders.uuid(scenes.SPARE + 1)]
    assert list(outcome.target_mdevs.items()) == list(
        zip(scene.sources, spare, strict=True)
    )


@pytest.mark.parametrize("persistent", [False, True])
def test_guest_stays_as_persistent_as_it_was(persistent):
    """The definition moves along, and none stays on the source."""
    scene = scenes.Scene(["mtty-1"], persistent=persistent)

    scene.migrate()

    engine = scene.there.guests.engine
    assert engine.is_persistent(builders.INSTANCE) is persistent
    assert scene.here.guests.engine.uuids() == []


def test_definition_names_the_target_mdevs():
    """The guest will start on its targets after it was shut off, too."""
    scene = scenes.Scene(_kinds(2))

    outcome = scene.migrate()

    domain = scene.there.open().lookupByName("vm")
    domain.destroy()
    domain.create()
    assert set(scene.there.used_mdevs()) == set(outcome.target_mdevs.values())


def test_attributes_are_copied():
    """A created mdev has the attributes of its source mdev."""
    attributes = {"assign_adapter": "5", "assign_domain": "0xab"}
    scene = scenes.Scene(["mtty-1"], attributes=attributes)

    outcome = scene.migrate()

    target = scene.there.mdevs()[outcome.target_mdevs[scene.sources[0]]]
    assert target.attributes == tuple(attributes.items())


def test_persistent_mdevs_become_persistent_mdevs():
    """The target of a defined source mdev is defined."""
    scene = scenes.Scene(_kinds(2), persistent_mdevs=True)

    outcome = scene.migrate()

    targets = scene.there.mdevs().values()
    assert outcome.result == "migrated"
    assert [mdev.persistent for mdev in targets] == [True, True]


def test_autostart_is_copied():
    """The target of a source mdev that starts by itself does so too."""
    scene = scenes.Scene(["mtty-1"], persistent_mdevs=True)
    (device,) = (
        device
        for device in scene.here.open().listAllDevices(0)
        if device.name().startswith("mdev_")
    )
    device.setAutostart(1)

    scene.migrate()

    assert [mdev.autostart for mdev in scene.there.mdevs().values()] == [True]


@pytest.mark.parametrize("persistent", [False, True])
def test_there_and_back_and_there(persistent):
    """What was made for the guest is removed as it leaves, nothing else."""
    scene = scenes.Scene(_kinds(2), persistent=persistent)

    results = [
        scene.migrate(back=back).target_mdevs for back in (False, True, False)
    ]

    assert set(results[1].values()) == set(scene.sources)
    assert set(results[2].values()).isdisjoint(results[0].values())
    assert set(scene.there.mdevs()) == set(results[2].values())
    assert scene.group.violations() == []


def test_guest_without_mdevs():
    """It migrates plainly: nothing is created or claimed."""
    scene = scenes.Scene([])

    outcome = scene.migrate()

    assert (outcome.result, outcome.target_mdevs) == ("migrated", {})
    assert scene.missed(outcome) == []


def test_guest_without_mdevs_on_old_hosts():
    """Versions matter only for a guest that has mdevs."""
    scene = scenes.Scene([])
    for host in (scene.here, scene.there):
        host.libvirt_version, host.qemu_version = (8, 0, 0), (6, 2, 0)

    outcome = scene.migrate()

    assert outcome.result == "migrated"


def test_guest_by_its_uuid():
    """A guest may be named by its UUID, in upper case as well."""
    scene = scenes.Scene(["mtty-1"])

    outcome = scene.migrate(builders.INSTANCE.upper())

    assert (outcome.result, outcome.guest) == ("migrated", "vm")


def test_captured_guest():
    """The document of a real guest, with its overrides, is migrated."""
    scene = scenes.Scene([])
    for number, kind in (("5", "mtty-1"), ("3", "mtty-2")):
        uuid = (
            "-".join(number * n for n in (8, 4))
            + f"-4{number * 3}-8{number * 3}-{number * 12}"
        )
        scene.here.add_mdev(uuid, kind)
    scene.here.open().lookupByName("vm").destroy()
    scene.here.open().lookupByName("vm").undefine()
    scene.here.add_guest(
        "vm2",
        builders.INSTANCE,
        xml=builders.captured("guest-inactive.xml"),
    )

    outcome = scene.migrate("vm2")

    arrived = scene.there.open().lookupByName("vm2").XMLDesc(0)
    assert outcome.result == "migrated"
    assert "x-device-dirty-page-tracking" in arrived


def test_downtime_and_bytes_are_told():
    """The outcome has libvirt's own figures: of memory, not of devices."""
    scene = scenes.Scene(_kinds(2))

    outcome = scene.migrate()

    assert (outcome.downtime_ms, outcome.bytes_moved) == (
        40,
        64 * 1024 * 1024,
    )


def test_downtime_limit_lets_a_migration_end():
    """It is set before the migration begins, in milliseconds."""
    scene = scenes.Scene(["mtty-1"])
    scene.here.required_downtime_ms = 5000

    outcome = scene.migrate(options=Options(max_downtime_ms=5000))

    assert outcome.result == "migrated"


@pytest.mark.parametrize("flag", transport.UNSUPPORTED)
def test_closed_ways_are_refused(flag):
    """Post-copy, auto-converge and a tunnel would fail, or do nothing."""
    scene = scenes.Scene(["mtty-1"])

    outcome = scene.migrate(options=Options(flags=flag))

    assert (outcome.result, outcome.error.code) == (
        "refused",
        "option-invalid",
    )


def test_unknown_kernel_of_the_destination_is_no_warning():
    """It never is known of a remote host: the check says so, once."""
    scene = scenes.Scene(["mtty-1"])
    source, destination = scene.host(scene.here), scene.destination()
    destination.host._kernel = None

    checks = GuestCheck(source, destination, "vm").check().checks
    outcome = scenes.GuestMigration(source, destination, "vm").run()

    unknown = [check.error for check in checks if check.result == "unknown"]
    assert [type(error) for error in unknown] == [exception.KernelUnknown]
    assert (outcome.result, outcome.warnings) == ("migrated", [])


def test_new_mdevs_that_udev_notices_late():
    """The migration waits until the host lists them."""
    scene = scenes.Scene(_kinds(2))
    scene.there.udev_lag = 3

    outcome = scene.migrate()

    assert scene.missed(outcome) == []


def test_parent_that_refuses_a_type_is_planned_around():
    """A virtual function of a full card is skipped for another card's."""
    full, other = ("card-1", 0), ("card-2", 1)
    scene = scenes.Scene(
        ["nvidia-11"],
        source_parents=[
            testing.SriovParent("pci_0000_01_00_0", ["nvidia-11"])
        ],
        destination_parents=[
            testing.SriovParent("pci_0000_02_00_4", ["nvidia-11"], full),
            testing.SriovParent("pci_0000_02_00_5", ["nvidia-11"], full),
            testing.SriovParent("pci_0000_03_00_4", ["nvidia-11"], other),
        ],
    )

    outcome = scene.migrate()

    parents = [mdev.parent for mdev in scene.there.mdevs().values()]
    assert parents == ["pci_0000_03_00_4"]
    assert scene.missed(outcome) == []


def test_source_uri_with_a_separate_peer_uri():
    """The source's daemon gets the URI that it reaches the peer by."""
    scene = scenes.Scene(["mtty-1"])
    scene.there.uris += ("qemu+tcp://10.77.0.2/system",)

    outcome = scene.migrate(
        options=Options(peer_uri="qemu+tcp://10.77.0.2/system")
    )

    assert outcome.result == "migrated"


def test_steps_are_entered_in_order_and_timed():
    """An observer hears each step once, in the order of the table."""
    scene = scenes.Scene(["mtty-1"])
    heard = []

    class Listener(scenes.Silent):
        def step(self, step, detail):
            heard.append(step)

    outcome = scene.migrate(observer=Listener())

    assert heard == [step for step in Step if step is not Step.CONNECT]
    assert list(outcome.timings) == heard


def test_two_guests_with_the_same_types():
    """Each gets mdevs of its own."""
    scene = scenes.Scene(["mtty-1"], ["mtty-1"])
    scene.here.add_mdev(builders.uuid(9), "mtty-1")
    scene.here.add_guest("vm9", builders.instance(9), [builders.uuid(9)])

    outcomes = [scene.migrate(), scene.migrate("vm9")]

    assert [outcome.result for outcome in outcomes] == ["migrated"] * 2
    assert scene.group.violations() == []


def _shared(name):
    """Return a card of 12 units whose large type takes six of them."""
    offered = [
        testing.OfferedType("nvidia-1", "small", 1),
        testing.OfferedType("nvidia-6", "large", 6),
    ]
    return testing.SharedParent(name, offered, 12)


@pytest.mark.parametrize("step", [1, -1])
def test_room_that_was_promised_too_much_is_planned_around(step):
    """Where the numbers told too little, creation tells: another card.

    Whichever of the mdevs is the one that was created last and refused.
    """
    kinds = ["nvidia-1", "nvidia-6", "nvidia-6"]
    scene = scenes.Scene(
        kinds,
        source_parents=[
            testing.SharedParent(
                "pci_0000_01_00_0", _shared("x").types.values(), 99
            )
        ],
        destination_parents=[
            _shared("pci_0000_02_00_0"),
            _shared("pci_0000_03_00_0"),
        ],
    )
    uuids = map(builders.uuid, itertools.count(0xF00, step))

    outcome = GuestMigration(
        scene.host(scene.here),
        replace(scene.destination(), mint=lambda: next(uuids)),
        "vm",
    ).run()

    assert scene.missed(outcome) == []


def test_cards_that_serve_one_type_each():
    """Two types go to two cards, though one offers both."""
    cards = {"nvidia-11": "pci_0000_01_00_0", "nvidia-12": "pci_0000_01_00_1"}
    scene = scenes.Scene(
        cards,
        source_parents=[
            testing.NvidiaParent("pci_0000_01_00_0", {"nvidia-11": 4}),
            testing.NvidiaParent("pci_0000_01_00_1", {"nvidia-12": 4}),
        ],
        destination_parents=[
            testing.NvidiaParent(
                "pci_0000_02_00_0", {"nvidia-11": 4, "nvidia-12": 2}
            ),
            testing.NvidiaParent("pci_0000_03_00_0", {"nvidia-11": 4}),
        ],
    )

    outcome = scene.migrate()

    assert scene.missed(outcome) == []


def test_unknown_kernels_are_no_news():
    """A remote host never tells its kernel: `check` says so, once a side."""
    scene = scenes.Scene(["mtty-1"])
    hosts = [
        libvirt_host.LibvirtHost(host.uris[0], opener=scene.connect)
        for host in (scene.here, scene.there)
    ]
    place = service.MdevMigration(hosts[1], limits=scene.limits)

    report = GuestCheck(hosts[0], place, "vm").check()
    outcome = GuestMigration(hosts[0], place, "vm").run()

    unknown = [check for check in report.checks if check.result == "unknown"]
    assert [(c.name, c.side) for c in unknown] == [
        ("kernel-version", "source"),
        ("kernel-version", "destination"),
    ]
    assert (outcome.result, outcome.warnings) == ("migrated", [])
