# SPDX-License-Identifier: Apache-2.0
"""Do the hooks leave guests without mdevs, and stock Nova, alone?"""

import inspect

import pytest

from mdev_migrate.compute.boots import BOOTS, while_booting
from mdev_migrate.compute.driver import MdevLiveMigrationMixin
from tests import builders, standin

#: Each hook, with the arguments that Nova may give beside context, instance.
HOOKS = {
    "check_can_live_migrate_destination": ("src", "dst", True, True),
    "check_can_live_migrate_source": ("DATA", "disks"),
    "pre_live_migration": ("disks", "network", "info", "DATA"),
    "_live_migration_operation": ("dest", False, "DATA", "GUEST", ["sda"]),
    "_live_migration_monitor": (
        "GUEST",
        "dest",
        "post",
        "recover",
        False,
        "DATA",
        "event",
        ["disk"],
    ),
    "post_live_migration_at_destination": ("network", True, "disks"),
    "rollback_live_migration_at_destination": (
        "network",
        "disks",
        False,
        "DATA",
    ),
    "cleanup": ("network", "disks", True, "DATA", False, False),
}
PAIRS = [
    (standin.StockDriver, standin.MixedDriver),
    (standin.NewerStockDriver, standin.NewerMixedDriver),
]
TYPES = {builders.uuid(1): standin.TYPE}
IDS = ["nova28", "nova29"]


class _Silent:
    """A guest that takes whatever it is told."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


def _drive(driver_class, which, hook, arguments, data):
    """Return what a hook returned and what reached the stock driver."""
    cloud = standin.Cloud(driver_class)
    driver = cloud.source
    cloud.here.add_guest("vm", which.uuid)
    driver.calls.clear()
    known = {"DATA": data, "GUEST": _Silent()}
    given = [known.get(str(each), each) for each in arguments]
    returned = getattr(driver, hook)("context", which, *given)
    return returned, [
        (
            name,
            {
                key: "GUEST" if isinstance(value, _Silent) else value
                for key, value in called.items()
            },
        )
        for name, called in driver.calls
    ]


class TestGuestWithoutMdevs:
    """It passes through the stock driver alone."""

    @pytest.mark.parametrize(("stock", "mixed"), PAIRS, ids=IDS)
    @pytest.mark.parametrize("hook", HOOKS)
    def test_calls_are_the_same(self, stock, mixed, hook, kernel):
        """The same methods, with the same arguments and the same result."""
        which = standin.plain_instance()
        data = standin.MigrateData(is_shared_instance_path=True)

        plain = _drive(stock, which, hook, HOOKS[hook], data)
        ours = _drive(mixed, which, hook, HOOKS[hook], data)

        assert ours[1] == plain[1]
        assert (ours[0] is data) == (plain[0] is data)

    @pytest.mark.parametrize("hook", HOOKS)
    def test_kernel_too_old(self, cloud, kernel, hook):
        """A host that cannot take mdevs takes guests without as ever."""
        kernel.write_text("5.4.0\n")
        cloud.here.libvirt_version = (7, 0, 0)
        data = standin.MigrateData(is_shared_instance_path=True)

        _, calls = _drive(
            cloud.driver_class,
            standin.plain_instance(),
            hook,
            HOOKS[hook],
            data,
        )

        assert calls[0][0] == hook

    def test_migrate_data_says_nothing(self, cloud):
        """No field of ours is set: it can travel as what it was before."""
        which = standin.plain_instance()
        cloud.here.add_guest("vm", which.uuid)

        data = cloud.check(which, {})

        assert not [
            name for name in standin.objects.MDEV_FIELDS if name in data
        ]

    def test_stock_step_on_the_destination(self, kernel):
        """Nova 29's own step is called if there are no source mdevs."""
        cloud = standin.Cloud(standin.NewerMixedDriver)
        which = standin.plain_instance()
        cloud.here.add_guest("vm", which.uuid)
        migration = cloud.migration()

        data = cloud.check(
            which, {"rp": {"resources": {"VCPU": 1}}}, migration
        )

        assert cloud.destination.calls[-1] == (
            "check_source_migrate_data_at_dest",
            {
                "ctxt": None,
                "instance": which,
                "migrate_data": data,
                "migration": migration,
                "limits": None,
                "allocs": {"rp": {"resources": {"VCPU": 1}}},
            },
        )

    def test_forced_to_complete(self, cloud):
        """It is, by the stock driver."""
        which = standin.plain_instance()
        cloud.here.add_guest("vm", which.uuid)

        cloud.source.live_migration_force_complete(which)

        assert cloud.source.calls == [
            ("live_migration_force_complete", {"instance": which})
        ]

    @pytest.mark.parametrize(
        "data", [None, standin.MigrateData(is_shared_instance_path=True)]
    )
    def test_cleanup_deletes_what_it_is_to(self, cloud, data):
        """The guard is for guests with mdevs."""
        cloud.source.cleanup(
            None, standin.plain_instance(), None, None, True, data
        )

        assert cloud.source.cleaned == [(True, True)]

    def test_monitor_gets_the_guest_itself(self, cloud):
        """Nothing stands between Nova and the guest."""
        which = standin.plain_instance()
        cloud.here.add_guest("vm", which.uuid)
        guest = cloud.source._host.get_guest(which)

        cloud.source._live_migration_monitor(
            None, which, guest, "", 0, 0, 0, standin.MigrateData(), 0, []
        )

        assert [name for name, _ in guest.calls] == [
            "downtime",
            "pause",
            "postcopy",
            "abort",
        ]

    def test_operation_raises(self, cloud):
        """What the stock driver raises is raised."""
        which = standin.plain_instance()
        cloud.source.failing.add("_live_migration_operation")

        with pytest.raises(standin.StockError):
            cloud.source._live_migration_operation(
                None, which, "", False, standin.MigrateData(), None, []
            )


