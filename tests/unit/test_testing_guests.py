# SPDX-License-Identifier: Apache-2.0
"""Do simulated guests start, stop and look as libvirt's do?"""

import pathlib

import libvirt
import pytest
from lxml import etree

from mdev_migrate import testing

DATA = pathlib.Path(__file__).parents[1] / "data" / "mtty"
MDEV_A = "55555555-5555-4555-8555-555555555555"
MDEV_B = "33333333-3333-4333-8333-333333333333"
GUEST = "aaaaaaaa-0000-4000-8000-000000000002"
OTHER = "aaaaaaaa-0000-4000-8000-000000000003"
QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"


@pytest.fixture
def host():
    """Give a host with two mdevs and no guest."""
    host, _ = testing.two_hosts()
    host.add_mdev(MDEV_A, "mtty-1")
    host.add_mdev(MDEV_B, "mtty-2")
    return host


@pytest.mark.parametrize("name", ["guest-migratable", "guest-inactive"])
def test_a_captured_guest_keeps_what_matters(host, name):
    """Type, mdevs, addresses and QEMU overrides survive the test driver."""
    captured = (DATA / f"{name}.xml").read_text()
    host.add_guest("vm2", GUEST, xml=captured)

    flags = libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE
    document = host.open().lookupByName("vm2").XMLDesc(flags)

    ours, theirs = etree.fromstring(document), etree.fromstring(captured)
    assert ours.get("type") == "qemu"
    for path in ("devices/hostdev", f"{QEMU}override"):
        assert [
            etree.tostring(e, method="c14n", exclusive=True).split()
            for e in ours.iterfind(path)
        ] == [
            etree.tostring(e, method="c14n", exclusive=True).split()
            for e in theirs.iterfind(path)
        ]


@pytest.mark.parametrize(
    ("flags", "aliases"),
    [
        (0, 1),
        (libvirt.VIR_DOMAIN_XML_MIGRATABLE, 0),
        (libvirt.VIR_DOMAIN_XML_INACTIVE, 0),
    ],
)
def test_only_the_live_document_has_aliases(host, flags, aliases):
    """Host devices are named in the live document alone."""
    host.add_guest("vm", GUEST, [MDEV_A])

    document = host.open().lookupByName("vm").XMLDesc(flags)

    assert document.count("alias") == aliases


class TestStart:
    def test_a_missing_mdev_is_refused(self, host):
        """A guest does not start without its mdev."""
        missing = "99999999-9999-4999-8999-999999999999"

        with pytest.raises(libvirt.libvirtError, match="not found") as error:
            host.add_guest("vm", GUEST, [missing])

        code = error.value.get_error_code()
        assert code == libvirt.VIR_ERR_DEVICE_MISSING
        assert not host.running_guests()

    def test_a_used_mdev_is_refused(self, host):
        """A guest does not start on an mdev that another has open."""
        host.add_guest("vm", GUEST, [MDEV_A])

        with pytest.raises(libvirt.libvirtError, match="domain vm"):
            host.add_guest("other", OTHER, [MDEV_A])

        assert host.used_mdevs() == {MDEV_A: "vm"}

    def test_a_stopped_guest_leaves_its_mdev(self, host):
        """After a guest has stopped, another may have its mdev."""
        host.add_guest("vm", GUEST, [MDEV_A])
        host.open().lookupByName("vm").destroy()

        host.add_guest("other", OTHER, [MDEV_A])

        assert host.used_mdevs() == {MDEV_A: "other"}

    def test_a_transient_guest_is_gone_when_stopped(self, host):
        """Nothing is left of it, and its object says so."""
        host.add_guest("vm", GUEST, [MDEV_A], persistent=False)
        guest = host.open().lookupByName("vm")
        guest.destroy()

        with pytest.raises(libvirt.libvirtError) as error:
            guest.isActive()

        assert error.value.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN

    def test_the_number_of_a_guest_that_is_gone(self, host):
        """The object answers by itself: that is no call, and cannot fail."""
        host.add_guest("vm", GUEST, [MDEV_A], persistent=False)
        guest = host.open().lookupByName("vm")
        guest.destroy()

        assert guest.ID() == -1

    def test_a_broken_document_is_libvirts_error(self, host):
        """What libvirt cannot parse is refused by libvirt itself."""
        connection = host.open()

        with pytest.raises(libvirt.libvirtError) as error:
            connection.defineXML("<domain")

        assert error.value.get_error_code() == libvirt.VIR_ERR_XML_DETAIL


@pytest.mark.parametrize(
    "look_up",
    [
        lambda connection: connection.lookupByName("vm"),
        lambda connection: connection.lookupByUUIDString(GUEST),
    ],
)
def test_an_unknown_guest_is_not_found(host, look_up):
    """Neither by name nor by UUID."""
    with pytest.raises(libvirt.libvirtError) as error:
        look_up(host.open())

    assert error.value.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN


def test_facts_are_told_as_libvirt_tells_them(host):
    """Versions come packed, the host's UUID in its capabilities."""
    host.libvirt_version = (10, 6, 0)
    connection = host.open()

    capabilities = etree.fromstring(connection.getCapabilities())

    assert connection.getLibVersion() == 10_006_000
    assert capabilities.findtext("host/uuid") == host.host_uuid


def test_a_closed_connection_is_no_connection(host):
    """Its calls are refused as libvirt refuses them."""
    connection = host.open()
    connection.close()

    with pytest.raises(libvirt.libvirtError) as error:
        connection.getHostname()

    assert error.value.get_error_code() == libvirt.VIR_ERR_INVALID_CONN
    assert "virConnectGetHostname" in str(error.value)


def test_what_is_no_uuid_is_refused_by_libvirt(host):
    """It is not looked for."""
    with pytest.raises(libvirt.libvirtError) as error:
        host.open().lookupByUUIDString("none")

    assert error.value.get_error_code() == libvirt.VIR_ERR_INVALID_ARG


class TestPause:
    def test_paused_and_resumed(self, host):
        """Somebody may pause a guest, and let it go on."""
        host.add_guest("vm", GUEST)
        guest = host.open().lookupByName("vm")

        guest.suspend()
        paused = guest.state()
        guest.resume()

        assert paused == [
            libvirt.VIR_DOMAIN_PAUSED,
            libvirt.VIR_DOMAIN_PAUSED_USER,
        ]
        assert guest.state()[0] == libvirt.VIR_DOMAIN_RUNNING
