# SPDX-License-Identifier: Apache-2.0
"""Do simulated parents and mdevs behave as libvirt's do?"""

import pathlib

import libvirt
import pytest
from lxml import etree

from mdev_migrate import testing
from mdev_migrate.testing import engine

DATA = pathlib.Path(__file__).parents[1] / "data" / "mtty"
MDEV_A = "55555555-5555-4555-8555-555555555555"
MDEV_B = "33333333-3333-4333-8333-333333333333"
GUEST = "aaaaaaaa-0000-4000-8000-000000000002"
CARD = "pci_0000_06_00_0"


def one_host(*parents):
    """Return a host with the given parents: one mtty if none is given."""
    group = testing.SimulatedGroup()
    return group.add_host("host-a", parents or [testing.MttyParent()])


def canonical(document):
    """Return a document free of indentation and quoting style."""
    parser = etree.XMLParser(remove_blank_text=True)
    return etree.tostring(etree.fromstring(document, parser), method="c14n")


def available(connection, parent):
    """Return the available instances of a parent, by mdev type."""
    document = connection.nodeDeviceLookupByName(parent).XMLDesc()
    return {
        offered.get("id"): int(offered.findtext("availableInstances"))
        for offered in etree.fromstring(document).iter("type")
    }


def create(connection, parent, mdev_type, uuid=MDEV_A):
    """Ask for an mdev."""
    request = testing.mdev_request(parent, mdev_type, uuid)
    return connection.nodeDeviceCreateXML(request)


class TestDocuments:
    def test_parent_looks_as_on_a_real_host(self):
        """With one mdev of each type, it is the captured document."""
        host = one_host()
        host.add_mdev(MDEV_B, "mtty-2")
        host.add_mdev(MDEV_A, "mtty-1")

        parent = host.open().nodeDeviceLookupByName("mtty_mtty")

        captured = (DATA / "parent.xml").read_text()
        assert canonical(parent.XMLDesc()) == canonical(captured)

    @pytest.mark.parametrize(
        ("uuid", "mdev_type", "group"),
        [(MDEV_B, "mtty-2", "0"), (MDEV_A, "mtty-1", "1")],
    )
    def test_mdev_looks_as_on_a_real_host(self, uuid, mdev_type, group):
        """But for the number of its IOMMU group, it is as captured."""
        host = one_host()

        device = create(host.open(), "mtty_mtty", mdev_type, uuid)

        name = f"mdev_{uuid.replace('-', '_')}.xml"
        captured = (DATA / name).read_text()
        ours = device.XMLDesc().replace('number="1"', f'number="{group}"')
        assert canonical(ours) == canonical(captured)

    def test_inactive_mdev_looks_as_on_a_real_host(self):
        """It has neither a path nor a driver."""
        host = one_host()
        name = host.add_mdev(MDEV_A, "mtty-1", active=False)

        device = host.open().nodeDeviceLookupByName(name)

        captured = (DATA / "mdev-defined.xml").read_text()
        assert canonical(device.XMLDesc()) == canonical(captured)

    def test_mdev_destroyed_without_libvirt_looks_as_on_a_real_host(self):
        """Libvirt lists it as nothing at all, and without its type."""
        host = one_host()
        host.add_mdev(MDEV_A, "mtty-1")
        host.lose_mdev(MDEV_A)

        (device,) = host.open().listAllDevices(
            libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV
        )

        captured = (DATA / "mdev-half-known.xml").read_text()
        assert canonical(device.XMLDesc()) == canonical(captured)
        assert not device.isActive()
        assert not device.isPersistent()

    def test_pci_parent_is_parsed_by_libvirt(self):
        """A PCI parent's document is one that libvirt itself can read."""
        host = one_host(testing.NvidiaParent(CARD, {"nvidia-11": 4}))
        document = host.open().nodeDeviceLookupByName(CARD).XMLDesc()

        parsed = engine.open_test_driver(document)

        caps = libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV_TYPES
        assert [d.name() for d in parsed.listAllDevices(caps)] == [CARD]

    def test_attributes_are_kept(self):
        """What an mdev was created with is in its document."""
        host = one_host()
        host.add_mdev(MDEV_A, "mtty-1", attributes={"frl_config": "60"})

        (device,) = host.open().listAllDevices(
            libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV
        )

        assert '<attr name="frl_config" value="60"/>' in device.XMLDesc()


