# SPDX-License-Identifier: Apache-2.0
"""Are guests looked at before Nova's lock is taken, and nobody missed?"""

import threading

import pytest

from tests import builders, standin

ONE = builders.uuid(1)
TYPES = {ONE: standin.TYPE}
SPARE = builders.uuid(0xB0)


@pytest.fixture
def after_look(cloud):
    """Return a function: it lets something happen after the next look."""
    host = cloud.destination.mdev_compute.host
    look = host.named_mdevs
    waiting = []

    def look_and_go_on():
        found = look()
        if waiting:
            other = threading.Thread(target=waiting.pop())
            other.start()
            other.join()
        return found

    host.named_mdevs = look_and_go_on
    return waiting.append


def _boot(cloud, number):
    return cloud.destination.spawn(
        None, standin.instance(number), None, None, None, standin.allocations()
    )


class TestLateComers:
    """Somebody gets an mdev after the look, before the lock."""

    def test_boot(self, cloud, after_look):
        """The guest of a boot is up, and nothing is held for it any more."""
        cloud.there.add_mdev(SPARE, standin.TYPE, standin.PARENT)
        booted = []
        after_look(lambda: booted.extend(_boot(cloud, 5)))

        data = cloud.check(standin.instance(), types=TYPES)

        assert booted == [SPARE]
        assert SPARE not in data.target_mdevs.values()

    def test_guest_that_came(self, cloud, after_look):
        """A guest has arrived, and its claim is released."""
        cloud.there.add_mdev(SPARE, standin.TYPE, standin.PARENT)
        first = standin.instance(5)
        cloud.check(first, types=TYPES)

        def arrive():
            cloud.there.add_guest("vm", first.uuid, [SPARE])
            cloud.arrive(first)

        after_look(arrive)

        data = cloud.check(
            standin.instance(), migration=cloud.migration(2), types=TYPES
        )

        assert list(cloud.claimed().values()) == [
            list(data.target_mdevs.values())
        ]
        assert SPARE not in data.target_mdevs.values()

    def test_boot_after_a_look_for_a_boot(self, cloud, after_look):
        """Of two boots the second is not given what the first has."""
        cloud.there.add_mdev(SPARE, standin.TYPE, standin.PARENT)
        first = []
        after_look(lambda: first.extend(_boot(cloud, 5)))

        second = _boot(cloud, 6)

        assert first == [SPARE]
        assert second != first


class TestCalls:
    """What is not looked at costs no call."""

    def _source_check(self, cloud, others):
        mdev = builders.uuid(0xA0)
        cloud.here.add_mdev(mdev, standin.TYPE, standin.PARENT)
        which = standin.instance()
        cloud.here.add_guest("vm", which.uuid, [mdev])
        for number in range(others):
            cloud.here.add_mdev(
                builders.uuid(0xC0 + number),
                standin.TYPE,
                standin.OTHER_PARENT,
            )
        data = cloud.destination.check_can_live_migrate_destination(
            None, which, None, None
        )
        before = len(cloud.here.calls)
        found = cloud.source.check_can_live_migrate_source(None, which, data)
        assert found.source_mdev_types == {mdev: standin.TYPE}
        return len(cloud.here.calls) - before

    def test_others_mdevs(self, cloud):
        """The source's check asks nothing of mdevs of other guests."""
        alone = self._source_check(cloud, 0)
        crowded = self._source_check(standin.Cloud(cloud.driver_class), 2)

        assert crowded == alone
