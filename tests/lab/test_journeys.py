# SPDX-License-Identifier: Apache-2.0
"""Guests migrate, and the state of their devices with them."""

from collections.abc import Callable
from typing import Any

import libvirt
import pytest

from tests.lab.command import Answer, Command
from tests.lab.hosts import LabHost
from tests.lab.scenes import Guest

STEPS = [
    *("connect", "check", "plan", "claim", "create", "prepare"),
    *("migrate", "verify", "release"),
]


def migrate(
    command: Command, guest: Guest, source: LabHost, to: LabHost
) -> Answer:
    """Migrate a guest from one host to the other."""
    return command.run(
        "migrate", guest.name, "-c", source.client_uri, *to.towards
    )


def named_in(documents: list[str], mdevs: list[str]) -> list[list[str]]:
    """Return which of some mdevs each document names."""
    return [[mdev for mdev in mdevs if mdev in text] for text in documents]


@pytest.mark.parametrize(
    ("types", "persistent"),
    [(("mtty-1",), False), (("mtty-1", "mtty-2"), True)],
)
def test_a_guest_moves_with_the_state_of_its_mdevs(
    a: LabHost,
    b: LabHost,
    command: Command,
    start: Callable[..., Guest],
    types: tuple[str, ...],
    *,
    persistent: bool,
) -> None:
    """The guest goes on counting on created targets of the same types."""
    guest = start(*types, persistent=persistent)
    before = a.count(guest.name)

    answer = migrate(command, guest, a, b)

    document = answer.document
    assert (answer.status, document["result"]) == (0, "migrated"), answer
    targets = [document["target_mdevs"][mdev] for mdev in guest.mdevs]
    assert b.see_counting(guest.name, before) > before
    assert a.count(guest.name) >= before
    assert [b.mdevs()[mdev] for mdev in targets] == [*types]
    assert set(b.mdevs()) == set(targets)
    documents = b.documents(guest.name)
    assert len(documents) == 1 + persistent
    assert named_in(documents, targets) == [targets] * len(documents)
    assert named_in(documents, guest.mdevs) == [[]] * len(documents)
    assert a.inventory().guests == ()


def test_a_guest_goes_there_and_back(
    a: LabHost, b: LabHost, command: Command, start: Callable[..., Guest]
) -> None:
    """The mdevs that it left behind become its targets on the way back."""
    guest = start("mtty-1", "mtty-2")
    there = migrate(command, guest, a, b)
    count = b.see_counting(guest.name, a.count(guest.name))

    back = migrate(command, guest, b, a)

    assert (there.status, back.status) == (0, 0), (there, back)
    assert a.see_counting(guest.name, count) > count
    assert set(a.mdevs()) == set(guest.mdevs)
    see_promised_answer(guest, there.document)
    targets = there.document["target_mdevs"]
    assert back.document["target_mdevs"] == {
        target: source for source, target in targets.items()
    }


def see_promised_answer(guest: Guest, document: dict[str, Any]) -> None:
    """See that scripts find the documented keys, with real values."""
    types = ["mtty-1", "mtty-2"]
    targets = document["target_mdevs"]
    assert document["guest"] == guest.name
    assert document["error"] is None
    assert list(document["steps"]) == STEPS
    assert [document["source_mdev_types"][m] for m in guest.mdevs] == types
    there = document["target_mdev_types"]
    assert [there[targets[m]] for m in guest.mdevs] == types
    assert document["seconds"] > 0
    assert 0 < document["downtime_ms"] < 60_000
    assert document["bytes"] > 0


def test_existing_mdevs_are_used_again(
    a: LabHost, b: LabHost, command: Command, start: Callable[..., Guest]
) -> None:
    """What exists on the destination is preferred; the rest is created."""
    guest = start("mtty-1", "mtty-2")
    (existing,) = b.make_mdevs("mtty-2")

    document = migrate(command, guest, a, b).document

    assert document["target_mdevs"][guest.mdevs[1]] == existing
    assert document["target_mdevs"][guest.mdevs[0]] != existing
    assert len(b.mdevs()) == 2


def test_a_guest_without_mdevs_moves_plainly(
    a: LabHost, b: LabHost, command: Command, start: Callable[..., Guest]
) -> None:
    """An operator who empties a host wants it moved too."""
    guest = start()
    before = a.count(guest.name)

    answer = migrate(command, guest, a, b)

    assert (answer.status, answer.document["result"]) == (0, "migrated")
    assert answer.document["target_mdevs"] == {}
    assert b.see_counting(guest.name, before) > before


def test_a_paused_guest_stays_paused(
    a: LabHost, b: LabHost, command: Command, start: Callable[..., Guest]
) -> None:
    """It goes on counting when somebody lets it."""
    guest = start("mtty-1")
    before = a.count(guest.name)
    with a.connected() as connection:
        connection.lookupByName(guest.name).suspend()

    answer = migrate(command, guest, a, b)

    assert answer.status == 0, answer
    with b.connected() as connection:
        domain = connection.lookupByName(guest.name)
        assert domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED
        domain.resume()
    assert b.see_counting(guest.name, before) > before


def test_looking_tells_what_a_migration_would_do(
    a: LabHost, b: LabHost, command: Command, start: Callable[..., Guest]
) -> None:
    """check and plan say yes and change nothing; list and types agree."""
    guest = start("mtty-1", "mtty-2")
    (existing,) = b.make_mdevs("mtty-1")
    before = (a.inventory(), b.inventory())
    journey = (
        *(guest.name, "-c", a.client_uri, "--to", b.client_uri),
        *("--peer-uri", b.peer_uri),
    )

    check = command.run("check", *journey)
    plan = command.run("plan", *journey)
    listed = command.run("list", "-c", a.client_uri).document["mdevs"]
    types = command.run("types", "-c", b.client_uri).document["parents"]

    assert (check.status, check.document["allowed"]) == (0, True), check
    assert plan.document["reuse"] == [existing]
    (created,) = plan.document["create"]
    assert (created["type"], created["parent"]) == ("mtty-2", "mtty_mtty")
    assert {m["uuid"]: m["held_by"] for m in listed} == dict.fromkeys(
        guest.mdevs, guest.name
    )
    assert {
        offered["type"]: offered["available_instances"]
        for offered in types[0]["types"]
    } == {"mtty-1": 23, "mtty-2": 11}
    assert (a.inventory(), b.inventory()) == before
