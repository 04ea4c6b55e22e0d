# SPDX-License-Identifier: Apache-2.0
"""Claims as the commands show and settle them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import libvirt
import pytest

from mdev_migrate import model, testing
from mdev_migrate.core import claim_xml
from mdev_migrate.model import Step
from mdev_migrate.workflow.keeping import KeptClaim
from tests import builders, scenes
from tests.functional.conftest import (
    INSTANCE,
    LIMITS,
    MDEV_1,
    MDEV_2,
    TARGET,
    Answer,
    World,
)

OTHER = "aaaaaaaa-0000-4000-8000-000000000009"
CREATED = "77777777-7777-4777-8777-777777777777"
TARGETS = (
    builders.target(model.Mdev(TARGET, "mtty-1", "mtty_mtty")),
    builders.target(model.Mdev(CREATED, "mtty-1", "mtty_mtty"), created=True),
)
EVIL = "qemu+ext:///system?command=/tmp/x"


class Book:
    """The claims on the destination, and another who makes some."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.host = world._open(world.there)

    def claim(
        self,
        step: Step = Step.CLAIM,
        instance_uuid: str = OTHER,
        **facts: Any,
    ) -> model.Claim:
        """Claim the targets, as another command did that is dead."""
        claim = builders.claim(
            *TARGETS,
            step=step,
            instance_uuid=instance_uuid,
            source_uuid=self.world.source.host_uuid,
            **{"guest": "vm9", "beat": 1.0, **facts},
        )
        self.host.claims.define(claim, claim_xml.PLAIN)
        return claim

    def all(self) -> tuple[model.Claim, ...]:
        """Return the claims on the destination."""
        return scenes.claims_on(self.world.destination).all


@pytest.fixture
def book(world: World) -> Book:
    """Return the claims, with the mdev that they would reuse."""
    world.destination.add_mdev(TARGET, "mtty-1")
    return Book(world)


def there(world: World, *args: str) -> Answer:
    """Call a command that has the destination for its host."""
    return world.call("-c", world.there, *args)


def recover(world: World, *args: str) -> Answer:
    """Recover on the destination, naming the source."""
    return there(world, "recover", "--source", world.here, *args)


class TestClaims:
    def test_none(self, world, book):
        """Nothing claimed is said so, and is an empty list."""
        shown = there(world, "claims")
        found = there(world, "claims", "--json").json

        assert (shown.code, shown.out) == (0, "nothing is claimed on host-b\n")
        assert found == {"host": "host-b", "claims": [], "strange": []}

    def test_json(self, world, book):
        """A program learns everything about a claim."""
        book.claim(Step.CREATE, beat=time.time())

        (found,) = there(world, "claims", "--json").json["claims"]

        assert 0 <= found.pop("beat_age") <= 60
        assert found == {
            "instance_uuid": OTHER,
            "guest": "vm9",
            "owner": "somebody",
            "state": "owned",
            "step": "create",
            "source": "host-a",
            "migration": None,
            "reuse": [
                {"uuid": TARGET, "type": "mtty-1", "parent": "mtty_mtty"}
            ],
            "create": [
                {"uuid": CREATED, "type": "mtty-1", "parent": "mtty_mtty"}
            ],
        }

    @pytest.mark.parametrize(
        ("facts", "word"),
        [
            ({}, "owned"),
            ({"over": True}, "left"),
            ({"migration": INSTANCE}, "nova"),
        ],
    )
    def test_for_people(self, world, book, facts, word):
        """People see who claims what, since when, and who is to end it."""
        book.claim(beat=time.time() - 61, **facts)

        out = there(world, "claims").out

        for text in (OTHER, "vm9", "host-a", "claim", "0:01:0", "somebody"):
            assert text in out
        assert word in out

    def test_listed(self, world, book):
        """The list of mdevs shows the claims of other commands."""
        book.claim()

        (found,) = there(world, "list", "--json").json["mdevs"]

        assert found["held_by"] == f"claim of {OTHER}"

    def test_age_with_a_clock_set_back(self, world, book):
        """A beat from the future is new, not an error."""
        book.claim(beat=time.time() + 9999)

        (found,) = there(world, "claims", "--json").json["claims"]

        assert found["beat_age"] == 0

    def test_a_strange_one(self, world, book):
        """It is reported with exit code 1, by name, and believed nothing."""
        name = claim_xml.name_of(TARGET)
        world.destination.add_guest(name, OTHER, [], running=False)

        answer = there(world, "claims", "--json")

        assert answer.code == 1
        assert [s["name"] for s in answer.json["strange"]] == [name]
        assert answer.json["claims"] == []
        assert answer.err.startswith(f"warning: {name} is no claim: ")

    def test_it_is_no_guest(self, world, book):
        """Nobody can migrate it, or complete its name."""
        book.claim()

        answer = there(
            world,
            "check",
            claim_xml.name_of(TARGET),
            "--to",
            world.here,
            "--json",
        )

        assert answer.json["error"]["code"] == "guest-not-found"