class TestCapacity:
    def test_mtty_types_share_their_ports(self):
        """A two-port mdev takes two instances of the one-port type."""
        connection = one_host().open()

        create(connection, "mtty_mtty", "mtty-2")

        assert available(connection, "mtty_mtty") == {
            "mtty-1": 22,
            "mtty-2": 11,
        }

    def test_nvidia_card_serves_one_type_at_a_time(self):
        """Once a type is there, the others have no instance left."""
        card = testing.NvidiaParent(CARD, {"nvidia-11": 4, "nvidia-12": 2})
        connection = one_host(card).open()

        create(connection, CARD, "nvidia-11")

        assert available(connection, CARD) == {
            "nvidia-11": 3,
            "nvidia-12": 0,
        }

    def test_capacity_comes_back_on_destroy(self):
        """A destroyed mdev leaves the parent as it was before."""
        card = testing.NvidiaParent(CARD, {"nvidia-11": 4, "nvidia-12": 2})
        connection = one_host(card).open()

        create(connection, CARD, "nvidia-11").destroy()

        assert available(connection, CARD) == {
            "nvidia-11": 4,
            "nvidia-12": 2,
        }

    def test_full_sriov_card_refuses_what_its_function_offers(self):
        """A virtual function may promise what the card cannot give."""
        functions = [
            testing.SriovParent(f"pci_0000_06_00_{n}", ["nvidia-11"], ("a", 1))
            for n in (4, 5)
        ]
        connection = one_host(*functions).open()
        create(connection, functions[0].name, "nvidia-11", MDEV_A)

        with pytest.raises(libvirt.libvirtError, match="No space left"):
            create(connection, functions[1].name, "nvidia-11", MDEV_B)

        assert available(connection, functions[1].name) == {"nvidia-11": 1}


class TestCreate:
    @pytest.mark.parametrize(
        ("parent", "mdev_type", "code", "text"),
        [
            (
                "pci_0",
                "mtty-1",
                libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
                "invalid parent device 'pci_0'",
            ),
            (
                "mtty_mtty",
                "mtty-9",
                libvirt.VIR_ERR_INTERNAL_ERROR,
                "Error: Parent mtty does not support mdev type mtty-9",
            ),
            (
                "mtty_mtty",
                "mtty-2",
                libvirt.VIR_ERR_INTERNAL_ERROR,
                "Error: No available instances of mtty-2 on mtty",
            ),
        ],
    )
    def test_what_cannot_be_made_is_refused_as_on_a_real_host(
        self, parent, mdev_type, code, text
    ):
        """Unknown parent, unknown type, no instance left."""
        connection = one_host(testing.MttyParent(ports=1)).open()

        with pytest.raises(libvirt.libvirtError, match=text) as refusal:
            create(connection, parent, mdev_type)

        assert refusal.value.get_error_code() == code

    def test_a_uuid_exists_once(self):
        """The UUID of an mdev that exists is refused."""
        connection = one_host().open()
        create(connection, "mtty_mtty", "mtty-1")

        with pytest.raises(libvirt.libvirtError, match="already exists"):
            create(connection, "mtty_mtty", "mtty-1")

    @pytest.mark.parametrize(
        "document",
        ["<device", "<device/>", "<domain/>", "<device><parent>p</parent>"],
    )
    def test_what_libvirt_cannot_parse_is_refused(self, document):
        """A broken document is an error from libvirt itself."""
        connection = one_host().open()

        with pytest.raises(libvirt.libvirtError):
            connection.nodeDeviceCreateXML(document)

    def test_a_uuid_is_minted(self):
        """An mdev without a wish for a UUID gets one."""
        host = one_host()

        host.open().nodeDeviceCreateXML(
            "<device><parent>mtty_mtty</parent>"
            "<capability type='mdev'><type id='mtty-1'/></capability></device>"
        )

        assert len(host.mdevs()) == 1

    def test_a_new_mdev_may_be_noticed_late(self):
        """With a lag of two, the third list is the first to have it."""
        host = one_host()
        host.udev_lag = 2
        connection = host.open()
        create(connection, "mtty_mtty", "mtty-1")

        caps = libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV
        counts = [len(connection.listAllDevices(caps)) for _ in range(3)]

        assert counts == [0, 0, 1]


