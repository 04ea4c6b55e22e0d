# SPDX-License-Identifier: Apache-2.0
"""Is an mdev found that only an option for QEMU names?"""

from __future__ import annotations

import json
from xml.sax.saxutils import quoteattr

import pytest
from lxml import etree

from mdev_migrate.core import guest_xml
from tests import builders, standin

MDEV = builders.uuid(0xABC)
OTHER = builders.uuid(0xDEF)
QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
PATHS = [
    f"/sys/bus/mdev/devices/{MDEV}",
    f"/sys/bus/mdev/devices/{MDEV}/",
    f"/sys/bus/mdev/devices/{MDEV.upper()}",
    f"/sys/devices/pci0000:00/0000:00:02.0/{MDEV}",
    f"/sys/devices/virtual/mtty/mtty/{MDEV}",
    f"/sys/class/mdev_bus/0000:00:02.0/{MDEV}",
]


def _arguments(*values: str) -> str:
    args = "".join(f"<qemu:arg value={quoteattr(v)}/>" for v in values)
    return f"<qemu:commandline>{args}</qemu:commandline>"


def _property(name: str, value: str) -> str:
    return (
        "<qemu:override><qemu:device alias='hostdev0'><qemu:frontend>"
        f"<qemu:property name='{name}' type='string' value='{value}'/>"
        "</qemu:frontend></qemu:device></qemu:override>"
    )


def _options(path: str) -> dict[str, str]:
    """Return every way in which an option can name the mdev of a path."""
    as_json = {"driver": "vfio-pci", "id": "gpu", "sysfsdev": path}
    return {
        "last": _arguments("-device", f"vfio-pci,id=gpu,sysfsdev={path}"),
        "first": _arguments("-device", f"vfio-pci,sysfsdev={path},id=gpu"),
        "named driver": _arguments(
            "-device", f"sysfsdev={path},driver=vfio-pci,display=on"
        ),
        "iommufd": _arguments(
            "-object",
            "iommufd,id=iommufd0",
            "-device",
            f"vfio-pci,iommufd=iommufd0,sysfsdev={path}",
        ),
        "vfio-ap": _arguments("-device", f"vfio-ap,sysfsdev={path}"),
        "JSON": _arguments("-device", json.dumps(as_json)),
        "escaped JSON": _arguments(
            "-device", json.dumps(as_json).replace("/", "\\/")
        ),
        "JSON of numbers": _arguments(
            "-device",
            json.dumps(as_json)
            .replace("sysfsdev", "sysfs\\u0064ev")
            .replace("/", "\\u002F"),
        ),
        "nested JSON": _arguments("-device", json.dumps({"a": [as_json]})),
        "from where QEMU stands": _arguments(
            "-device", json.dumps(as_json | {"sysfsdev": path[1:]})
        ),
        "QEMU's JSON": _arguments(
            "-device",
            f"{{'driver': 'vfio-pci', 'sysfsdev': '{path[1:]}'}}",
        ),
        "QEMU's escaped JSON": _arguments(
            "-device",
            "{'sysfsdev': '" + path.replace("/", "\\u002f") + "'}",
        ),
        "set": _arguments("-set", f"device.hostdev0.sysfsdev={path}"),
        "override": _property("sysfsdev", path),
    }


def _domain(options: str, *, devices: str = "", prefix: str = "qemu") -> str:
    return (
        f"<domain type='kvm' xmlns:{prefix}='{QEMU}'><name>vm</name>"
        f"<uuid>{builders.INSTANCE}</uuid>"
        "<memory unit='MiB'>64</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64'>hvm</type></os>"
        f"<devices>{devices}</devices>"
        f"{options.replace('qemu:', f'{prefix}:')}</domain>"
    )


