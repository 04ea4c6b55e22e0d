# SPDX-License-Identifier: Apache-2.0
"""Does the log of a compute tell what became of a guest, a line a step?"""

import logging

import libvirt
import pytest

from mdev_migrate import testing
from mdev_migrate.compute import migration_log
from tests import builders, standin

ONE = builders.uuid(1)


@pytest.fixture
def which(cloud, caplog):
    """Return an instance with one mdev, on the source; the log is empty."""
    caplog.set_level(logging.INFO)
    cloud.here.add_mdev(ONE, standin.TYPE, standin.PARENT)
    which = standin.instance()
    cloud.here.add_guest("vm", which.uuid, [ONE], persistent=False)
    return which


@pytest.fixture
def data(cloud, which):
    """Return its migrate data, checked, as the manager hands it on."""
    migration = cloud.migration()
    data = cloud.check(which, migration=migration)
    data.migration = migration
    return data


def _story(caplog):
    """Return level and text of each line, each of which names both UUIDs."""
    lines = [
        record
        for record in caplog.records
        if record.name == migration_log.__name__
    ]
    for line in lines:
        assert line.instance_uuid == standin.instance().uuid
        assert "\n" not in line.getMessage()
    return [(line.levelname, line.getMessage()) for line in lines]


def _abort_meanwhile(cloud, which, ask):
    """Let somebody ask for an abort while the guest is on its way."""
    error = testing.libvirt_error(
        libvirt.VIR_ERR_OPERATION_ABORTED, "canceled by client"
    )

    def abort(*_):
        ask()
        raise error

    cloud.here.faults.on("migrateToURI3", abort)


class TestSource:
    """The host that the guest leaves."""

    def test_migrated(self, cloud, which, data, caplog):
        """How it began, and that it ended well."""
        caplog.clear()

        cloud.migrate(which, data)

        uuid = data.migration.uuid
        target = data.target_mdevs[ONE]
        began, ended = _story(caplog)
        text = (
            f"Migration {uuid}: begins, to {cloud.there.uris[0]}; mdevs: "
            f"{ONE} -> {target}; downtime at most: 10000 ms"
        )
        assert began == ("INFO", text)
        assert ended == ("INFO", f"Migration {uuid}: the guest has left")

    def test_left_out(self, cloud, which, data, caplog):
        """What was asked for and cannot be is no more than a remark."""
        caplog.clear()
        cloud.source.virtapi.flags |= libvirt.VIR_MIGRATE_POSTCOPY

        cloud.migrate(which, data)

        text = "left out, as the guest has mdevs: post-copy"
        said = ("INFO", f"Migration {data.migration.uuid}: {text}")
        assert said in _story(caplog)

    def test_failed(self, cloud, which, data, caplog):
        """One line at ERROR has libvirt's reason."""
        error = testing.libvirt_error(
            libvirt.VIR_ERR_OPERATION_FAILED, "disk\nis  full"
        )
        cloud.here.faults.on("migrateToURI3", testing.fail(error))

        cloud.migrate(which, data)

        level, text = _story(caplog)[-1]
        assert level == "ERROR"
        assert text.startswith(f"Migration {data.migration.uuid}: failed: ")
        assert "disk is full" in text
        assert "Traceback" not in caplog.text

    def test_where_a_failure_came_from(self, cloud, which, data, caplog):
        """Whoever turns DEBUG on sees it."""
        caplog.set_level(logging.DEBUG)
        error = testing.libvirt_error(
            libvirt.VIR_ERR_OPERATION_FAILED, "disk is full"
        )
        cloud.here.faults.on("migrateToURI3", testing.fail(error))

        cloud.migrate(which, data)

        assert caplog.text.count("Traceback") == 1

    def test_aborted(self, cloud, which, data, caplog):
        """What somebody asked for is no error."""
        driver = cloud.source
        guest = driver._host.get_guest(which)
        driver.during_monitor = lambda: cloud.migrate(which, data)
        _abort_meanwhile(
            cloud, which, lambda: driver.live_migration_abort(which)
        )

        driver._live_migration_monitor(
            None, which, guest, "", 0, 0, 0, data, 0, []
        )

        (text,) = [
            text
            for level, text in _story(caplog)
            if level == "INFO" and "aborted, as was asked for: " in text
        ]
        assert "canceled by client" in text

    def test_out_of_time(self, cloud, which, data, caplog):
        """Nor is what Nova's monitor asked for."""
        driver = cloud.source
        guest = driver._host.get_guest(which)
        driver.during_monitor = lambda: cloud.migrate(which, data)
        _abort_meanwhile(
            cloud, which, lambda: driver.live_migration_force_complete(which)
        )

        driver._live_migration_monitor(
            None, which, guest, "", 0, 0, 0, data, 0, []
        )

        assert "aborted, as was asked for: " in caplog.text
        assert "ERROR" not in [level for level, _ in _story(caplog)]

    def test_abort_of_an_earlier_migration(self, cloud, which, data, caplog):
        """A failure later is a failure again."""
        self.test_aborted(cloud, which, data, caplog)
        cloud.here.faults.clear()
        error = testing.libvirt_error(libvirt.VIR_ERR_OPERATION_FAILED, "no")
        cloud.here.faults.on("migrateToURI3", testing.fail(error))

        cloud.migrate(which, data)

        assert _story(caplog)[-1][0] == "ERROR"

    def test_refused(self, cloud, which, kernel, caplog):
        """A refusal is an answer, and it has its code."""
        kernel.write_text("5.15.0-91-generic\n")

        with pytest.raises(standin.Refused):
            cloud.check(which)

        ((level, text),) = _story(caplog)
        assert level == "INFO"
        assert "refused: destination host host-b: Linux 5.15.0" in text
        assert "(kernel-too-old: " in text

    def test_not_checked(self, cloud, which, caplog):
        """What went wrong in a check is one line at ERROR."""
        cloud.here.faults.on(
            "getVersion",
            testing.fail(
                testing.libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "oops")
            ),
        )

        with pytest.raises(standin.Refused):
            cloud.check(which)

        level, text = _story(caplog)[-1]
        assert level == "ERROR"
        assert "the pre-check could not be made: " in text
        assert "Traceback" not in caplog.text