class TestRecover:
    def test_nothing(self, world, book):
        """Nothing left is exit code 0."""
        answer = there(world, "recover")

        assert (answer.code, answer.out) == (0, "nothing was left on host-b\n")

    def test_undone(self, world, book):
        """What a dead command made is removed, and said so."""
        world.destination.add_mdev(CREATED, "mtty-1")
        book.claim(Step.CREATE)

        answer = there(world, "recover", "--json")

        (found,) = answer.json["claims"]
        assert (answer.code, found["action"]) == (0, "undone")
        assert list(world.destination.mdevs()) == [TARGET]
        assert book.all() == ()

    def test_dry_run(self, world, book):
        """A dry run says the same and changes nothing."""
        world.destination.add_mdev(CREATED, "mtty-1")
        claim = book.claim(Step.CREATE)

        answer = there(world, "recover", "--dry-run")

        assert answer.code == 0
        assert answer.out.startswith("would be undone: ")
        assert book.all() == (claim,)
        assert len(world.destination.mdevs()) == 2

    def test_the_living_are_left_alone(self, world, book):
        """A claim whose owner is heard is nobody else's business."""
        with KeptClaim(book.host, book.claim(Step.MIGRATE), LIMITS):
            answer = recover(world, "--json")

        assert (answer.code, answer.json["claims"]) == (0, [])
        assert len(book.all()) == 1

    def test_novas_are_left_alone(self, world, book):
        """A claim of Nova's is settled on request only."""
        book.claim(Step.CREATE, migration=INSTANCE)

        answer = recover(world, "--json")
        on_request = recover(world, "--nova", "--json")

        assert (answer.code, answer.json["claims"]) == (0, [])
        assert [c["action"] for c in on_request.json["claims"]] == ["undone"]
        assert book.all() == ()

    def test_kept(self, world, book):
        """Without its source it cannot be told: exit code 1, with why."""
        claim = book.claim(Step.MIGRATE)

        answer = there(world, "recover", "--json")

        (found,) = answer.json["claims"]
        assert (answer.code, found["action"]) == (1, "kept")
        assert "host-a, which was not named" in found["reason"]
        assert book.all() == (claim,)

    def test_another_host_of_that_name_is_not_its_source(self, world, book):
        """A claim's source is compared by name and UUID."""
        book.claim(Step.MIGRATE, source="host-b")

        answer = recover(world, "--json")

        assert answer.json["claims"][0]["action"] == "kept"

    def test_stayed(self, world, book):
        """A guest that is on its source is found there; all is undone."""
        world.destination.add_mdev(CREATED, "mtty-1")
        world.source.add_mdev(MDEV_1, "mtty-1")
        world.source.add_guest("vm9", OTHER, [MDEV_1])
        book.claim(Step.MIGRATE)

        answer = recover(world, "--json")

        assert [c["action"] for c in answer.json["claims"]] == ["undone"]
        assert list(world.destination.mdevs()) == [TARGET]

    def test_source_gone_for_good(self, world, book):
        """An operator may say that the source is off and stays off."""
        book.claim(Step.MIGRATE)
        world.source.stop_daemon()

        refused = recover(world, "--json")
        answer = recover(world, "--source-gone", "--json")

        assert (refused.code, answer.code) == (3, 0)
        assert book.all() == ()

    def test_source_gone_but_the_guest_is_here(self, world, book):
        """A host that was emptied and switched off need not be asked."""
        world.destination.add_mdev(CREATED, "mtty-1")
        world.destination.add_guest("vm9", OTHER, [TARGET, CREATED])
        book.claim(Step.MIGRATE)

        answer = there(world, "recover", "--json")

        (found,) = answer.json["claims"]
        assert (answer.code, found["action"]) == (0, "finished")
        assert set(world.destination.mdevs()) == {TARGET, CREATED}

    def test_a_guest_that_arrived_and_was_shut_off(self, world, book):
        """It keeps its mdevs: it will want to start again."""
        world.destination.add_mdev(CREATED, "mtty-1")
        world.destination.add_guest(
            "vm9", OTHER, [TARGET, CREATED], running=False
        )
        book.claim(Step.MIGRATE)

        recover(world)

        assert set(world.destination.mdevs()) == {TARGET, CREATED}
        assert book.all() == ()

    def test_what_another_guest_has_taken(self, world, book):
        """An mdev that a guest uses by now is that guest's."""
        world.destination.add_guest("vm8", INSTANCE, [TARGET])
        book.claim(Step.MIGRATE)

        answer = recover(world)

        assert (answer.code, book.all()) == (0, ())
        assert world.destination.used_mdevs() == {TARGET: "vm8"}

    def test_what_a_stranger_has_open(self, world, book):
        """A reused mdev that stays busy without a guest is left."""
        world.destination.open_mdevs.add(TARGET)
        book.claim(Step.MIGRATE)

        answer = recover(world)

        assert (answer.code, book.all()) == (0, ())
        assert TARGET in world.destination.mdevs()

    def test_unreachable(self, world, book):
        """A destination that does not answer is exit code 3."""
        world.destination.stop_daemon()

        answer = there(world, "recover", "--json")

        assert (answer.code, answer.json["error"]["code"]) == (
            3,
            "host-unreachable",
        )

    @pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
    def test_no_uri_is_taken_from_a_claim(self, world, book, dry_run):
        """Only hosts that the caller named are opened."""
        book.claim(Step.MIGRATE, source=EVIL, owner=EVIL, guest=EVIL)
        world.group.faults.forget_calls()

        answer = there(world, "recover", "--json", *dry_run)

        assert answer.code == 1
        assert {c.host for c in world.group.faults.calls} == {"host-b"}


