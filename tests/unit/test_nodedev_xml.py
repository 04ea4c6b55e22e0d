# SPDX-License-Identifier: Apache-2.0
"""Are node devices read as libvirt writes them, and written as it reads?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdev_migrate import exception, model
from mdev_migrate.core import nodedev_xml
from tests import builders

THREE = "33333333-3333-4333-8333-333333333333"
MDEV = f"mdev_{THREE.replace('-', '_')}.xml"
PCI_PARENT = """
<device>
  <name>pci_0000_06_00_0</name>
  <capability type='pci'>
    <capability type='virt_functions' maxCount='16'/>
    <capability type='mdev_types'>
      <type id='nvidia-11' new='x'>
        <name>GRID M60-0B</name>
        <deviceAPI>vfio-pci</deviceAPI>
        <availableInstances>16</availableInstances>
        <description>num_heads=2</description>
      </type>
      <type id='nvidia-12'>
        <deviceAPI>vfio-pci</deviceAPI>
        <availableInstances>0</availableInstances>
      </type>
    </capability>
  </capability>
</device>
"""


PHYSICAL = (
    "<capability type='phys_function'><address domain='0x0000' bus='0x41' "
    "slot='0x00' function='0x0'/></capability>"
)


class TestReadCard:
    """Which functions are of one card."""

    @pytest.mark.parametrize(
        ("numbers", "more", "card"),
        [
            (("0", "65", "0", "0"), "", "0000:41:00"),
            (("0", "65", "0", "7"), "", "0000:41:00"),
            (("0", "65", "2", "3"), PHYSICAL, "0000:41:00"),
            (("0", "66", "0", "1"), PHYSICAL, "0000:41:00"),
            (("65536", "1", "31", "0"), "", "10000:01:1f"),
            (("0", "", "0", "0"), "", ""),
            (("0", "x", "0", "0"), "", ""),
        ],
    )
    def test_pci(self, numbers, more, card):
        """By the physical function of a virtual one, else its own address."""
        tags = ("domain", "bus", "slot", "function")
        address = "".join(
            f"<{tag}>{number}</{tag}>"
            for tag, number in zip(tags, numbers, strict=True)
        )

        parent = nodedev_xml.read_parent(
            "<device><name>a</name><capability type='pci'>"
            f"{address}{more}</capability></device>"
        )

        assert parent.card == card

    def test_none(self):
        """A parent that is no PCI device is alone."""
        parent = nodedev_xml.read_parent(builders.captured("parent.xml"))

        assert parent.card == ""


class TestReadParent:
    """Reading a parent and its types."""

    def test_captured(self):
        """The parent of the kernel's sample, whose types are nested twice."""
        parent = nodedev_xml.read_parent(builders.captured("parent.xml"))

        assert parent == model.Parent(
            "mtty_mtty",
            (
                model.MdevType("mtty-1", "vfio-pci", 21, "Single port serial"),
                model.MdevType("mtty-2", "vfio-pci", 10, "Dual port serial"),
            ),
        )

    def test_pci(self):
        """A card; what is not known is skipped, a name may be missing."""
        parent = nodedev_xml.read_parent(PCI_PARENT)

        assert parent == model.Parent(
            "pci_0000_06_00_0",
            (
                model.MdevType("nvidia-11", "vfio-pci", 16, "GRID M60-0B"),
                model.MdevType("nvidia-12", "vfio-pci", 0, ""),
            ),
        )

    def test_without_types(self):
        """A device that offers nothing is a parent of no type."""
        parent = nodedev_xml.read_parent(
            "<device><name>x</name><capability type='pci'/></device>"
        )

        assert parent.types == ()

    @pytest.mark.parametrize(
        ("before", "after", "missing"),
        [
            ("id='nvidia-11'", "", "<type> has no attribute id"),
            ("<deviceAPI>vfio-pci</deviceAPI>", "", "<deviceAPI> is missing"),
            (
                "<availableInstances>16</availableInstances>",
                "",
                "<availableInstances> is missing",
            ),
            (">16<", ">-1<", "'-1'"),
            (">16<", ">many<", "'many'"),
            (">16<", ">1.5<", "'1.5'"),
        ],
    )
    def test_missing(self, before, after, missing):
        """What a type must have is not guessed; it hides no other type."""
        text = PCI_PARENT.replace(before, after, 1)

        parent = nodedev_xml.read_parent(text)

        assert [offered.mdev_type for offered in parent.types] == ["nvidia-12"]
        (left_out,) = parent.unreadable
        assert left_out.kind == "mdev type"
        assert "of pci_0000_06_00_0: " in left_out.reason
        assert missing in left_out.reason

    def test_without_name(self):
        """A parent that cannot be named offers nothing to anybody."""
        text = PCI_PARENT.replace("<name>pci_0000_06_00_0</name>", "")

        with pytest.raises(exception.XmlMalformed, match="<name> is missing"):
            nodedev_xml.read_parent(text)


