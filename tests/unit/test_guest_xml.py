# SPDX-License-Identifier: Apache-2.0
"""Are a guest's mdevs read in order and replaced, and nothing else?"""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from mdev_migrate import exception, model
from mdev_migrate.core import guest_xml
from tests import builders

FIVE = "55555555-5555-4555-8555-555555555555"
THREE = "33333333-3333-4333-8333-333333333333"
CAPTURED = ["guest-live.xml", "guest-inactive.xml", "guest-migratable.xml"]
TARGETS = {FIVE: builders.uuid(5), THREE: builders.uuid(3)}


def _domain(*hostdevs, tail=""):
    return (
        "<domain type='qemu'><name>vm</name><devices>"
        f"{''.join(hostdevs)}</devices>{tail}</domain>"
    )


def _hostdev(uuid, model_name="vfio-pci", more="", inner=""):
    return (
        f"<hostdev mode='subsystem' type='mdev' model='{model_name}'{more}>"
        f"<source><address uuid='{uuid}'/></source>{inner}</hostdev>"
    )


def _canonical(text):
    return etree.canonicalize(text)


class TestRead:
    """Reading what a domain's XML names."""

    @pytest.mark.parametrize("name", CAPTURED)
    def test_captured(self, name):
        """Both mdevs of the captured guest, in its order."""
        mdevs = guest_xml.read_mdevs(builders.captured(name))

        assert mdevs == (
            model.GuestMdev(FIVE, "vfio-pci"),
            model.GuestMdev(THREE, "vfio-pci"),
        )

    def test_none(self):
        """A guest without mdevs names none, whatever else it has."""
        others = (
            "<hostdev mode='subsystem' type='pci'><source><address "
            "domain='0x0' bus='0x6' slot='0x0' function='0x0'/></source>"
            "</hostdev><disk type='file'/>"
        )

        assert guest_xml.read_mdevs(_domain(others)) == ()

    def test_upper_case(self):
        """A UUID is told in lower case, however the document spells it."""
        text = _domain(_hostdev(FIVE.upper()))

        assert guest_xml.read_mdevs(text)[0].uuid == FIVE

    def test_other_device_api(self):
        """The hostdev's model is its device API; empty if it has none."""
        bare = _hostdev(THREE).replace(" model='vfio-pci'", "")

        mdevs = guest_xml.read_mdevs(_domain(_hostdev(FIVE, "vfio-ap"), bare))

        assert [mdev.device_api for mdev in mdevs] == ["vfio-ap", ""]

    @pytest.mark.parametrize("again", [FIVE, FIVE.upper()])
    def test_twice(self, again):
        """One mdev in two hostdevs is refused by its own error."""
        text = _domain(_hostdev(FIVE), _hostdev(again))

        with pytest.raises(exception.GuestMdevTwice, match=FIVE):
            guest_xml.read_mdevs(text)

    @pytest.mark.parametrize(
        "hostdev",
        [
            "<hostdev type='mdev'/>",
            "<hostdev type='mdev'><source/></hostdev>",
            "<hostdev type='mdev'><source><address/></source></hostdev>",
            _hostdev(""),
            _hostdev("../../etc"),
            _hostdev(FIVE.replace("-", "")),
        ],
    )
    def test_no_uuid(self, hostdev):
        """An mdev without a UUID is refused, never left out."""
        with pytest.raises(exception.XmlMalformed, match="not a UUID"):
            guest_xml.read_mdevs(_domain(hostdev))

    def test_other_document(self):
        """What is not a domain is refused."""
        with pytest.raises(exception.XmlMalformed, match="is a <device>"):
            guest_xml.read_mdevs(builders.captured("parent.xml"))

    def test_hostdev_elsewhere(self):
        """Only the domain's own devices count, not those in metadata."""
        tail = f"<metadata><devices>{_hostdev(FIVE)}</devices></metadata>"

        assert guest_xml.read_mdevs(_domain(tail=tail)) == ()


class TestNamed:
    """Reading guests that are not ours to judge."""

    def test_what_cannot_be_read_is_skipped(self):
        """A foreign guest with a broken hostdev is no failure of ours."""
        text = _domain(
            _hostdev("x"), _hostdev(FIVE.upper()), _hostdev(FIVE), "<hostdev/>"
        )

        assert guest_xml.named_mdevs(text) == {FIVE}


class TestViommu:
    """Finding a virtual IOMMU."""

    @pytest.mark.parametrize(
        ("element", "found"),
        [
            ("", None),
            ("<iommu model='intel'/>", "intel"),
            ("<iommu model='smmuv3'><driver/></iommu>", "smmuv3"),
            ("<iommu/>", "unknown model"),
        ],
    )
    def test_model(self, element, found):
        """Its model is told; a guest without one has None."""
        assert guest_xml.read_viommu(_domain(element)) == found