class TestDestination:
    """The host that the guest comes to."""

    def test_claimed(self, cloud, which, caplog):
        """From where, which mdevs become which, and which are new."""
        migration = cloud.migration()

        data = cloud.check(which, migration=migration)

        target = data.target_mdevs[ONE]
        text = (
            f"Migration {migration.uuid}: claimed, for a guest from host-a: "
            f"{ONE} -> {target}; created for it: {target}"
        )
        assert _story(caplog) == [("INFO", text)]

    def test_arrived(self, cloud, which, data, caplog):
        """Prepared, and released, each with the mdevs."""
        target = data.target_mdevs[ONE]

        cloud.prepare(which, data)
        cloud.migrate(which, data)
        cloud.arrive(which)

        uuid = data.migration.uuid
        prepared, _, _, released = _story(caplog)
        assert prepared == ("INFO", f"Migration {uuid}: prepared: {target}")
        text = f"the guest has its mdevs, no longer claimed: {target}"
        assert released == ("INFO", f"Migration {uuid}: {text}")

    def test_created_mdev_is_undone(self, cloud, which, data, caplog):
        """What was made for the guest is named as it is removed."""
        target = data.target_mdevs[ONE]
        cloud.prepare(which, data)

        cloud.roll_back(which, data)

        level, text = _story(caplog)[-1]
        assert level == "INFO"
        assert text.endswith(
            f"undone; mdevs removed: {target}; recycled: none; left as they "
            "are: none"
        )

    def test_reused_mdev_is_undone(self, cloud, which, caplog):
        """One that was there is recycled once the guest was on its way."""
        spare = builders.uuid(5)
        cloud.there.add_mdev(spare, standin.TYPE, standin.PARENT)
        data = cloud.check(which)
        cloud.prepare(which, data)

        cloud.roll_back(which, data)

        assert f"recycled: {spare}; left as they are: none" in caplog.text

    def test_not_even_prepared(self, cloud, which, caplog):
        """And left as it is before."""
        spare = builders.uuid(5)
        cloud.there.add_mdev(spare, standin.TYPE, standin.PARENT)
        data = cloud.check(which)

        cloud.roll_back(which, data)

        assert f"recycled: none; left as they are: {spare}" in caplog.text

    def test_busy(self, cloud, which, data, caplog):
        """One that is kept out of use is a warning, and says why."""
        target = data.target_mdevs[ONE]
        cloud.prepare(which, data)

        with standin.busy(cloud):
            cloud.roll_back(which, data)

        (line,) = [each for each in caplog.records if "kept" in each.message]
        assert line.levelname == "WARNING"
        text = line.getMessage()
        assert f"Migration {data.migration.uuid}: a target mdev is" in text
        assert f"mdev {target} is busy: " in text

    def test_claim_that_is_gone(self, cloud, which, data, caplog):
        """A guest whose claim was ended is refused, in the right words."""
        driver = cloud.destination
        for claim in driver.mdev_compute.promises.of(which.uuid):
            driver.mdev_compute.promises.release(claim)

        with pytest.raises(standin.Refused, match="claim-lost"):
            cloud.prepare(which, data)

        assert _story(caplog)[-1][1].startswith(
            f"Migration {data.migration.uuid}: refused: instance {which.uuid}"
        )


class TestGuestWithoutMdevs:
    """Nothing is said of it."""

    def test_silent(self, cloud, caplog):
        """Not a line, whatever becomes of it."""
        caplog.set_level(logging.DEBUG)
        which = standin.plain_instance()
        cloud.here.add_guest("vm", which.uuid)

        data = cloud.check(which, {})
        cloud.prepare(which, data)
        cloud.migrate(which, data)
        cloud.arrive(which)

        assert _story(caplog) == []