class TestSignatures:
    """Nova passes some arguments by name, and checks signatures itself."""

    @pytest.mark.parametrize(
        "name",
        [
            name
            for name in dir(MdevLiveMigrationMixin)
            if hasattr(standin.NewerStockDriver, name)
            and not name.startswith("__")
            and name not in {"_cleanup", "_live_migration_monitor"}
        ],
    )
    def test_same_as_stock(self, name):
        """A hook has the stock method's parameters, names and defaults."""
        ours = inspect.signature(getattr(MdevLiveMigrationMixin, name))
        stock = inspect.signature(getattr(standin.NewerStockDriver, name))

        assert [(p.name, p.default) for p in ours.parameters.values()] == [
            (p.name, p.default) for p in stock.parameters.values()
        ]

    @pytest.mark.parametrize("name", BOOTS)
    def test_boots(self, name):
        """So has a method that was wrapped."""
        stock = getattr(standin.StockDriver, name)

        ours = while_booting(standin.StockDriver, name)

        assert inspect.signature(ours) == inspect.signature(stock)

    def test_made_by_the_composed_class(self, cloud):
        """A class that brings no knowledge of Nova is told so."""

        class Bare(MdevLiveMigrationMixin, standin.StockDriver):
            pass

        with pytest.raises(NotImplementedError):
            Bare(cloud.source.virtapi)


class TestClaimedMdevs:
    """``instance_claimed_mdevs``, as Nova 29 and its tests use it."""

    @pytest.fixture
    def claimed(self, cloud):
        """Return the mapping, with one claim of one mdev."""
        data = cloud.check(standin.instance(), types=TYPES)
        self.target = data.target_mdevs[builders.uuid(1)]
        return cloud.destination.instance_claimed_mdevs

    def test_like_a_dict(self, claimed):
        """It holds mdev UUIDs by instance UUID."""
        uuid = standin.instance().uuid

        assert claimed == {uuid: [self.target]}
        assert (len(claimed), list(claimed)) == (1, [uuid])
        assert claimed.get(builders.instance(9)) is None

    def test_each_method(self, cloud, claimed):
        """All of a dict's methods do what they do, and come to an end."""
        uuid, other = standin.instance().uuid, builders.instance(9)

        assert isinstance(claimed, dict)
        assert claimed.pop(uuid, None) == [self.target]
        assert claimed.pop(uuid, None) is None
        claimed[other] = ["mdev"]
        assert claimed.popitem() == (other, ["mdev"])
        claimed.setdefault(other, []).append("mdev")
        claimed.clear()
        assert cloud.destination.instance_claimed_mdevs == {}

    def test_taken_out(self, cloud, claimed):
        """What is taken out stays claimed, until its hook ends it."""
        driver = cloud.destination
        del claimed[standin.instance().uuid]

        found = driver._get_all_assigned_mediated_devices()

        assert list(found) == [self.target]
        cloud.roll_back(standin.instance(), None)
        assert driver._get_all_assigned_mediated_devices() == {}

    def test_put_in(self, cloud, claimed):
        """What others put in is not given to anybody."""
        other = builders.instance(9)
        cloud.destination.instance_claimed_mdevs = {other: ["mdev"]}

        found = cloud.destination._get_all_assigned_mediated_devices()

        assert found == {"mdev": other, self.target: standin.instance().uuid}

    def test_put_in_beside(self, cloud, claimed):
        """What was there stays, though the same dict is set again."""
        other = builders.instance(9)
        cloud.destination.instance_claimed_mdevs |= {other: ["mdev"]}

        assert cloud.destination.instance_claimed_mdevs == {
            standin.instance().uuid: [self.target],
            other: ["mdev"],
        }

    def test_hidden(self, cloud, claimed):
        """A guest is not rebuilt with what was claimed for it."""
        which = standin.instance()

        found = cloud.destination._get_all_assigned_mediated_devices(which)

        assert found == {}


