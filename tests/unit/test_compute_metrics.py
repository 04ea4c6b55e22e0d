# SPDX-License-Identifier: Apache-2.0
"""Does Prometheus learn from both computes how a migration ended?"""

import libvirt
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mdev_migrate import testing
from mdev_migrate.compute import metrics_file
from tests import builders, standin

ONE = builders.uuid(1)


@pytest.fixture
def files(cloud, tmp_path):
    """Return the files of the source and of the destination."""
    cloud.files = tmp_path / "source.prom", tmp_path / "destination.prom"
    cloud.source.virtapi.metrics_file = str(cloud.files[0])
    cloud.destination.virtapi.metrics_file = str(cloud.files[1])
    return cloud.files


@pytest.fixture
def which(cloud):
    """Return an instance that runs on the source, with one mdev."""
    which = standin.instance()
    which.name = "web-1"
    cloud.here.add_mdev(ONE, standin.TYPE, parent=standin.PARENT)
    cloud.here.add_guest("web-1", which.uuid, [ONE])
    cloud.here.required_downtime_ms = 250
    return which


def _samples(path):
    """Return what a file tells, by name, and by step or result."""
    families = text_string_to_metric_families(path.read_text())
    return {
        (
            sample.name.removeprefix("mdev_migrate_"),
            sample.labels.get("step") or sample.labels.get("result", ""),
        ): sample
        for family in families
        for sample in family.samples
    }


def _arrive(cloud, which):
    data = cloud.check(which)
    cloud.prepare(which, data)
    cloud.migrate(which, data)
    cloud.arrive(which)


def test_migrated(cloud, which, files):
    """The source tells how and how long, the destination what it saw."""
    _arrive(cloud, which)

    source, destination = map(_samples, files)
    assert source["result", "migrated"].value == 1
    assert source["result", "migrated"].labels == {
        "guest": "web-1",
        "instance_uuid": which.uuid,
        "mdev_types": standin.TYPE,
        "result": "migrated",
        "code": "",
    }
    assert source["step_seconds", "migrate"].value > 0
    assert destination["downtime_seconds", ""].value == 0.25
    assert destination["sent_bytes", ""].value == 64 * 2**20
    assert ("result", "migrated") not in destination


def test_steps_before(cloud, which, files):
    """Each end tells how long its part of the checks and of claiming took."""
    _arrive(cloud, which)

    source, destination = (
        {step for name, step in _samples(path) if name == "step_seconds"}
        for path in files
    )
    assert source == {"check", "migrate"}
    assert destination == {"check", "claim", "prepare"}


def test_steps_of_an_earlier_try(cloud, which, files):
    """What a migration took that was rolled back is not told of the next."""
    data = cloud.check(which)
    cloud.prepare(which, data)
    cloud.roll_back(which, data)

    cloud.migrate(which, cloud.check(which))
    cloud.arrive(which)

    steps = {
        step for name, step in _samples(files[1]) if name == "step_seconds"
    }
    assert steps == {"check", "claim"}


@pytest.mark.parametrize("known", [True, False])
def test_device_state(cloud, which, files, known):
    """What libvirt tells Nova's monitor, which does not ask for it."""
    monitored = cloud.source.mdev_monitored
    data = cloud.check(which)
    cloud.prepare(which, data)

    def pace(step):
        if (step.phase, step.guest) == ("load", which.uuid):
            if not known:
                error = testing.libvirt_error(libvirt.VIR_ERR_RPC, "hiccup")
                cloud.here.faults.on("jobStats", testing.fail(error), nth=2)
            monitored[which.uuid].get_job_info()

    def watched():
        cloud.here.group.pace = pace
        cloud.migrate(which, data)

    cloud.source.during_monitor = watched
    cloud.source._live_migration_monitor(
        None,
        which,
        cloud.source._host.get_guest(which),
        "there",
        None,
        None,
        False,
        data,
        None,
        None,
    )

    found = _samples(files[0])
    assert found["result", "migrated"].value == 1
    if known:
        assert found["device_bytes", ""].value == 2**20
    else:
        assert ("device_bytes", "") not in found


def test_failed(cloud, which, files):
    """A failure is told with a code; nothing has come."""
    error = testing.libvirt_error(libvirt.VIR_ERR_OPERATION_FAILED, "no")
    cloud.here.faults.on("migrateToURI3", testing.fail(error))
    data = cloud.check(which)
    cloud.prepare(which, data)

    cloud.migrate(which, data)
    cloud.roll_back(which, data)

    told = _samples(files[0])["result", "failed"]
    assert told.labels["code"] == "migration-failed"
    assert not files[1].exists()


def test_aborted(cloud, which, files):
    """An abort that was asked for has its own code."""
    cloud.source.mdev_monitored[which.uuid] = None

    def abort(_link, _call):
        cloud.source.mdev_aborted.add(which.uuid)
        raise testing.libvirt_error(libvirt.VIR_ERR_OPERATION_ABORTED, "no")

    cloud.here.faults.on("migrateToURI3", abort)
    data = cloud.check(which)

    cloud.migrate(which, data)

    told = _samples(files[0])["result", "failed"]
    assert told.labels["code"] == "migration-aborted"


def test_off(cloud, which):
    """Without the option libvirt is not asked for it."""
    _arrive(cloud, which)

    asked = [name for _, name in cloud.there.calls]
    assert "jobStats" not in asked
    assert not cloud.source.mdev_compute.metrics.wanted


def test_cannot_be_written(cloud, which, files, caplog):
    """That is said once, and the guest moves all the same."""
    for compute in (cloud.source, cloud.destination):
        compute.virtapi.metrics_file = "/nonexistent/mdev.prom"

    _arrive(cloud, which)
    cloud.source.mdev_compute.metrics.left(which, [standin.TYPE], 1.0)

    assert caplog.text.count("No metrics of live migrations: ") == 2
    assert cloud.there.used_mdevs()


def test_the_destination_does_not_answer(cloud, which, files):
    """What libvirt cannot tell is left out; what was timed here is not."""
    error = testing.libvirt_error(libvirt.VIR_ERR_RPC, "hiccup")
    cloud.there.faults.on("jobStats", testing.fail(error))

    _arrive(cloud, which)

    found = _samples(files[1])
    assert ("downtime_seconds", "") not in found
    assert found["step_seconds", "claim"].value > 0


def test_the_last_of_each(cloud, files, monkeypatch):
    """An instance is told of once, and an endless row of them is not kept."""
    monkeypatch.setattr(metrics_file, "_KEPT", 2)
    metrics = cloud.source.mdev_compute.metrics

    for number in (2, 3, 4, 3):
        metrics.left(standin.instance(number), [standin.TYPE], 1.0)

    text = files[0].read_text()
    assert text.count("mdev_migrate_result{") == 2
    assert builders.instance(2) not in text