class TestReadMemory:
    """Telling how much memory a guest has at most."""

    @pytest.mark.parametrize(
        ("element", "found"),
        [
            ("<memory>65536</memory>", 65536),
            ("<memory unit='KiB'> 65536\n</memory>", 65536),
            ("<memory unit='MiB'>64</memory>", None),
            ("<memory unit='KiB'>-1</memory>", None),
            ("<memory/>", None),
            ("", None),
        ],
    )
    def test_kib(self, element, found):
        """It is told as libvirt writes it, in KiB; nothing is guessed."""
        assert guest_xml.read_memory_kib(_domain(tail=element)) == found


class TestReplace:
    """Putting target mdevs in place of source mdevs."""

    @pytest.mark.parametrize("name", CAPTURED)
    def test_only_the_uuids_differ(self, name):
        """With the UUIDs swapped as text, the result is the same."""
        text = builders.captured(name)

        replaced = guest_xml.replace_mdevs(text, TARGETS)

        expected = text
        for source, target in TARGETS.items():
            expected = expected.replace(source, target)
        assert _canonical(replaced) == _canonical(expected)

    def test_bytes_stay(self):
        """libvirt's own formatting comes out byte for byte, but quotes."""
        text = builders.captured("guest-live.xml")

        replaced = guest_xml.replace_mdevs(text, TARGETS)

        expected = text.strip().replace("'", '"')
        for source, target in TARGETS.items():
            expected = expected.replace(source, target)
        root_old, rest_old = expected.split(">", 1)
        root_new, rest_new = replaced.split(">", 1)
        assert rest_new == rest_old
        assert sorted(root_new.split()) == sorted(root_old.split())

    def test_other_attributes_are_untouched(self):
        """display, ramfb, address, alias and what we do not know stay."""
        inner = (
            "<alias name='ua-gpu'/><address type='pci' domain='0x0000' "
            "bus='0x05' slot='0x00' function='0x0'/><rom bar='off'/>"
            "<future new='1'/>"
        )
        more = " managed='no' display='on' ramfb='on' later='x'"
        text = _domain(_hostdev(FIVE, more=more, inner=inner))

        replaced = guest_xml.replace_mdevs(text, {FIVE: THREE})

        assert replaced.replace('"', "'").replace(THREE, FIVE) == text

    def test_foreign_content_is_kept(self):
        """Comments, instructions, references and namespaces stay."""
        tail = (
            "<!-- 55555555 --><?pi x?><metadata xmlns:n='http://n/'>"
            "<n:a n:b='&amp;&lt;&quot;'>&gt;\u00fc</n:a></metadata>"
        )
        text = _domain(_hostdev(FIVE), tail=tail)

        replaced = guest_xml.replace_mdevs(text, {FIVE: THREE})

        assert _canonical(replaced) == _canonical(text.replace(FIVE, THREE))
        assert "<!-- 55555555 --><?pi x?>" in replaced

    def test_cdata_keeps_its_text(self):
        """The text within stays, however it is written."""
        text = _domain(
            _hostdev(FIVE), tail="<description><![CDATA[<&>]]></description>"
        )

        replaced = guest_xml.replace_mdevs(text, {FIVE: THREE})

        root = etree.fromstring(replaced)
        assert root.findtext("description") == "<&>"

    def test_uuid_in_other_places(self):
        """A UUID that stands in a text or a name is not the mdev's."""
        tail = f"<description>{FIVE}</description>"
        text = _domain(_hostdev(FIVE), tail=tail)

        replaced = guest_xml.replace_mdevs(text, {FIVE: THREE})

        assert replaced.count(FIVE) == 1

    def test_upper_case(self):
        """An upper-case source UUID is found."""
        text = _domain(_hostdev(FIVE.upper()))

        replaced = guest_xml.replace_mdevs(text, {FIVE: THREE})

        assert guest_xml.named_mdevs(replaced) == {THREE}

    def test_swap(self):
        """Targets may be the guest's own mdevs, exchanged."""
        text = _domain(_hostdev(FIVE), _hostdev(THREE, "vfio-ap"))

        replaced = guest_xml.replace_mdevs(text, {FIVE: THREE, THREE: FIVE})

        assert [mdev.uuid for mdev in guest_xml.read_mdevs(replaced)] == [
            THREE,
            FIVE,
        ]

    @pytest.mark.parametrize(
        ("targets", "unpaired", "gone"),
        [
            ({}, {FIVE, THREE}, set()),
            ({FIVE: builders.uuid(1)}, {THREE}, set()),
            (
                {**TARGETS, builders.uuid(9): builders.uuid(8)},
                set(),
                {builders.uuid(9)},
            ),
        ],
    )
    def test_other_mdevs_than_planned(self, targets, unpaired, gone):
        """Exactly the mdevs of the plan, or nothing is written."""
        text = builders.captured("guest-inactive.xml")

        with pytest.raises(exception.GuestMdevsChanged) as caught:
            guest_xml.replace_mdevs(text, targets)

        assert caught.value.args == (unpaired, gone)

    def test_no_mdevs(self):
        """A guest without mdevs keeps its document."""
        text = _domain("<disk type='file'/>")

        replaced = guest_xml.replace_mdevs(text, {})

        assert _canonical(replaced) == _canonical(text)