def _hostdev(uuid: str) -> str:
    return (
        "<hostdev mode='subsystem' type='mdev' model='vfio-pci'>"
        f"<source><address uuid='{uuid}'/></source></hostdev>"
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("way", _options(""))
def test_whatever_way(path, way):
    """The guest that a document describes holds it."""
    document = _domain(_options(path)[way])

    assert guest_xml.named_mdevs(document) == {MDEV}
    assert guest_xml.mdevs_by_options(document) == {MDEV}
    assert guest_xml.read_mdevs(document) == ()


def test_other_prefix():
    """The namespace counts, not what a document calls it."""
    document = _domain(_options(PATHS[0])["last"], prefix="q")

    assert guest_xml.mdevs_by_options(document) == {MDEV}


def test_several():
    """Hostdevs and options, of each more than one."""
    options = _options(PATHS[0])["last"] + _property(
        "sysfsdev", f"/sys/bus/mdev/devices/{OTHER}"
    )
    document = _domain(
        options, devices=_hostdev(builders.uuid(1)) + _hostdev(MDEV)
    )

    assert guest_xml.mdevs_by_options(document) == {MDEV, OTHER}
    assert guest_xml.named_mdevs(document) == {MDEV, OTHER, builders.uuid(1)}


@pytest.mark.parametrize(
    "options",
    [
        _arguments("-uuid", MDEV),
        _arguments("-drive", f"file=/srv/{MDEV}/disk.img,x=/sys/"),
        _arguments("-object", f"cgroup=/sys/fs/cgroup/machine/{MDEV}"),
        _arguments("-chardev", f"file,path=/srv/{MDEV}/log,note=sysfsdev"),
        _arguments().replace(">", f"><qemu:env value='{PATHS[0]}'/>", 1),
        f"<metadata>{_options(PATHS[0])['last']}</metadata>",
        _arguments("-smbios", f"type=1,uuid={MDEV}"),
        _arguments("-device", f"virtio-blk,serial={MDEV}"),
        _arguments("-drive", f"file=/var/lib/instances/{MDEV}/disk"),
        _arguments("-device", "vfio-pci,sysfsdev=/sys/bus/pci/devices/0"),
        _arguments("-device", f"vfio-pci,sysfsdev=/sys/devices/{MDEV}-old"),
        _property("x-enable-migration", "on"),
        "",
    ],
)
def test_no_mdev(options):
    """A UUID that is no device's is no mdev, and the guest a plain one."""
    assert guest_xml.named_mdevs(_domain(options)) == frozenset()


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (("-readconfig", "/etc/gpu.cfg"), "in a file of options"),
        (("--readconfig", "/etc/gpu.cfg"), "in a file of options"),
        (("-device", "vfio-pci,id=a,fd=7"), "as an open file"),
        (("-device", json.dumps({"fd": "7", "driver": "vfio-ap"})), "open"),
        (("-netdev", "tap,id=a,fd=7", "-device", "vfio-pci,host=1:0"), ""),
        (("-device", "virtio-blk,id=readconfig"), ""),
        ((), ""),
    ],
)
def test_what_is_told_elsewhere(arguments, where):
    """Where mdevs may be that no document names."""
    _, found = guest_xml.read_holdings(_domain(_arguments(*arguments)))

    assert where in found
    assert bool(found) is bool(where)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5_000, '"\\ud800"'])
def test_strange_json(text):
    """What is no device's does no harm."""
    assert guest_xml.named_mdevs(_domain(_arguments(text))) == frozenset()


def test_other_namespaces_and_words():
    """Notes about a guest give it no mdev."""
    note = (
        f"<metadata><n:note xmlns:n='x' sysfsdev='{PATHS[0]}'/></metadata>"
        f"<description>sysfsdev={PATHS[0]}</description>"
    )

    assert guest_xml.named_mdevs(_domain(note)) == frozenset()


class TestCompute:
    """Nova looks at hostdevs only; its mixin looks further."""

    @pytest.fixture
    def spare(self, cloud):
        """Return an mdev of the destination that Nova thinks is spare."""
        cloud.there.add_mdev(MDEV, standin.TYPE, standin.PARENT)
        return MDEV

    @pytest.fixture
    def coming(self, cloud):
        """Return the types of a guest that is about to come."""
        cloud.here.add_mdev(builders.uuid(1), standin.TYPE, standin.PARENT)
        return {builders.uuid(1): standin.TYPE}

    @pytest.mark.parametrize("way", _options(""))
    @pytest.mark.parametrize("running", [True, False])
    def test_not_given_to_a_migration(
        self, cloud, spare, coming, way, running
    ):
        """The other guest may run or be shut off."""
        path = f"/sys/bus/mdev/devices/{spare}"
        document = _domain(_options(path)[way])
        cloud.there.add_guest("vm", "", xml=document, running=running)

        data = cloud.check(standin.instance(3), types=coming)

        assert list(data.target_mdevs.values()) != [spare]

    @pytest.mark.parametrize("running", [True, False])
    def test_not_given_to_a_boot(self, cloud, spare, running):
        """Nova's own choice goes by the mixin's answer."""
        document = _domain(_options(PATHS[0])["last"])
        cloud.there.add_guest("vm", "", xml=document, running=running)

        chosen = cloud.destination._allocate_mdevs(standin.allocations())

        assert chosen != [spare]

    def test_inactive_document_only(self, cloud, spare, coming):
        """What a running guest is to start with next is its own."""
        cloud.there.add_guest("vm", builders.INSTANCE)
        inactive = etree.fromstring(
            cloud.there.open()
            .lookupByName("vm")
            .XMLDesc(2)  # VIR_DOMAIN_XML_INACTIVE
        )
        inactive.find("devices").append(etree.fromstring(_hostdev(spare)))
        cloud.there.open().defineXML(etree.tostring(inactive).decode())

        data = cloud.check(standin.instance(3), types=coming)

        assert list(data.target_mdevs.values()) != [spare]

    def test_what_does_not_exist_is_not_told(self, cloud):
        """Old releases would make every mdev that they are told of."""
        document = _domain(_options(PATHS[0])["last"])
        cloud.there.add_guest("vm", "", xml=document, running=False)

        assert cloud.destination._get_all_assigned_mediated_devices() == {}

    def test_guest_that_leaves(self, cloud):
        """It is refused, whatever its flavor asks for."""
        cloud.here.add_mdev(MDEV, standin.TYPE, standin.PARENT)
        document = _domain(_options(PATHS[0])["last"])
        cloud.here.add_guest("vm", "", xml=document)

        with pytest.raises(standin.Refused, match="guest-mdev-by-options"):
            cloud.check(standin.plain_instance())