#: What is replaced by what in the document of a claim.
FORGED = {
    "a hostdev of the guest's": (
        f'address uuid="{TARGET}"',
        f'address uuid="{MDEV_1}"',
    ),
    "an mdev of the guest's": (
        f'mdev uuid="{TARGET}"',
        f'mdev uuid="{MDEV_1}"',
    ),
    "a disk": (
        "<devices>",
        "<devices><disk><source file='/x'/><target dev='vda'/></disk>",
    ),
    "another namespace": (claim_xml.NAMESPACE, "urn:somebody:else"),
    "1 MiB of text": ("somebody", "x" * 2**20),
    "a path for a token": ('token="cccccccc', 'token="../cccccc'),
    "a URI for its guest": ('instance uuid="', f'instance uuid="{EVIL}'),
    "a path for a parent": ("mtty_mtty", "../../x"),
    "a name that is no UUID": (claim_xml.name_of(TARGET), "mdev-claim-.x"),
}


class TestForged:
    @pytest.mark.parametrize("kind", FORGED)
    def test_it_is_reported_and_never_trusted(self, world, book, kind):
        """Nothing is opened, nothing undone, no guest touched."""
        world.add_guest({MDEV_1: "mtty-1"})
        claim = builders.claim(TARGETS[0], step=Step.CREATE)
        text = claim_xml.write(claim, TARGETS[0], claim_xml.PLAIN)
        assert FORGED[kind][0] in text
        world.destination.open().defineXML(text.replace(*FORGED[kind]))
        before = world.snapshot()
        world.group.faults.forget_calls()

        shown = there(world, "claims", "--json")
        codes = [
            there(world, "list", "--json").code,
            world.run("check", "vm", "--to", world.there, "--json").code,
        ]
        settled = [
            recover(world, *how, "--source-gone", "--nova", "--json").json
            for how in ((), ("--abort",), ("--dry-run",))
        ]

        assert (shown.code, len(shown.json["strange"])) == (1, 1)
        assert codes == [0, 0]
        assert [each["claims"] for each in settled] == [[], [], []]
        assert {c.name for c in world.group.faults.calls} <= READING
        assert world.snapshot() == before
        assert len(world.destination.open().listAllDomains()) == 1

    @pytest.mark.parametrize("step", [Step.CREATE, Step.MIGRATE])
    @pytest.mark.parametrize("instance", [OTHER, INSTANCE])
    @pytest.mark.parametrize("created", [True, False])
    def test_of_an_mdev_that_a_guest_has(
        self, world, book, step, instance, created
    ):
        """It may be written in every part as claims are: the guest keeps it.

        Whatever it says of guests and hosts, only what was named is asked.
        """
        world.add_guest({MDEV_1: "mtty-1"})
        target = builders.target(
            model.Mdev(MDEV_1, "mtty-1", "mtty_mtty"), created=created
        )
        claim = builders.claim(
            target,
            step=step,
            instance_uuid=instance,
            owner=EVIL,
            source="host-b",
            source_uuid=world.destination.host_uuid,
        )
        world._open(world.here).claims.define(claim, claim_xml.PLAIN)
        before = world.snapshot()
        world.group.faults.forget_calls()

        for how in (("--source-gone",), ("--source", world.there)):
            world.call("-c", world.here, "recover", *how)

        names = {call.name for call in world.group.faults.calls}
        assert not names & {"destroy", "nodeDeviceCreateXML"}
        assert world.snapshot()[0][:2] == before[0][:2]
        assert world.source.used_mdevs().keys() == {MDEV_1}


