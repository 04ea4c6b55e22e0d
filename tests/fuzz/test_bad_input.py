# SPDX-License-Identifier: Apache-2.0
"""Does nothing but our own errors come of what others send?

Guests, hosts and peers write documents that this package reads. Captured
ones are cut, doubled and overwritten here; claims have tests of their own.
"""

from __future__ import annotations

import contextlib
import pathlib
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdev_migrate import exception, model
from mdev_migrate.core import guest_xml, nodedev_xml, wire
from tests import builders

CAPTURED = {
    path.name: path.read_text() for path in builders.MTTY_FILES.glob("*.xml")
}
MDEV = "55555555-5555-4555-8555-555555555555"
#: What is worth writing over a part of a document.
WORDS = st.sampled_from(
    [
        "<",
        ">",
        "&amp;",
        "&x;",
        "]]>",
        "<!--",
        "<?x ?>",
        "\0",
        "\ufffe",
        "\udcff",
        MDEV,
        "<hostdev type='mdev'/>",
        "<iommu/>",
        "<uuid>x</uuid>",
        "<availableInstances>-1</availableInstances>",
        "<!DOCTYPE a [<!ENTITY x 'y'>]>",
        "xmlns:a='b'",
    ]
)


@st.composite
def spoiled(draw: st.DrawFn) -> str:
    """Return a captured document with parts of it overwritten."""
    text = CAPTURED[draw(st.sampled_from(sorted(CAPTURED)))]
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 200)))
        text = text[:start] + draw(WORDS | st.text(max_size=9)) + text[end:]
    return text


DOCUMENTS = spoiled() | st.text() | st.just("")
READERS = [
    guest_xml.read_mdevs,
    guest_xml.named_mdevs,
    guest_xml.read_viommu,
    lambda text: guest_xml.replace_mdevs(text, {MDEV: builders.uuid(1)}),
    lambda text: guest_xml.difference(text, text),
    nodedev_xml.read_mdev,
    nodedev_xml.read_parent,
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just(MDEV),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.just(MDEV), inner)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("reader", READERS)
@given(text=DOCUMENTS)
def test_documents(reader, text):
    """A document is read, or refused by an error of ours."""
    with contextlib.suppress(exception.PreCheckError):
        reader(text)


@given(text=spoiled())
def test_what_is_read_can_be_written(text):
    """An mdev of any host's document can be asked for on another host."""
    try:
        mdev = nodedev_xml.read_mdev(text)
    except exception.PreCheckError:
        return

    again = nodedev_xml.read_mdev(
        nodedev_xml.write_mdev(mdev).replace("<device>", "<device><name/>")
    )
    assert (again.uuid, again.parent) == (mdev.uuid, mdev.parent)


@given(JSON, JSON)
def test_wire(types, targets):
    """What a peer sends is a mapping of UUIDs, or refused."""
    try:
        checked = wire.check_source_mdev_types(types)
        found = wire.check_target_mdevs(targets, checked)
    except exception.MigrateDataInvalid:
        return
    for uuid in (*checked, *found.values()):
        assert model.normalise_uuid(uuid) == uuid


#: Reads a document with little memory and time; prints what came of it.
READER = """
import resource, sys
from mdev_migrate import exception
from mdev_migrate.core import guest_xml, nodedev_xml
text = sys.stdin.read()
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + 2**28, used + 2**28))
resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
for reader in (
    guest_xml.read_mdevs, guest_xml.named_mdevs, guest_xml.read_viommu,
    nodedev_xml.read_mdev, nodedev_xml.read_parent,
):
    try:
        print(reader(text))
    except exception.PreCheckError as error:
        print(error.code, str(error)[:200])
"""


def read_apart(text: str) -> list[str]:
    """Read a document in a process with limits; return what it printed."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", READER],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=pathlib.Path(__file__).parents[2],
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def laughs() -> str:
    """Return a document that grows to a billion words."""
    entities = "".join(
        f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10)
    )
    return (
        f'<!DOCTYPE domain [<!ENTITY e0 "ha">{entities}]>'
        "<domain><name>&e9;</name></domain>"
    )


BOMBS = {
    "laughs": laughs(),
    "quadratic": (
        f'<!DOCTYPE domain [<!ENTITY a "{"a" * 10**5}">]>'
        f"<domain>{'&a;' * 10**5}</domain>"
    ),
    "parameter entities": (
        "<!DOCTYPE domain [<!ENTITY % a '&#37;b;'><!ENTITY % b '&#37;a;'>"
        "%a;]><domain/>"
    ),
    "deep": "<domain>" * 10**6,
    "wide": f"<domain {' '.join(f'a{n}=b' for n in range(10**5))}/>",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name):
    """A document that explodes is refused, in little time and memory."""
    said = read_apart(BOMBS[name])

    assert [line for line in said if "xml-malformed" not in line] == []


@pytest.mark.parametrize(
    "document",
    [
        "<!DOCTYPE domain [<!ENTITY x SYSTEM '{uri}'>]><domain>&x;</domain>",
        "<!DOCTYPE device [<!ENTITY x SYSTEM '{uri}'>]><device><parent>&x;"
        + "</parent><capability type='mdev'><uuid>&x;</uuid></capability>"
        + "</device>",
        "<!DOCTYPE domain SYSTEM '{uri}'><domain/>",
        "<!DOCTYPE domain [<!ENTITY % x SYSTEM '{uri}'>%x;]><domain/>",
    ],
)
class TestForeign:
    def test_files(self, tmp_path, document):
        """No file of this machine is read because a document names it."""
        secret = tmp_path / "secret"
        secret.write_text("a-well-kept-secret")

        said = read_apart(document.format(uri=secret.as_uri()))

        assert "secret" not in "".join(said).replace(str(secret), "")
        assert all("xml-malformed" in line for line in said)

    def test_network(self, document):
        """Nobody is called because a document names him."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            read_apart(document.format(uri=f"http://127.0.0.1:{port}/x"))

            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.accept()
