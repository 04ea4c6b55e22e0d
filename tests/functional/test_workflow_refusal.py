# SPDX-License-Identifier: Apache-2.0
"""Is what cannot work refused before anything changes on either host?"""

import libvirt
import pytest

from mdev_migrate import exception, testing
from mdev_migrate.workflow import GuestCheck, Options
from tests import builders, scenes


def _remove_source_mdev(scene):
    """Leave a running guest whose mdev the host does not list."""
    mdevs = scene.here.devices._mdevs
    mdevs.clear()


def _list_twice(scene):
    """List the guest's mdev under a second parent, as only defined."""
    scene.here.devices.parents["mtty_b"] = testing.MttyParent("mtty_b")
    scene.here.add_mdev(
        scene.sources[0], "mtty-1", "mtty_b", persistent=True, active=False
    )


def _fill_destination(scene):
    for number in range(24):
        scene.there.add_mdev(builders.uuid(0xC00 + number), "mtty-1")
    held = [builders.uuid(0xC00 + number) for number in range(24)]
    scene.there.add_guest("full", builders.instance(7), held)


def _same_name_there(scene):
    scene.there.add_guest("vm", builders.instance(8))


def _same_uuid_there(scene):
    scene.there.add_guest("other", builders.INSTANCE, running=False)


def _old(host, component, version):
    def set_version(scene):
        setattr(getattr(scene, host), f"{component}_version", version)

    return set_version


def _block(scene):
    state = scene.here.guests.state(builders.INSTANCE)
    state.blockers = ("VFIO migration is not supported in kernel",)


def _on_its_way(scene):
    scene.here.guests.switch_over(builders.INSTANCE)


def _shut_off(scene):
    scene.here.open().lookupByName("vm").destroy()


def _same_host(scene):
    scene.there.host_uuid = scene.here.host_uuid


def _other_types(scene):
    scene.there.devices.parents = {
        "pci_0000_06_00_0": testing.NvidiaParent(
            "pci_0000_06_00_0", {"nvidia-11": 4}
        )
    }


def _other_device_api(scene):
    offered = testing.OfferedType("mtty-1", "x", 1, "vfio-ccw")
    scene.there.devices.parents = {
        "pci_0000_06_00_0": testing.SharedParent(
            "pci_0000_06_00_0", [offered], 24
        )
    }


REFUSALS = {
    "source mdev not listed": (
        _remove_source_mdev,
        exception.GuestMdevNotListed,
    ),
    "source mdev twice": (_list_twice, exception.MdevUnderTwoParents),
    "destination full": (_fill_destination, exception.TooFewMdevs),
    "name there": (_same_name_there, exception.GuestOnDestination),
    "uuid there": (_same_uuid_there, exception.GuestOnDestination),
    "old destination libvirt": (
        _old("there", "libvirt", (8, 5, 9)),
        exception.LibvirtTooOld,
    ),
    "old source qemu": (
        _old("here", "qemu", (8, 0, 9)),
        exception.QemuTooOld,
    ),
    "old destination qemu": (
        _old("there", "qemu", (7, 2, 9)),
        exception.QemuTooOld,
    ),
    "blocked": (_block, exception.MigrationBlocked),
    "on its way": (_on_its_way, exception.GuestNotRunning),
    "shut off": (_shut_off, exception.GuestNotRunning),
    "same host": (_same_host, exception.SameHost),
    "no such type": (_other_types, exception.MdevTypeMissing),
    "other device API": (_other_device_api, exception.DeviceApiMissing),
}


@pytest.mark.parametrize(
    ("prepare", "kind"),
    REFUSALS.values(),
    ids=REFUSALS,
)
def test_refused_and_nothing_changed(prepare, kind):
    """The error is of its own kind; both hosts are as they were."""
    scene = scenes.Scene(["mtty-1"])
    prepare(scene)
    before = scene.snapshot()

    outcome = scene.migrate()

    assert (outcome.result, type(outcome.error)) == ("refused", kind)
    assert (scene.snapshot(), scene.claims()) == (before, ())


def test_oldest_versions_that_will_do():
    """The borders themselves pass, on both sides."""
    scene = scenes.Scene(["mtty-1"])
    for host in (scene.here, scene.there):
        host.libvirt_version, host.qemu_version = (8, 6, 0), (8, 1, 0)

    outcome = scene.migrate()

    assert outcome.result == "migrated"