class TestWhoHoldsWhat:
    """Claims count for the host, and not for the instance."""

    def test_claims_are_counted(self, cloud):
        """Nova gives what is claimed to nobody else."""
        which = standin.instance()
        data = cloud.check(which, types=TYPES)

        found = cloud.destination._get_all_assigned_mediated_devices()

        assert found == {data.target_mdevs[builders.uuid(1)]: which.uuid}

    def test_hard_reboot(self, cloud):
        """A leftover claim is not given to the guest besides its own mdev."""
        which = standin.instance()
        own = builders.uuid(5)
        cloud.there.add_mdev(own, standin.TYPE, standin.PARENT)
        cloud.there.add_guest("vm", which.uuid, [own])
        cloud.check(which, types=TYPES)

        found = cloud.destination._hard_reboot(None, which)

        assert found == {own: which.uuid}

    def test_hard_reboot_on_the_targets(self, cloud):
        """What is claimed and is the guest's by now stays its own."""
        which = standin.instance()
        data = cloud.check(which, types=TYPES)
        target = data.target_mdevs[builders.uuid(1)]
        cloud.there.add_guest("vm", which.uuid, [target])

        found = cloud.destination._hard_reboot(None, which)

        assert found == {target: which.uuid}

    def test_hard_reboot_of_a_guest_that_is_gone(self, cloud):
        """libvirt lost the guest: there is nothing to rebuild it with."""
        which = standin.instance()
        cloud.check(which, types=TYPES)

        found = cloud.destination._hard_reboot(None, which)

        assert found == {}

    def test_no_claim(self, cloud):
        """The stock answer is the answer."""
        which = standin.instance()
        own = builders.uuid(5)
        cloud.there.add_mdev(own, standin.TYPE, standin.PARENT)
        cloud.there.add_guest("vm", which.uuid, [own])
        driver = cloud.destination

        assert driver._get_all_assigned_mediated_devices(which) == {
            own: which.uuid
        }
        assert driver._get_all_assigned_mediated_devices() == {own: which.uuid}


class TestBoots:
    """A boot's mdevs are its own before its guest is defined."""

    @staticmethod
    def claimed_meanwhile(cloud):
        """Let a migration come in during a boot; return what it gets."""
        claimed = []

        def migrate():
            data = cloud.check(standin.instance(3), types=TYPES)
            claimed.extend(data.target_mdevs.values())

        cloud.destination.during_boot = migrate
        return claimed

    @pytest.mark.parametrize("boot", ["spawn", "finish_migration"])
    def test_migration_meanwhile(self, cloud, boot):
        """A migration that comes in gets another mdev."""
        spare = builders.uuid(5)
        cloud.there.add_mdev(spare, standin.TYPE, standin.PARENT)
        claimed = self.claimed_meanwhile(cloud)
        driver = cloud.destination
        boots = {
            "spawn": (None, standin.instance(), None, None, None),
            "finish_migration": (None, None, standin.instance()),
        }
        getattr(driver, boot)(*boots[boot], standin.allocations())

        assert len(claimed) == 1
        assert spare not in claimed

    def test_migration_during_a_hard_reboot(self, cloud):
        """A guest that is not defined for a moment keeps its mdev."""
        own = builders.uuid(5)
        cloud.there.add_mdev(own, standin.TYPE, standin.PARENT)
        cloud.there.add_guest("vm", standin.instance().uuid, [own])
        claimed = self.claimed_meanwhile(cloud)
        driver = cloud.destination
        driver._hard_reboot(None, standin.instance())

        assert len(claimed) == 1
        assert own not in claimed

    def test_another_boot_meanwhile(self, cloud):
        """Two boots do not get the same mdev either."""
        driver = cloud.destination
        second = []

        def boot():
            driver.during_boot = lambda: None
            second.extend(
                driver.spawn(
                    None,
                    standin.instance(3),
                    None,
                    None,
                    None,
                    standin.allocations(),
                )
            )

        driver.during_boot = boot
        first = driver.spawn(
            None, standin.instance(), None, None, None, standin.allocations()
        )

        assert len(first) == len(second) == 1
        assert first != second

    def test_boot_meanwhile(self, cloud):
        """A boot gets none of the mdevs that a migration has claimed."""
        which = standin.instance()
        data = cloud.check(which, types=TYPES)

        mdevs = cloud.destination.spawn(
            None, standin.instance(3), None, None, None, standin.allocations()
        )

        assert set(mdevs).isdisjoint(data.target_mdevs.values())

    def test_failed_boot(self, cloud):
        """What it was given can be given to others."""
        driver = cloud.destination

        def fail():
            raise standin.StockError

        driver.during_boot = fail
        with pytest.raises(standin.StockError):
            driver.spawn(
                None,
                standin.instance(),
                None,
                None,
                None,
                standin.allocations(),
            )

        assert driver._get_all_assigned_mediated_devices() == {}

    def test_boot_without_mdevs(self, cloud):
        """Nothing is allocated, and nothing held."""
        driver = cloud.destination

        assert (
            driver.spawn(None, standin.plain_instance(), None, None, None, {})
            == []
        )
        assert driver._get_all_assigned_mediated_devices() == {}

    def test_outside_of_a_boot(self, cloud):
        """Nova may allocate elsewhere: then nothing says for how long."""
        driver = cloud.destination

        mdevs = driver._allocate_mdevs(standin.allocations())

        assert list(cloud.there.mdevs()) == mdevs
        assert driver._get_all_assigned_mediated_devices() == {}
