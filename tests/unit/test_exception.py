# SPDX-License-Identifier: Apache-2.0
"""Does every error carry its facts, a code, a hint and a clear text?"""

import copy
import dataclasses
import pickle
import re

import pytest

from mdev_migrate import exception, model
from tests import builders

#: A fact for every name that an error may give it.
FACTS = {
    "side": "destination",
    "host": "host-b",
    "found": "found-fact",
    "needed": "needed-fact",
    "guest": "vm7",
    "source": "host-a",
    "destination": "host-b",
    "host_uuid": builders.instance(99),
    "uuids": frozenset({builders.uuid(1), builders.uuid(2)}),
    "reasons": ("mdev_1: <uuid> is missing", "mdev_2: has a DOCTYPE"),
    "uuid": builders.uuid(3),
    "parents": ("pci_1", "pci_2"),
    "viommu": "intel",
    "reason": "reason-fact",
    "mdev_type": "nvidia-11",
    "offered": frozenset({"mtty-1", "mtty-2"}),
    "enabled": frozenset({"mtty-3"}),
    "source_uuid": builders.uuid(4),
    "not_read": ("parent not read: pci_3", "guest not read: vm8"),
    "idle": ("5 (mtty-1 on pci_1)", "6 (mtty-2 on pci_1)"),
    "tries": 5,
    "unpaired": frozenset({builders.uuid(5)}),
    "gone": frozenset({builders.uuid(6)}),
    "instance_uuid": builders.INSTANCE,
    "owner": "owner-fact",
    "field": "target_mdevs",
    "document": "domain XML",
    "option": "bandwidth",
    "parent": "pci_0000_06_00_0",
    "uri": "qemu+tls://host-b/system",
    "operation": "virDomainMigrateToURI3",
    "number": 38,
    "mdev_uuid": builders.uuid(7),
    "state": "step 'claim'",
    "move": "fly",
}
#: Facts that an error's text need not show.
UNSHOWN = {"operation", "number", "host_uuid", "defined", "fate", "moved"}


def _subclasses(kind):
    for child in kind.__subclasses__():
        yield child
        yield from _subclasses(child)


ALL = [exception.MdevMigrateError, *_subclasses(exception.MdevMigrateError)]
OURS = [kind for kind in ALL if kind.__module__ == exception.__name__]
#: Kinds that only group others.
GROUPS = {
    exception.MdevMigrateError,
    exception.PreCheckError,
    exception.NotKnown,
    exception.MigrationError,
    exception.HostError,
    exception.ClaimError,
    exception.VersionTooOld,
    exception.DestinationLacks,
}
RAISED = [kind for kind in OURS if kind not in GROUPS]


def _facts(kind):
    facts = dict(FACTS)
    if issubclass(kind, exception.VersionTooOld):
        facts["found"] = model.Version(8, 5, 9)
        facts["needed"] = model.Version(8, 6, 0)
    if kind in (exception.KernelUnknown, exception.VendorKernelUnknown):
        facts["needed"] = model.Version(5, 18, 0)
    if kind is exception.DefinitionChanged:
        facts["found"] = frozenset({builders.uuid(8)})
        facts["needed"] = frozenset({builders.uuid(9)})
    if kind in (exception.DeviceApiMissing, exception.MdevTypeDiffers):
        facts["found"] = frozenset({"vfio-ccw"})
    if kind in (exception.ProviderTypesDiffer, exception.GuestShortOfMdevs):
        facts["found"] = ("nvidia-1", "nvidia-2")
        facts["needed"] = ("nvidia-3", "nvidia-4")
    if kind is exception.TooFewMdevs:
        facts["needed"] = ("mtty-1", "mtty-2")
    return [
        facts.get(field.name, f"{field.name}-fact")
        for field in dataclasses.fields(kind)
    ]


def _error(kind):
    return kind(*_facts(kind))


@pytest.mark.parametrize("kind", RAISED)
def test_text_names_every_fact(kind):
    """Host, found and needed stand in the text, like all other facts."""
    error = _error(kind)

    text = str(error)

    words = []
    for field in dataclasses.fields(kind):
        fact = getattr(error, field.name)
        many = isinstance(fact, (frozenset, tuple)) and not isinstance(
            fact, model.Version
        )
        if field.name not in UNSHOWN:
            words += list(map(str, fact)) if many else [str(fact)]
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize("kind", RAISED)
def test_text_is_one_line(kind):
    """A text is shown on one line, with no more than the facts need."""
    text = str(_error(kind))

    assert re.fullmatch(r"\S.{10,300}", text)


@pytest.mark.parametrize("kind", RAISED)
def test_hint(kind):
    """Every error says what an operator can do about it."""
    assert kind.hint


@pytest.mark.parametrize("kind", RAISED)
def test_pickled_and_copied(kind):
    """An error crosses processes with its facts."""
    error = _error(kind)

    others = [pickle.loads(pickle.dumps(error)), copy.copy(error)]  # noqa: S301

    facts = [(type(other), other.args, str(other)) for other in others]
    assert facts == [(kind, tuple(_facts(kind)), str(error))] * 2


@pytest.mark.parametrize("kind", RAISED)
def test_missing_fact(kind):
    """An error without its facts cannot be made."""
    with pytest.raises(TypeError, match="argument"):
        kind()


def test_codes_are_unique():
    """A code tells which error it was."""
    codes = [kind.code for kind in RAISED]

    assert sorted(codes) == sorted(set(codes))


def test_codes_are_words_for_scripts():
    """A code is lower-case words with hyphens, and is not inherited."""
    odd = [
        kind
        for kind in RAISED
        if "code" not in vars(kind)
        or not re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.code)
    ]

    assert odd == []


def test_errors_have_identity():
    """Two failures with the same facts stay two failures."""
    first, second = (_error(exception.GuestMdevTwice) for _ in range(2))

    assert len({first, second}) == 2


@pytest.mark.parametrize("kind", sorted(GROUPS, key=lambda k: k.__name__))
def test_groups_have_no_code_of_their_own(kind):
    """Scripts never meet the code of a group."""
    assert kind.code == "error"


def test_no_uuid_at_all():
    """An empty set of facts reads as 'none'."""
    error = exception.GuestMdevsChanged(frozenset(), frozenset())

    assert "without a target none, no longer there none" in str(error)


def _tree():
    """Read the tree in the module's docstring: child to parent."""
    above = {}
    stack = []
    block = exception.__doc__.split("::\n\n", 1)[1].split("\n\n")[0]
    for line in block.splitlines():
        found = re.search(r"[A-Z]", line)
        depth = found.start()
        del stack[_depth_index(stack, depth) :]
        words = re.split(r"\s{2,}", line[depth:], maxsplit=1)[0]
        for name in re.findall(r"[A-Z]\w+", words):
            above[name] = stack[-1][1] if stack else None
        stack.append((depth, re.findall(r"[A-Z]\w+", words)[-1]))
    return above


def _depth_index(stack, depth):
    return sum(1 for other, _ in stack if other < depth)


def test_tree_in_the_docstring():
    """It names every class once, below the class that it comes from."""
    tree = _tree()

    real = {
        kind.__name__: (
            None
            if kind is exception.MdevMigrateError
            else kind.__base__.__name__
        )
        for kind in OURS
    }
    assert tree == real