class TestDestroy:
    def test_a_running_guest_keeps_its_mdev(self):
        """An mdev that a guest has open is not destroyed."""
        host = one_host()
        name = host.add_mdev(MDEV_A, "mtty-1")
        host.add_guest("vm", GUEST, [MDEV_A])
        device = host.open().nodeDeviceLookupByName(name)

        with pytest.raises(libvirt.libvirtError, match="device in use"):
            device.destroy()

        assert MDEV_A in host.mdevs()

    def test_a_destroyed_mdev_is_not_found(self):
        """What is gone cannot be looked up."""
        connection = one_host().open()
        device = create(connection, "mtty_mtty", "mtty-1")
        device.destroy()

        with pytest.raises(libvirt.libvirtError) as error:
            connection.nodeDeviceLookupByName(device.name())

        assert error.value.get_error_code() == libvirt.VIR_ERR_NO_NODE_DEVICE

    def test_destroying_it_twice_fails_as_on_a_real_host(self):
        """Libvirt trips over the mdev's files, which are gone."""
        connection = one_host().open()
        device = create(connection, "mtty_mtty", "mtty-1")
        device.destroy()

        with pytest.raises(libvirt.libvirtError, match="iommu_group") as error:
            device.destroy()

        assert error.value.get_error_code() == libvirt.VIR_ERR_SYSTEM_ERROR
        assert f"/{MDEV_A}/" in str(error.value)


class TestDefined:
    def test_a_defined_mdev_is_inactive_until_created(self):
        """It is listed as inactive, then as active."""
        host = one_host()
        name = host.add_mdev(MDEV_A, "mtty-1", persistent=True, active=False)
        device = host.open().nodeDeviceLookupByName(name)
        before = device.isActive(), device.isPersistent()

        device.create()

        assert before == (0, 1)
        assert (device.isActive(), device.isPersistent()) == (1, 1)

    def test_a_destroyed_mdev_stays_defined(self):
        """Destroying a defined mdev only stops it."""
        host = one_host()
        name = host.add_mdev(MDEV_A, "mtty-1", persistent=True)
        device = host.open().nodeDeviceLookupByName(name)

        device.destroy()

        assert (device.isActive(), device.isPersistent()) == (0, 1)

    def test_autostart_needs_a_definition(self):
        """A transient mdev cannot start by itself; a defined one can."""
        host = one_host()
        defined = host.add_mdev(MDEV_A, "mtty-1", persistent=True)
        transient = host.add_mdev(MDEV_B, "mtty-1")
        connection = host.open()
        connection.nodeDeviceLookupByName(defined).setAutostart(1)

        with pytest.raises(libvirt.libvirtError, match="transient"):
            connection.nodeDeviceLookupByName(transient).setAutostart(1)

        assert connection.nodeDeviceLookupByName(defined).autostart() == 1

    def test_one_uuid_may_be_defined_under_two_parents(self):
        """Then two node devices have the same UUID, as on a real host."""
        host = one_host(testing.MttyParent(), testing.MttyParent("mtty_b"))
        for parent in ("mtty_mtty", "mtty_b"):
            host.add_mdev(
                MDEV_A, "mtty-1", parent, persistent=True, active=False
            )

        devices = host.open().listAllDevices(
            libvirt.VIR_CONNECT_LIST_NODE_DEVICES_INACTIVE
        )

        assert sorted(d.parent() for d in devices) == ["mtty_b", "mtty_mtty"]


def test_a_parent_is_no_persistent_device():
    """Of the devices that are no mdevs, only the computer is."""
    connection = one_host().open()

    facts = {
        name: (device.isActive(), device.isPersistent(), device.autostart())
        for name in ("computer", "mtty_mtty")
        for device in [connection.nodeDeviceLookupByName(name)]
    }

    assert facts == {"computer": (1, 1, 0), "mtty_mtty": (1, 0, 0)}


def test_events_tell_what_became_of_a_device():
    """Creation and destruction reach who asked for them."""
    connection = one_host().open()
    seen = []
    connection.nodeDeviceEventRegisterAny(
        None,
        libvirt.VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE,
        lambda _conn, device, event, _detail, opaque: seen.append(
            (device.name(), event, opaque)
        ),
        "mine",
    )

    name = create(connection, "mtty_mtty", "mtty-1").name()
    connection.nodeDeviceLookupByName(name).destroy()

    assert seen == [
        (name, libvirt.VIR_NODE_DEVICE_EVENT_CREATED, "mine"),
        (name, libvirt.VIR_NODE_DEVICE_EVENT_DELETED, "mine"),
    ]
