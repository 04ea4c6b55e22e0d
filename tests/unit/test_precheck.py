# SPDX-License-Identifier: Apache-2.0
"""Is who cannot take part refused, and is not knowing never a pass?"""

import dataclasses

import pytest

from mdev_migrate import exception, model
from mdev_migrate.core import kernels, precheck
from tests import builders

HOST = model.HostFacts(
    "host-b",
    builders.instance(0xB),
    libvirt=model.Version(11, 3, 0),
    qemu=model.Version(10, 0, 13),
    kernel="6.12.0-amd64",
)
RULES = {
    "libvirt": (
        precheck.check_libvirt,
        precheck.MIN_LIBVIRT,
        exception.LibvirtTooOld,
    ),
    "qemu": (precheck.check_qemu, precheck.MIN_QEMU, exception.QemuTooOld),
    "kernel": (
        precheck.check_kernel,
        kernels.MIN_MAINLINE,
        exception.KernelTooOld,
    ),
}
ABOVE = [(0, 0, 1), (0, 1, 0), (1, 0, 0)]


def _running(component, version):
    if component == "kernel" and version is not None:
        version = str(version)
    return dataclasses.replace(HOST, **{component: version})


def _below(version):
    """Return the versions just below one, with high other fields."""
    major, minor, _ = version
    lower = [model.Version(major - 1, 99, 99)]
    if minor:
        lower.append(model.Version(major, minor - 1, 999))
    return lower


def test_borders():
    """The versions needed are those of the documentation."""
    borders = (
        precheck.MIN_LIBVIRT,
        precheck.MIN_QEMU,
        kernels.MIN_MAINLINE,
    )

    assert list(map(str, borders)) == ["8.6.0", "8.1.0", "5.18.0"]


@pytest.mark.parametrize("component", RULES)
def test_version_at_the_border(component):
    """The oldest version that will do passes, and the text says so."""
    rule, needed, _ = RULES[component]

    text = rule("source", _running(component, needed))

    assert f"{needed} on host-b, {needed} needed" in text


@pytest.mark.parametrize("component", RULES)
@pytest.mark.parametrize("more", ABOVE)
def test_version_above_the_border(component, more):
    """A later version passes, whichever field is greater."""
    rule, needed, _ = RULES[component]
    later = model.Version(*map(sum, zip(needed, more, strict=True)))

    text = rule("source", _running(component, later))

    assert str(later) in text


@pytest.mark.parametrize("component", RULES)
def test_version_below_the_border(component):
    """An older version is refused, with found and needed as facts."""
    rule, needed, kind = RULES[component]
    for version in _below(needed):
        with pytest.raises(kind) as caught:
            rule("source", _running(component, version))

        side, host, found, least = caught.value.args
        assert (side, host, least) == ("source", "host-b", needed)
        assert str(found) == str(version)


def test_unknown_kernel_is_not_a_pass():
    """A remote host's kernel is unknown, neither passed nor refused."""
    checks = precheck.check_versions("source", _running("kernel", None))

    assert [check.result for check in checks] == [
        "passed",
        "passed",
        "unknown",
    ]


def test_unknown_kernel_refuses_nothing():
    """Not knowing does not keep a guest from migrating."""
    checks = precheck.check_versions("source", _running("kernel", None))

    precheck.refuse(checks)

    assert isinstance(checks[2].error, exception.KernelUnknown)


def test_vendor_kernel_that_nobody_knows():
    """What a vendor brought into an old number is unknown, and passes."""
    checks = precheck.check_versions(
        "source", _running("kernel", "5.14.0-362.8.1.el9_3.x86_64")
    )

    precheck.refuse(checks)

    assert checks[2].result == "unknown"
    assert isinstance(checks[2].error, exception.VendorKernelUnknown)
    assert "5.14.0-362.8.1.el9_3.x86_64" in checks[2].detail