LOOKING = [
    ("check", "vm", "--to"),
    ("plan", "vm", "--to"),
    ("list",),
    ("types",),
    ("claims",),
    ("recover", "--dry-run"),
]
#: Calls that change nothing.
READING = {
    "open",
    "getHostname",
    "getVersion",
    "getLibVersion",
    "getCapabilities",
    "listAllDevices",
    "nodeDeviceLookupByName",
    "listAllDomains",
    "lookupByName",
    "lookupByUUIDString",
    "XMLDesc",
    "isActive",
    "isPersistent",
    "autostart",
    "state",
    "jobStats",
    # Of one that libvirt refuses before it connects anywhere.
    "migrateToURI3",
}


class TestOthers:
    @pytest.mark.parametrize("command", LOOKING)
    @pytest.mark.parametrize("step", [Step.CREATE, Step.MIGRATE])
    @pytest.mark.parametrize("instance", [OTHER, INSTANCE])
    def test_looking_changes_nothing(
        self, world, book, command, step, instance
    ):
        """Whatever others left, on either host: by what it calls."""
        world.add_guest({MDEV_1: "mtty-1"})
        world.destination.add_mdev(CREATED, "mtty-1")
        world.destination.add_guest("off", OTHER, [CREATED], running=False)
        claim = book.claim(step, instance)
        before = world.snapshot()
        world.group.faults.forget_calls()
        to = [world.there] if command[-1] == "--to" else []

        for call in (world.run, lambda *args: there(world, *args)):
            call(*command, *to)

        assert {c.name for c in world.group.faults.calls} <= READING
        assert (world.snapshot(), book.all()) == (before, (claim,))

    def test_check_tells_of_an_earlier_claim(self, world, book):
        """What it means for this guest is said; it does not refuse."""
        world.add_guest({MDEV_1: "mtty-1"})
        book.claim(Step.CREATE, INSTANCE)

        answer = world.run("check", "vm", "--to", world.there, "--json")

        (found,) = (
            c for c in answer.json["checks"] if c["name"] == "older-claim"
        )
        assert (answer.code, found["result"]) == (0, "unknown")
        assert found["code"] == "claim-unsettled"

    def test_check_tells_of_a_claim_that_is_over(self, world, book):
        """Nobody needs to be asked about it: the migration settles it."""
        world.add_guest({MDEV_1: "mtty-1"})
        book.host.claims.close(book.claim(Step.CREATE, INSTANCE))

        answer = world.run("check", "vm", "--to", world.there, "--json")

        (found,) = (
            c for c in answer.json["checks"] if c["name"] == "older-claim"
        )
        assert (answer.code, found["result"]) == (0, "passed")
        assert "the migration settles it first" in found["detail"]

    def test_check_tells_of_a_claim_that_nova_ends(self, world, book):
        """It refuses, as the migration would."""
        world.add_guest({MDEV_1: "mtty-1"})
        book.claim(Step.CREATE, INSTANCE, migration=builders.instance(7))

        answer = world.run("check", "vm", "--to", world.there, "--json")

        (found,) = (
            c for c in answer.json["checks"] if c["name"] == "older-claim"
        )
        assert (answer.code, found["result"]) == (1, "refused")
        assert found["code"] == "claim-held"

    def test_check_names_the_claims_of_others(self, world, book):
        """In one line."""
        world.add_guest({MDEV_1: "mtty-1"})
        book.claim(Step.CREATE)

        answer = world.run("check", "vm", "--to", world.there, "--json")

        (found,) = (
            c for c in answer.json["checks"] if c["name"] == "other-claims"
        )
        assert found["detail"] == "mdevs there are claimed for vm9"

    def test_migrate_settles_first(self, world, book):
        """A guest's own claim of a command that was killed is settled."""
        world.add_guest()
        book.claim(Step.CREATE, INSTANCE)

        answer = world.run("migrate", "vm", "--to", world.there, "--json")

        assert answer.json["result"] == "migrated"
        assert answer.json["warnings"][0].startswith("undone: ")

    def test_plan_leaves_to_the_dead_what_is_theirs(self, world, book):
        """Only 'recover' ends the claims of others."""
        world.add_guest({MDEV_1: "mtty-1"})
        claim = book.claim(Step.CREATE)

        answer = world.run("plan", "vm", "--to", world.there, "--json")

        assert (answer.code, answer.json["reuse"]) == (0, [])
        assert book.all() == (claim,)

    def test_the_second_operator_is_refused(self, world, book):
        """A guest that another command migrates is not migrated twice."""
        world.add_guest({MDEV_1: "mtty-1"})

        with KeptClaim(book.host, book.claim(Step.CREATE, INSTANCE), LIMITS):
            answer = world.run("migrate", "vm", "--to", world.there, "--json")

        assert (answer.code, answer.json["result"]) == (1, "refused")
        assert answer.json["error"]["code"] == "claim-held"
        assert len(book.all()) == 1

    def test_who_may_not_define_domains_is_refused(self, world, book):
        """With a code and a hint, before anything is changed."""
        world.add_guest({MDEV_1: "mtty-1"})
        before = world.snapshot()
        denied = testing.libvirt_error(
            libvirt.VIR_ERR_OPERATION_DENIED, "read only access"
        )
        for nth in range(1, 99):
            world.group.faults.on("defineXML", testing.fail(denied), nth=nth)

        answer = world.run("migrate", "vm", "--to", world.there, "--json")

        assert (answer.code, answer.json["result"]) == (1, "refused")
        assert answer.json["error"]["code"] == "claims-denied"
        assert "read-only" in answer.json["error"]["hint"]
        assert world.snapshot() == before

    def test_a_strange_claim_is_planned_around(self, world, book):
        """Its mdev is not chosen, and nothing of it is touched."""
        world.add_guest({MDEV_1: "mtty-1"})
        claim = replace(builders.claim(*TARGETS), owner=EVIL)
        text = claim_xml.write(claim, TARGETS[0], claim_xml.PLAIN)
        text = text.replace(claim.token, "../../etc/passwd")
        world.destination.open().defineXML(text)
        name = claim_xml.name_of(TARGET)
        before = world.destination.open().lookupByName(name).XMLDesc(0)

        answer = world.run("migrate", "vm", "--to", world.there, "--json")

        assert answer.json["result"] == "migrated"
        assert TARGET not in answer.json["target_mdevs"].values()
        after = world.destination.open().lookupByName(name).XMLDesc(0)
        assert after == before

    def test_there_and_back(self, world, book):
        """What was made for a guest goes as the guest goes."""
        world.add_guest({MDEV_1: "mtty-1", MDEV_2: "mtty-2"})
        world.run("migrate", "vm", "--to", world.there)

        back = there(world, "migrate", "vm", "--to", world.here, "--json")

        assert back.json["result"] == "migrated"
        assert list(world.destination.mdevs()) == [TARGET]
