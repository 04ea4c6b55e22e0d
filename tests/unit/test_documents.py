# SPDX-License-Identifier: Apache-2.0
"""Is foreign XML read without entities, files and network, and bounded?"""

import resource
import time

import pytest

from mdev_migrate import exception
from mdev_migrate.core import documents, guest_xml, nodedev_xml

READERS = [
    guest_xml.read_mdevs,
    guest_xml.named_mdevs,
    guest_xml.read_viommu,
    lambda text: guest_xml.replace_mdevs(text, {}),
    lambda text: guest_xml.difference(text, text),
    nodedev_xml.read_mdev,
    nodedev_xml.read_parent,
]
LAUGHS = "".join(
    f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12)
)
BOMB = (
    f'<!DOCTYPE domain [<!ENTITY l0 "lol">{LAUGHS}]>'
    "<domain><name>&l11;</name></domain>"
)
QUADRATIC = (
    f'<!DOCTYPE domain [<!ENTITY a "{"a" * 50_000}">]>'
    f"<domain><name>{'&a;' * 20_000}</name></domain>"
)
MALFORMED = {
    "empty": "",
    "text": "no XML at all",
    "cut off": "<domain><devices>",
    "two roots": "<domain/><domain/>",
    "control character": "<domain>\x00</domain>",
    "surrogate": "<domain>\udc80</domain>",
    "unknown entity": "<domain>&nbsp;</domain>",
    "unknown prefix": "<domain><qemu:x/></domain>",
    "bomb": BOMB,
    "quadratic": QUADRATIC,
    "doctype": "<!DOCTYPE domain><domain/>",
    "file": (
        '<!DOCTYPE domain [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        "<domain><name>&x;</name></domain>"
    ),
    "external": '<!DOCTYPE domain SYSTEM "http://127.0.0.1:9/x"><domain/>',
    "parameter": (
        '<!DOCTYPE domain [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]>'
        "<domain/>"
    ),
    "deep": "<domain>" + "<a>" * 100_000 + "</a>" * 100_000 + "</domain>",
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_malformed(reader, text):
    """Each is refused by our own error, on one line."""
    with pytest.raises(exception.XmlMalformed) as caught:
        reader(text)

    assert str(caught.value).splitlines()[0] == str(caught.value)


@pytest.mark.parametrize("text", [BOMB, QUADRATIC])
def test_bombs_are_bounded(text):
    """A document that grows without end takes little time and memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()

    with pytest.raises(exception.XmlMalformed):
        documents.parse(text, "domain XML")

    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert time.process_time() - started < 2
    assert grown < 200 * 1024


@pytest.mark.parametrize(
    "text",
    [
        "<a>\u00fc\u6f22\U0001f600</a>",
        "<?xml version='1.0'?>\n<a/>",
        "<?xml version='1.0' encoding='utf-8'?><a/>",
        "<a>&lt;&amp;&#x41;&quot;</a>",
        "<a><![CDATA[<x>&y;]]></a>",
        "<!-- before --><a/><!-- after -->",
        "\ufeff<a/>",
    ],
)
def test_what_is_well_formed_is_read(text):
    """Declarations, references, CDATA and any letter are read."""
    root = documents.parse(text, "domain XML")

    assert root.tag == "a"


def test_error_names_the_document():
    """The error says which document it was."""
    with pytest.raises(exception.XmlMalformed, match=r"^capabilities XML: "):
        documents.parse("", "capabilities XML")