def test_vendor_kernel_that_is_known():
    """The platform that vendors of vGPUs support passes by its release."""
    text = precheck.check_kernel(
        "source", _running("kernel", "5.14.0-570.12.1.el9_6.x86_64")
    )

    assert "5.14.0-570.12.1.el9_6.x86_64" in text


def test_every_version_is_checked():
    """One refusal does not hide the next."""
    old = dataclasses.replace(
        HOST,
        **dict.fromkeys(("libvirt", "qemu"), model.Version(1, 0, 0)),
        kernel="1.0.0",
    )

    checks = precheck.check_versions("destination", old)

    assert [(c.name, c.side, c.result) for c in checks] == [
        (f"{component}-version", "destination", "refused")
        for component in RULES
    ]


def test_first_refusal_is_raised():
    """Of many refusals the first is the one to tell."""
    old = dataclasses.replace(
        HOST, libvirt=model.Version(1, 0, 0), qemu=model.Version(1, 0, 0)
    )
    checks = precheck.check_versions("source", old)

    with pytest.raises(exception.LibvirtTooOld):
        precheck.refuse(checks)


def test_passes_are_not_refused():
    """Without a refusal nothing is raised."""
    checks = precheck.check_versions("source", HOST)

    precheck.refuse(checks)

    assert {check.result for check in checks} == {"passed"}


def test_attempt_lets_other_errors_out():
    """A host that cannot be asked is no result of a check."""

    def rule():
        raise exception.HostUnreachable("qemu:///system", "gone")

    with pytest.raises(exception.HostUnreachable):
        precheck.attempt("any", "source", rule)


def test_two_hosts():
    """Hosts with different UUIDs are different, even with one name."""
    other = dataclasses.replace(HOST, host_uuid=builders.instance(0xC))

    text = precheck.check_hosts_differ(HOST, other)

    assert text == "host-b and host-b are different hosts"


def test_one_host_under_two_names():
    """Hosts with one UUID are one host, whatever they are called."""
    other = dataclasses.replace(HOST, name="alias")

    with pytest.raises(exception.SameHost, match="host-b and destination"):
        precheck.check_hosts_differ(HOST, other)


def test_running_guest():
    """A running guest may be migrated."""
    text = precheck.check_running(builders.guest(), "host-a")

    assert text == "guest vm is running on host-a"


@pytest.mark.parametrize("active", [True, False])
def test_guest_that_does_not_run(active):
    """Paused or shut off, there is nothing to live-migrate."""
    guest = builders.guest(active=active, running=False)

    with pytest.raises(exception.GuestNotRunning):
        precheck.check_running(guest, "host-a")


@pytest.mark.parametrize(
    ("name", "uuid", "active", "refused"),
    [
        ("other", builders.instance(9), True, False),
        ("other", builders.instance(9), False, False),
        ("vm", builders.instance(9), False, True),
        ("vm", builders.instance(9), True, True),
        ("other", builders.INSTANCE, False, True),
        ("other", builders.INSTANCE, True, True),
        ("vm", builders.INSTANCE, False, False),
        ("vm", builders.INSTANCE, True, True),
    ],
)
def test_guest_known_at_the_destination(name, uuid, active, refused):
    """Only the guest's own definition may be there, and not run."""
    other = builders.guest(name, instance_uuid=uuid, active=active)
    there = builders.inventory(guests=[other])
    guest = builders.guest()

    check = precheck.attempt(
        "guest-unknown",
        "destination",
        lambda: precheck.check_unknown_there(guest, there),
    )

    assert check.result == ("refused" if refused else "passed")


@pytest.mark.parametrize(
    "blockers",
    [
        None,
        "Migration is currently not supported with vIOMMU enabled",
        "some other; VFIO device does not support migration with vIOMMU",
    ],
)
def test_viommu_is_refused(blockers):
    """QEMU names it, or nobody could be asked."""
    with pytest.raises(exception.GuestHasViommu, match="intel"):
        precheck.check_viommu(builders.guest(), "intel", blockers)


