# SPDX-License-Identifier: Apache-2.0
"""What ``types``, ``list``, ``check`` and ``plan`` answer."""

from collections.abc import Callable

import libvirt
import pytest

from mdev_migrate import testing
from mdev_migrate.cli import listing
from mdev_migrate.core import claim_xml
from tests import builders
from tests.functional.conftest import (
    INSTANCE,
    MDEV_1,
    MDEV_2,
    TARGET,
    World,
)

CHECK_KEYS = {
    "guest",
    "instance_uuid",
    "allowed",
    "checks",
    "source_mdev_types",
    "estimate",
}
PLAN_KEYS = CHECK_KEYS | {"target_mdevs", "create", "reuse", "difference"}
ERROR_KEYS = {"code", "step", "message", "hint"}
NOWHERE = "qemu+tls://nowhere/system"


def _lines(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


class TestTypes:
    def test_json_has_every_parent_and_type(self, world: World):
        """A program gets what each parent offers."""
        answer = world.run("types", "--json")

        assert answer.json == {
            "host": "host-a",
            "parents": [
                {
                    "parent": "mtty_mtty",
                    "types": [
                        {
                            "type": "mtty-1",
                            "name": "Single port serial",
                            "device_api": "vfio-pci",
                            "available_instances": 24,
                        },
                        {
                            "type": "mtty-2",
                            "name": "Dual port serial",
                            "device_api": "vfio-pci",
                            "available_instances": 12,
                        },
                    ],
                }
            ],
            "warnings": [],
        }

    def test_people_get_plain_columns(self, world: World):
        """Without a terminal, columns are padded and nothing is drawn."""
        answer = world.run("types")

        assert answer == (
            0,
            _lines(
                "PARENT     TYPE    NAME                DEVICE API  "
                "AVAILABLE INSTANCES",
                "mtty_mtty  mtty-1  Single port serial  vfio-pci    24",
                "mtty_mtty  mtty-2  Dual port serial    vfio-pci    12",
            ),
            "",
        )

    def test_host_without_parents(self, world: World):
        """A host that has nothing to cut mdevs from says so."""
        bare = world.group.add_host("bare")

        answer = world.call("types", "--connect", bare.uris[0])

        assert answer.out == (
            "bare has no device that mdevs can be cut from\n"
        )


class TestList:
    def test_json_tells_who_holds_each(self, world: World):
        """Guests hold mdevs; an mdev that nobody holds has null."""
        world.add_guest({MDEV_1: "mtty-1"})
        world.source.add_mdev(MDEV_2, "mtty-2", persistent=True, active=False)

        answer = world.run("list", "--json")

        assert answer.json == {
            "host": "host-a",
            "mdevs": [
                {
                    "uuid": MDEV_1,
                    "type": "mtty-1",
                    "parent": "mtty_mtty",
                    "state": "active",
                    "held_by": "vm",
                },
                {
                    "uuid": MDEV_2,
                    "type": "mtty-2",
                    "parent": "mtty_mtty",
                    "state": "defined",
                    "held_by": None,
                },
            ],
            "warnings": [],
        }

    def test_guest_that_is_shut_off_holds_its_mdevs(self, world: World):
        """An mdev of a defined guest is not shown as available."""
        world.add_guest({MDEV_1: "mtty-1"}, running=False)

        answer = world.run("list")

        assert answer.out.splitlines()[1].split()[-1] == "vm"

    def test_claim_holds_an_mdev(self, world: World):
        """What a migration was promised names its instance."""
        world.destination.add_mdev(TARGET, "mtty-1")
        host = world._open(world.there)
        (mdev,) = host.inventory().mdevs
        claim = builders.claim(builders.target(mdev), instance_uuid=INSTANCE)
        host.claims.define(claim, claim_xml.PLAIN)

        rows = listing.rows(host.inventory())

        assert [row.held_by for row in rows] == [f"claim of {INSTANCE}"]

    def test_no_mdevs(self, world: World):
        """An empty host is said to be empty."""
        assert world.run("list") == (0, "host-a has no mdevs\n", "")


class TestCheck:
    def test_yes(self, world: World):
        """A migration that can be done is allowed, with exit code 0."""
        world.add_guest()

        answer = world.run("check", "vm", "--to", world.there, "--json")

        found = answer.json
        assert answer.code == 0
        assert found.keys() == CHECK_KEYS
        assert (found["guest"], found["instance_uuid"]) == ("vm", INSTANCE)
        assert found["allowed"] is True
        assert found["source_mdev_types"] == {
            MDEV_1: "mtty-1",
            MDEV_2: "mtty-2",
        }
        assert found["estimate"] == {"device_bytes": 156, "downtime_ms": None}
        for check in found["checks"]:
            assert check.keys() == {
                "name",
                "side",
                "result",
                "code",
                "detail",
                "hint",
            }
            assert check["result"] == "passed"
            assert (check["code"], check["hint"]) == (None, None)

    @pytest.mark.parametrize(
        ("strict", "code", "refusal"),
        [((), 0, None), (("--strict-downtime",), 1, "downtime-too-long")],
    )
    @pytest.mark.parametrize("command", ["check", "plan"])
    def test_estimate(
        self,
        capsys: pytest.CaptureFixture[str],
        command: str,
        strict: tuple[str, ...],
        code: int,
        refusal: str | None,
    ):
        """What the devices may take is told, and refused on request."""
        types = [testing.OfferedType("nvidia-557", "NVIDIA A40-8Q")]
        world = World(
            capsys, lambda: testing.SharedParent("pci_0000_06_00_0", types, 6)
        )
        world.add_guest({MDEV_1: "nvidia-557"})

        answer = world.run(
            command,
            *("vm", "--to", world.there, "--json", "--bandwidth", "1024"),
            *("--max-downtime", "7999", *strict),
        )

        (check,) = (
            each
            for each in answer.json["checks"]
            if each["name"] == "downtime"
        )
        assert answer.code == code
        assert answer.json["estimate"] == {
            "device_bytes": 8 << 30,
            "downtime_ms": 8000,
        }
        assert check["code"] == refusal
        assert "may take 8000 ms" in check["detail"]

    def test_strict_needs_a_bandwidth(self, world: World):
        """Nobody can keep a budget that cannot be told."""
        world.add_guest()

        answer = world.run(
            "check", "vm", "--to", world.there, "--strict-downtime", "--json"
        )

        assert answer.json["error"]["code"] == "option-invalid"

    def test_guest_by_uuid(self, world: World):
        """A guest is found by its UUID, in whatever letters."""
        world.add_guest()

        answer = world.run(
            "check", INSTANCE.upper(), "--to", world.there, "--json"
        )

        assert answer.json["guest"] == "vm"

    def test_refusal_has_code_and_hint(self, world: World):
        """A refused check says what is wrong and what to do; exit code 1."""
        world.add_guest()
        world.destination.libvirt_version = (8, 5, 0)

        answer = world.run("check", "vm", "--to", world.there, "--json")

        (refused,) = [
            check
            for check in answer.json["checks"]
            if check["result"] == "refused"
        ]
        assert (answer.code, answer.json["allowed"]) == (1, False)
        assert (refused["side"], refused["code"]) == (
            "destination",
            "libvirt-too-old",
        )
        assert refused["hint"]
        assert "8.5.0 found, 8.6.0 or later needed" in refused["detail"]

    def test_people_see_the_refusal(self, world: World):
        """The table, the hint and the verdict are one answer on stdout."""
        world.add_guest(blockers=["no VFIO migration"])

        answer = world.run("check", "vm", "--to", world.there)

        assert (answer.code, answer.err) == (1, "")
        assert "migration-blockers  source       refused" in answer.out
        assert "hint: migration-blockers: " in answer.out
        assert answer.out.endswith(
            "refused: guest vm cannot be migrated, see migration-blockers\n"
        )

    def test_guest_without_mdevs(self, world: World):
        """It may be migrated, and a check says that it has none."""
        world.add_guest({})

        answer = world.run("check", "vm", "--to", world.there, "--json")

        last = answer.json["checks"][-1]
        assert (answer.code, answer.json["allowed"]) == (0, True)
        assert (last["name"], last["result"]) == ("guest-mdevs", "passed")
        assert "has no mdevs" in last["detail"]

    def test_unknown_guest(self, world: World):
        """The answer has its usual shape, empty, and the error."""
        answer = world.run("check", "nobody", "--to", world.there, "--json")

        found = answer.json
        error = found.pop("error")
        assert answer.code == 1
        assert found == {
            "guest": "nobody",
            "instance_uuid": None,
            "allowed": False,
            "checks": [],
            "source_mdev_types": {},
            "estimate": None,
        }
        assert error.keys() == ERROR_KEYS
        assert (error["code"], error["step"]) == ("guest-not-found", "check")

    def test_unknown_guest_for_people(self, world: World):
        """One line says what is wrong, one what to do, one is the code."""
        answer = world.run("check", "nobody", "--to", world.there)

        assert answer == (
            1,
            "",
            _lines(
                "error: host host-a: no guest 'nobody'",
                "hint: give its name or UUID, or its number while it is "
                "active: 'virsh list --all' on that host shows them",
                "code: guest-not-found",
            ),
        )


class TestPlan:
    def test_reuse_and_create(self, world: World):
        """What waits is reused, the rest created, each of its type."""
        world.add_guest()
        world.destination.add_mdev(TARGET, "mtty-1")

        answer = world.run("plan", "vm", "--to", world.there, "--json")

        found = answer.json
        (created,) = found["create"]
        assert (answer.code, found.keys()) == (0, PLAN_KEYS)
        assert found["reuse"] == [TARGET]
        assert (created["type"], created["parent"]) == ("mtty-2", "mtty_mtty")
        assert found["target_mdevs"] == {
            MDEV_1: TARGET,
            MDEV_2: created["uuid"],
        }
        assert f'+        <address uuid="{TARGET}"/>' in found["difference"]

    def test_changes_nothing(self, world: World):
        """Neither host looks different after a plan."""
        world.add_guest()
        before = world.snapshot()

        world.run("plan", "vm", "--to", world.there)

        assert world.snapshot() == before

    def test_people_see_pairs_and_difference(self, world: World):
        """Each pair says whether it is reused or created."""
        world.add_guest()
        world.destination.add_mdev(TARGET, "mtty-1")

        answer = world.run("plan", "vm", "--to", world.there)

        pair = f"{MDEV_1}  {TARGET}  mtty-1  mtty_mtty  reuse\n"
        assert pair in answer.out
        assert "--- source\n+++ destination\n" in answer.out

    def test_refused_plan_is_empty(self, world: World):
        """A refused migration has no plan, but has its checks."""
        world.add_guest({MDEV_1: "mtty-1"})
        filler = "77777777-7777-4777-8777-{:012d}"
        for number in range(24):
            world.destination.add_mdev(filler.format(number), "mtty-1")
        world.destination.add_guest(
            "other",
            TARGET,
            [filler.format(number) for number in range(24)],
        )

        answer = world.run("plan", "vm", "--to", world.there, "--json")

        codes = [check["code"] for check in answer.json["checks"]]
        assert (answer.code, answer.json.keys()) == (1, PLAN_KEYS)
        assert codes[-1] == "too-few-mdevs"
        assert answer.json["target_mdevs"] == {}
        assert answer.json["create"] == answer.json["reuse"] == []

    def test_guest_without_mdevs(self, world: World):
        """Nothing is planned for a guest that needs nothing."""
        world.add_guest({})

        answer = world.run("plan", "vm", "--to", world.there)

        assert answer.code == 0
        assert answer.out.endswith(
            "nothing is to be reused, created or rewritten: it has no mdevs\n"
        )


class TestBadInput:
    @pytest.mark.parametrize("command", ["check", "plan", "migrate"])
    def test_same_host(self, world: World, command: str):
        """A host is no destination for its own guests."""
        world.add_guest()

        answer = world.run(command, "vm", "--to", world.here)

        assert answer.code == 1
        assert "same-host" in answer.out + answer.err

    @pytest.mark.parametrize(
        "args",
        [
            ("-c", NOWHERE, "types"),
            ("-c", NOWHERE, "list"),
            ("check", "vm", "--to", NOWHERE),
            ("plan", "vm", "--to", NOWHERE),
            ("migrate", "vm", "--to", NOWHERE),
        ],
    )
    def test_unreachable(self, world: World, args: tuple[str, ...]):
        """Exit code 3 and the step 'connect', for every command."""
        world.add_guest()

        answer = world.run(*args, "--json")

        error = answer.json["error"]
        assert answer.code == 3
        assert (error["code"], error["step"]) == (
            "host-unreachable",
            "connect",
        )

    def test_connection_lost_while_looking(self, world: World):
        """A host that is gone in the middle cannot be reached either."""
        world.add_guest()
        world.group.faults.on(
            "listAllDevices", testing.lose_connection(), host="host-b"
        )

        answer = world.run("check", "vm", "--to", world.there, "--json")

        assert answer.code == 3
        assert answer.json["error"]["step"] == "check"

    @pytest.mark.parametrize(
        ("number", "code"),
        [
            (libvirt.VIR_ERR_INTERNAL_ERROR, "libvirt-failed"),
            (libvirt.VIR_ERR_ACCESS_DENIED, "access-denied"),
        ],
    )
    def test_libvirt_failure(self, world: World, number: int, code: str):
        """What libvirt refuses is told in its own words."""
        world.group.faults.on(
            "listAllDomains",
            testing.fail(testing.libvirt_error(number, "not for you")),
        )

        answer = world.run("list")

        assert (answer.code, answer.out) == (1, "")
        assert "not for you" in answer.err
        assert answer.err.endswith(f"code: {code}\n")

    def test_malformed_xml(self, world: World):
        """A document that cannot be read is an error, not a traceback."""
        world.add_guest()
        world.group.faults.on("XMLDesc", lambda _link, _call: "<domain")

        answer = world.run("check", "vm", "--to", world.there, "--json")

        assert answer.code == 1
        assert answer.json["error"]["code"] == "xml-malformed"

    def test_duplicate_uuids(self, world: World):
        """An mdev that a guest names twice is refused."""

        def double(_link: object, call: Callable[[], str]) -> str:
            text = call()
            if text.startswith("<domain"):
                return text.replace(MDEV_2, MDEV_1)
            return text

        world.add_guest()
        for number in range(1, 30):
            world.group.faults.on("XMLDesc", double, nth=number)

        answer = world.run("check", "vm", "--to", world.there, "--json")

        codes = {check["code"] for check in answer.json["checks"]}
        assert (answer.code, "guest-mdev-twice" in codes) == (1, True)

    def test_mdev_under_two_parents(self, world: World):
        """An mdev whose parent is not certain is refused."""
        source = world.group.add_host(
            "twin", [testing.MttyParent(), testing.MttyParent("mtty_other")]
        )
        source.add_mdev(MDEV_1, "mtty-1")
        source.add_mdev(
            MDEV_1, "mtty-1", "mtty_other", persistent=True, active=False
        )
        source.add_guest("vm", INSTANCE, [MDEV_1])

        answer = world.call(
            "-c", source.uris[0], "check", "vm", "--to", world.there, "--json"
        )

        codes = {check["code"] for check in answer.json["checks"]}
        assert (answer.code, "mdev-under-two-parents" in codes) == (1, True)

    def test_type_missing(self, world: World):
        """A type that the destination has not is refused."""
        world.add_guest()
        other = world.group.add_host(
            "other",
            [testing.NvidiaParent("pci_0000_06_00_0", {"nvidia-11": 4})],
        )

        answer = world.run("check", "vm", "--to", other.uris[0])

        assert answer.code == 1
        assert "(mdev-type-missing)" in answer.out

    def test_not_running(self, world: World):
        """A guest that is shut off is refused, with nothing changed."""
        world.add_guest(running=False)
        before = world.snapshot()

        answer = world.run("migrate", "vm", "--to", world.there, "--json")

        assert answer.code == 1
        assert answer.json["error"]["code"] == "guest-not-running"
        assert world.snapshot() == before