def test_unknown_guest():
    """A typing error in the name is told with name and host."""
    scene = scenes.Scene(["mtty-1"])

    outcome = scene.migrate("no-such")

    assert outcome.result == "refused"
    assert str(outcome.error) == "host host-a: no guest 'no-such'"


def test_destination_unreachable():
    """It fails before anything is asked, and nothing changed."""
    scene = scenes.Scene(["mtty-1"])
    scene.there.stop_daemon()

    outcome = scene.migrate()

    scene.there.start_daemon()
    assert isinstance(outcome.error, exception.HostUnreachable)
    assert scene.broken_promises(outcome) == []


@pytest.mark.parametrize(
    "options",
    [
        Options(max_downtime_ms=0),
        Options(max_downtime_ms=2_000_001),
        Options(bandwidth=0),
        Options(timeout_s=-1),
    ],
)
def test_option_out_of_bounds(options):
    """It is refused before a host is asked."""
    scene = scenes.Scene(["mtty-1"])

    outcome = scene.migrate(options=options)

    assert isinstance(outcome.error, exception.OptionInvalid)
    assert scene.broken_promises(outcome) == []


VIOMMU = "Migration is currently not supported with vIOMMU enabled"


def _with_viommu(**facts):
    """Return a guest with a virtual IOMMU."""
    text = testing.guest_document("vm", builders.INSTANCE, [builders.uuid(1)])
    text = text.replace("<memballoon", "<iommu model='intel'/><memballoon")
    text = text.replace("<acpi/>", "<acpi/><ioapic driver='qemu'/>")
    return scenes.Scene(["mtty-1"], xml=text, **facts)


def test_viommu_that_blocks_nothing():
    """QEMU was asked, so what the XML says does not matter."""
    scene = _with_viommu()

    outcome = scene.migrate()

    assert scene.missed(outcome) == []


def test_viommu_blocks():
    """QEMU names it: refused, with a code of its own besides."""
    scene = _with_viommu(blockers=[VIOMMU])

    report = GuestCheck(
        scene.host(scene.here), scene.destination(), "vm"
    ).check()

    refused = {c.error.code for c in report.checks if c.result == "refused"}
    assert refused == {"migration-blocked", "guest-has-viommu"}


def test_viommu_and_nobody_to_ask():
    """Only then the document decides."""
    scene = _with_viommu()
    error = testing.libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "monitor")
    scene.group.faults.on("migrateToURI3", testing.fail(error))

    outcome = scene.migrate()

    assert isinstance(outcome.error, exception.GuestHasViommu)
    assert scene.broken_promises(outcome) == []


def test_every_refusal_is_in_the_report():
    """A check goes on after a refusal, so that all are seen at once."""
    scene = scenes.Scene(["mtty-1"])
    scene.here.qemu_version = (7, 2, 0)
    scene.there.qemu_version = (7, 2, 0)
    _other_types(scene)

    report = GuestCheck(
        scene.host(scene.here), scene.destination(), "vm"
    ).check()

    refused = [
        (check.name, check.side)
        for check in report.checks
        if check.result == "refused"
    ]
    assert refused == [
        ("qemu-version", "source"),
        ("qemu-version", "destination"),
        ("mdev-types", "destination"),
    ]


def test_check_changes_nothing():
    """A check that passes leaves both hosts as they were."""
    scene = scenes.Scene(["mtty-1", "mtty-2"], ["mtty-1"])
    check = GuestCheck(scene.host(scene.here), scene.destination(), "vm")

    report = check.check()

    assert report.allowed
    assert (scene.snapshot(), scene.claims()) == (scene.before, ())


def test_plan_and_difference():
    """The plan's pairs are what the difference shows, and only they."""
    scene = scenes.Scene(["mtty-1", "mtty-2"], ["mtty-1"])
    check = GuestCheck(scene.host(scene.here), scene.destination(), "vm")
    report = check.check()

    difference = check.difference(report)

    changed = [
        line.strip("+- ").removeprefix('<address uuid="').rstrip('/>" ')
        for line in difference.splitlines()[2:]
        if line[0] in "+-" and "address" in line
    ]
    pairs = report.target_mdevs
    assert sorted(changed) == sorted([*pairs, *pairs.values()])


def test_plan_of_a_refused_guest_is_empty():
    """Without a plan there are no target mdevs."""
    scene = scenes.Scene(["mtty-1"])
    _other_types(scene)

    report = GuestCheck(
        scene.host(scene.here), scene.destination(), "vm"
    ).check()

    assert (report.allowed, report.target_mdevs) == (False, {})
