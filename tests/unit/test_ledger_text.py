# SPDX-License-Identifier: Apache-2.0
"""Is a ledger read as it was written, and nothing else ever?"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdev_migrate import model
from mdev_migrate.core import allocation, claims, ledger_text, phases
from tests import builders

HOST = "00000000-0000-4000-8000-000000000001 host-b"

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
PRINTABLE = st.text(st.characters(codec="ascii", min_codepoint=32), max_size=9)
UUIDS = st.uuids().map(str)
MDEVS = st.builds(
    model.Mdev,
    uuid=UUIDS,
    mdev_type=st.sampled_from(["mtty-1", "nvidia-11"]),
    parent=PRINTABLE.filter(str.isprintable),
    attributes=st.lists(
        st.tuples(*[PRINTABLE.filter(str.isprintable)] * 2), max_size=2
    ).map(tuple),
    persistent=st.booleans(),
    autostart=st.booleans(),
)
NOTES = st.builds(
    claims.Note,
    owner=TEXTS,
    token=TEXTS,
    since=st.floats(0, 1e10),
    guest=TEXTS,
    source=TEXTS,
    destination=TEXTS,
    migration=TEXTS,
    over=st.booleans(),
)
CLAIMS = st.builds(
    claims.Claim,
    instance_uuid=UUIDS,
    plan=st.builds(
        allocation.AllocationPlan,
        st.lists(MDEVS, max_size=2).map(tuple),
        st.lists(MDEVS, max_size=2).map(tuple),
    ),
    step=st.sampled_from(phases.Step),
    note=NOTES,
)
RECORDS = st.builds(
    ledger_text.Records,
    st.lists(CLAIMS, max_size=3).map(
        lambda found: {claim.instance_uuid: claim for claim in found}
    ),
    st.dictionaries(UUIDS, UUIDS, max_size=2),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
#: A claim of one mdev to be reused and one to be created.
CLAIM = claims.Claim(
    builders.INSTANCE,
    allocation.AllocationPlan(
        (builders.mdev(1, attributes=(("a", "1"),)),), (builders.mdev(2),)
    ),
    phases.Step.MIGRATE,
    claims.Note("process 7", "token", 1.5, "vm", "a:///", "b:///"),
)


def content() -> dict[str, Any]:
    """Return a ledger with one claim, as JSON values."""
    records = ledger_text.Records(
        {CLAIM.instance_uuid: CLAIM}, {builders.uuid(3): builders.INSTANCE}
    )
    found: dict[str, Any] = json.loads(ledger_text.write(HOST, records))
    return found


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path to each value in JSON values."""
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    else:
        inner = []
    return [path, *(p for k, v in inner for p in places(v, (*path, k)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return JSON values with one of them replaced."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


PLACES = places(content())


@given(RECORDS)
def test_read_as_written(records):
    """Whatever is claimed comes back as it was."""
    uuids = [m.uuid for c in records.claims.values() for m in c.plan.mdevs]
    text = ledger_text.write(HOST, records)

    if len(set(uuids)) == len(uuids):
        assert ledger_text.read(text, HOST) == records
    else:
        with pytest.raises(ValueError, match="twice"):
            ledger_text.read(text, HOST)


@given(st.sampled_from(PLACES), JSON)
def test_any_value_may_be_anything(place, value):
    """A ledger with a foreign value is refused, or is one all the same."""
    text = json.dumps(replaced(content(), place, value))

    try:
        records = ledger_text.read(text, HOST)
    except ValueError:
        return
    assert ledger_text.read(ledger_text.write(HOST, records), HOST) == records


@given(st.data())
def test_any_key_may_be_missing(data):
    """What is cut out of a ledger never passes unnoticed."""
    place = data.draw(st.sampled_from([p for p in PLACES if p]))
    found = content()
    inner = found
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]

    try:
        records = ledger_text.read(json.dumps(found), HOST)
    except ValueError:
        return
    assert isinstance(place[-1], int) or place[0] == "made"
    assert records.claims.keys() <= {builders.INSTANCE}


@given(
    st.text() | st.integers(0, 700).map(lambda n: json.dumps(content())[:n])
)
def test_any_text(text):
    """A text that is no ledger is refused, however it was cut."""
    with pytest.raises(ValueError):  # noqa: PT011 - of any kind
        ledger_text.read(text, HOST)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("format",), "other"),
        (("version",), 2),
        (("host",), "another host"),
        (("claims", 0, "since"), 10**400),
        (("claims", 0, "since"), float("nan")),
        (("claims", 0, "since"), float("inf")),
        (("claims", 0, "since"), -1),
        (("claims", 0, "step"), "dance"),
        (("claims", 0, "instance_uuid"), "../../etc/passwd"),
        (("claims", 0, "source"), "qemu\0"),
        (("claims", 0, "source"), "\udcff"),
        (("claims", 0, "guest"), 7),
        (("claims", 0, "create", 0, "parent"), "a\x01b"),
        (("claims", 0, "create", 0, "uuid"), "x"),
        (("claims", 0, "create", 0, "uuid"), builders.uuid(1)),
        (("claims", 0, "create", 0, "type"), "../x"),
        (("claims", 0, "create", 0), None),
        (("claims", 0, "reuse", 0, "attributes", 0), ["a"]),
        (("claims", 0, "reuse", 0, "attributes", 0, 1), "\udcff"),
        (("claims", 0), "x"),
        (("claims",), [content()["claims"][0]] * 2),
        (("made",), {"x": builders.INSTANCE}),
        (("made",), {builders.uuid(3): 7}),
        ((), []),
    ],
)
def test_refused(place, value):
    """None of these is a ledger of this host."""
    text = json.dumps(replaced(content(), place, value))

    with pytest.raises(ValueError):  # noqa: PT011 - of any kind
        ledger_text.read(text, HOST)


@pytest.mark.parametrize("text", ["[" * 10**5, "1" * 10**5, "\ufeff{}", ""])
def test_hostile(text):
    """Deep nesting and long numbers are refused like anything else."""
    with pytest.raises(ValueError):  # noqa: PT011 - of any kind
        ledger_text.read(text, HOST)