@pytest.mark.parametrize("blockers", ["", "invtsc flag"])
def test_viommu_blocks_nothing(blockers):
    """QEMU was asked and is believed, whatever else it names."""
    text = precheck.check_viommu(builders.guest(), "intel", blockers)

    assert "(intel)" in text


def test_no_viommu():
    """A guest without a virtual IOMMU passes."""
    text = precheck.check_viommu(builders.guest(), None, None)

    assert text == "guest vm has no virtual IOMMU"


def _named(*numbers):
    return [
        model.GuestMdev(builders.uuid(number), "vfio-pci")
        for number in numbers
    ]


def test_no_pending_change():
    """The order of the documents does not matter."""
    assert precheck.pending_change(_named(1, 2), _named(2, 1), ()) == ""


def test_pending_change_in_words():
    """What is gone, what comes, and what nobody knows."""
    text = precheck.pending_change(
        _named(1, 2), _named(2, 3, 4), [builders.uuid(4)]
    )

    assert text == (
        "when the guest starts next, it does so without "
        f"{builders.uuid(1)}; with {builders.uuid(3)}; with, as its XML says "
        f"and no host lists, {builders.uuid(4)}"
    )


def test_pending_mdevs():
    """They are wanted, active or not, if the host lists them."""
    listed = [
        builders.mdev(1),
        builders.mdev(2, "mtty-2", active=False, persistent=True),
    ]

    wanted, kept = precheck.pending_mdevs(
        _named(1), _named(1, 2, 3), builders.inventory([], listed)
    )

    assert kept == {builders.uuid(3)}
    assert wanted == (
        model.WantedMdev(
            builders.uuid(2),
            "mtty-2",
            "vfio-pci",
            (),
            persistent=True,
            live=False,
        ),
    )


def test_source_mdevs_in_guest_order():
    """Each asks for its type, device API, attributes and persistence."""
    listed = [
        builders.mdev(1, "mtty-1"),
        builders.mdev(
            2,
            "mtty-2",
            attributes=(("a", "b"),),
            persistent=True,
            autostart=True,
        ),
    ]
    source = builders.inventory([builders.mtty()], listed)

    wanted = precheck.source_mdevs(builders.guest(), _named(2, 1), source)

    assert wanted == (
        builders.want(
            2,
            "mtty-2",
            device_api="vfio-pci",
            attributes=(("a", "b"),),
            persistent=True,
            autostart=True,
        ),
        builders.want(1, "mtty-1", device_api="vfio-pci", attributes=()),
    )


@pytest.mark.parametrize("listed", [[], [builders.mdev(2, active=False)]])
def test_source_mdev_that_is_not_listed(listed):
    """Its type would be a guess: refused, never left out."""
    source = builders.inventory(mdevs=[builders.mdev(1), *listed])

    with pytest.raises(exception.GuestMdevNotListed) as caught:
        precheck.source_mdevs(builders.guest(), _named(1, 2), source)

    assert caught.value.uuids == {builders.uuid(2)}


def test_source_mdev_under_two_parents():
    """Which of them the guest has cannot be told: refused."""
    twice = [
        builders.mdev(1, parent="pci_1"),
        builders.mdev(1, parent="pci_2", active=False),
    ]
    source = builders.inventory(mdevs=twice)

    with pytest.raises(exception.MdevUnderTwoParents, match="pci_1, pci_2"):
        precheck.source_mdevs(builders.guest(), _named(1), source)


def test_guest_without_mdevs_wants_nothing():
    """A guest without mdevs has no source mdevs."""
    wanted = precheck.source_mdevs(builders.guest(), [], builders.inventory())

    assert wanted == ()


@pytest.mark.parametrize("side", ["source", "destination"])
def test_host_without_a_uuid(side):
    """Whether two hosts are one is not known if one tells no UUID."""
    nameless = dataclasses.replace(HOST, host_uuid="")
    hosts = (nameless, HOST) if side == "source" else (HOST, nameless)

    with pytest.raises(exception.HostUuidUnknown, match="does not tell"):
        precheck.check_hosts_differ(*hosts)