class TestReadMdev:
    """Reading an mdev."""

    def test_captured(self):
        """Type, parent and UUID; what the document does not say is given."""
        text = builders.captured(MDEV)

        mdev = nodedev_xml.read_mdev(
            text, active=False, persistent=True, autostart=True
        )

        assert mdev == model.Mdev(
            THREE, "mtty-2", "mtty_mtty", (), False, True, True
        )

    def test_attributes(self):
        """They keep their order, which matters when they are written."""
        text = builders.captured(MDEV).replace(
            "<iommuGroup",
            "<attr name='b' value='2'/><attr name='a' value='1'/>"
            "<attr name='b'/><iommuGroup",
        )

        mdev = nodedev_xml.read_mdev(text)

        assert mdev.attributes == (("b", "2"), ("a", "1"), ("b", ""))

    def test_upper_case(self):
        """A UUID is told in lower case."""
        text = builders.captured(MDEV).replace(
            THREE, "ABCDEF00-0000-4000-8000-00000000ABCD"
        )

        mdev = nodedev_xml.read_mdev(text)

        assert mdev.uuid == "abcdef00-0000-4000-8000-00000000abcd"

    @pytest.mark.parametrize(
        ("before", "after", "missing"),
        [
            ("type='mdev'", "type='pci'", "no mdev capability"),
            (f"<uuid>{THREE}</uuid>", "", "<uuid> is missing"),
            (f"<uuid>{THREE}</uuid>", "<uuid>x</uuid>", "not a UUID"),
            ("<type id='mtty-2'/>", "", "<type> has no attribute id"),
            ("<parent>mtty_mtty</parent>", "", "<parent> is missing"),
        ],
    )
    def test_missing(self, before, after, missing):
        """What an mdev must have is not guessed."""
        text = builders.captured(MDEV).replace(before, after)

        with pytest.raises(exception.XmlMalformed, match=missing):
            nodedev_xml.read_mdev(text)


TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1
)


@given(
    st.uuids().map(str),
    TEXTS,
    TEXTS,
    st.lists(st.tuples(TEXTS, TEXTS), max_size=4).map(tuple),
)
def test_written_mdevs_are_read_again(uuid, kind, parent, attributes):
    """Nothing in a name or value leaves its place in the document."""
    mdev = model.Mdev(uuid, kind, parent, attributes)

    read = nodedev_xml.read_mdev(nodedev_xml.write_mdev(mdev))

    assert read == mdev


def test_written_mdev():
    """The document that libvirt is given, with the attributes in order."""
    mdev = builders.mdev(1, attributes=(("b", "<"), ("a", "'")))

    text = nodedev_xml.write_mdev(mdev)

    assert text == (
        '<device><parent>mtty_mtty</parent><capability type="mdev">'
        f'<type id="mtty-1"/><uuid>{mdev.uuid}</uuid>'
        '<attr name="b" value="&lt;"/><attr name="a" value="\'"/>'
        "</capability></device>"
    )


@given(st.text(max_size=100))
def test_any_text(text):
    """Whatever is given, nothing but our own error comes out."""
    for wrapped in (
        text,
        builders.captured(MDEV).replace("mtty-2", text),
        PCI_PARENT.replace(">16<", f">{text}<"),
    ):
        for read in (nodedev_xml.read_mdev, nodedev_xml.read_parent):
            try:
                read(wrapped)
            except exception.XmlMalformed as error:
                assert str(error)  # noqa: PT017 - any text will do