class TestDifference:
    """Showing what the rewriting does."""

    def test_only_the_addresses(self):
        """Two lines out, two lines in."""
        text = builders.captured("guest-live.xml")
        after = guest_xml.replace_mdevs(text, TARGETS)

        lines = guest_xml.difference(text, after).splitlines()

        changed = [line for line in lines[2:] if line[0] in "+-"]
        assert re.sub(r"[^-+\n]+<.*uuid=\"|\"/>", "", "\n".join(changed)) == (
            "\n".join(
                f"{sign}{uuid}"
                for source, target in TARGETS.items()
                for sign, uuid in (("-", source), ("+", target))
            )
        )

    def test_none(self):
        """Equal documents do not differ, however they are quoted."""
        text = builders.captured("guest-live.xml")

        assert guest_xml.difference(text, text.replace("'", '"')) == ""


UUIDS = st.uuids().map(str)
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12
)


@st.composite
def _guests(draw):
    """Build a domain with some mdevs among foreign elements."""
    root = etree.Element("domain", type="kvm")
    etree.SubElement(root, "description").text = draw(TEXTS)
    devices = etree.SubElement(root, "devices")
    for uuid in draw(st.lists(UUIDS, unique=True, max_size=5)):
        spelled = draw(st.sampled_from([uuid, uuid.upper()]))
        hostdev = etree.SubElement(
            devices, "hostdev", type="mdev", display=draw(TEXTS)
        )
        source = etree.SubElement(hostdev, "source")
        etree.SubElement(source, "address", uuid=spelled)
        foreign = etree.SubElement(
            devices, draw(st.sampled_from(["disk", "hostdev", "{n}x"]))
        )
        foreign.tail = draw(TEXTS)
    return etree.tostring(root, encoding="unicode")


@given(_guests(), st.data())
def test_there_and_back(text, data):
    """The inverse map gives the original, with lower-case UUIDs."""
    sources = [mdev.uuid for mdev in guest_xml.read_mdevs(text)]
    targets = data.draw(
        st.lists(
            UUIDS, unique=True, min_size=len(sources), max_size=len(sources)
        )
    )
    pairs = dict(zip(sources, targets, strict=True))

    there = guest_xml.replace_mdevs(text, pairs)
    back = guest_xml.replace_mdevs(there, {t: s for s, t in pairs.items()})

    assert [mdev.uuid for mdev in guest_xml.read_mdevs(there)] == targets
    for source in sources:
        text = text.replace(source.upper(), source)
    assert _canonical(back) == _canonical(text)


@given(st.text(max_size=200) | st.binary(max_size=200).map(repr))
def test_any_text(text):
    """Whatever is given, nothing but our own errors comes out."""
    for wrapped in (text, _domain(text), _domain(_hostdev(text[:40]))):
        try:
            guest_xml.read_mdevs(wrapped)
        except (exception.XmlMalformed, exception.GuestMdevTwice) as error:
            assert str(error)  # noqa: PT017 - any of them will do


@given(st.permutations([FIVE, THREE, builders.uuid(1)]))
def test_order_of_the_guest(uuids):
    """mdevs are told in the order of the document, not of their UUIDs."""
    text = _domain(*map(_hostdev, uuids))

    found = [mdev.uuid for mdev in guest_xml.read_mdevs(text)]

    assert found == list(itertools.chain(uuids))


@pytest.mark.parametrize("kind", ["migratable", "inactive"])
def test_the_destination_shows_what_it_was_given(kind):
    """Captured on both hosts: the rewriting makes one out of the other."""
    here = builders.captured(f"guest-two-source-{kind}.xml")
    there = builders.captured(f"guest-two-destination-{kind}.xml")
    sources = [mdev.uuid for mdev in guest_xml.read_mdevs(here)]
    targets = [mdev.uuid for mdev in guest_xml.read_mdevs(there)]

    given = guest_xml.replace_mdevs(
        here, dict(zip(sources, targets, strict=True))
    )

    assert _canonical(given) == _canonical(there)
