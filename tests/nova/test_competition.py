# SPDX-License-Identifier: Apache-2.0
"""Do all get their own who compete for a destination in Nova's own process?

Where the release runs on eventlet the threads here are its green threads,
and locks and sleeps are patched; where not, they are the system's.
"""

from __future__ import annotations

import queue
import threading
import time
import types
import unittest
import uuid as uuids
from typing import Any

import fixtures
from nova import exception
from nova import objects as nova_objects
from nova.compute import task_states
from nova.objects import migrate_data

from tests.nova import base
from tests.nova.fake_host import PARENTS, TYPE_A, TYPE_B

#: How many want an mdev, and how many there can be.
COMPETITORS, CAPACITY = 64, 24
#: Long enough for a slow machine; a deadlock lasts longer.
LIMIT_S = 120


@unittest.skipIf(base.STOCK, "asks the mixin alone")
class TestCompetition(base.MdevComputesTestCase):
    destination_room = {  # noqa: RUF012
        TYPE_A: CAPACITY,
        TYPE_B: CAPACITY,
    }

    def setUp(self) -> None:
        super().setUp()
        self.driver = self.destination.driver
        provider = self._get_provider_uuid_by_name(f"destination_{PARENTS[0]}")
        self.allocations = {provider: {"resources": {"VGPU": 1}}}
        self.answers: queue.Queue[Any] = queue.Queue()
        self.all_have_answers = threading.Event()
        self.addCleanup(self.all_have_answers.set)
        listing = base.fake_host._NodeMdevs.get_all_devices

        def slow(mdevs: Any) -> Any:
            listed = listing(mdevs)
            time.sleep(0.001)  # Others go on meanwhile, as with libvirt.
            return listed

        for name, replacement in (
            ("tests.nova.fake_host._NodeMdevs.get_all_devices", slow),
            ("nova.objects.Migration.get_by_uuid", self._under_way),
            ("nova.objects.Instance.get_by_uuid", self._migrating),
        ):
            self.useFixture(fixtures.MonkeyPatch(name, replacement))

    @staticmethod
    def _under_way(context: Any, uuid: str) -> Any:
        return nova_objects.Migration(
            uuid=uuid,
            instance_uuid=uuid,
            status="accepted",
            dest_compute=None,
        )

    @staticmethod
    def _migrating(context: Any, uuid: str) -> Any:
        return nova_objects.Instance(
            uuid=uuid, task_state=task_states.MIGRATING
        )

    def _migrate(self) -> list[str]:
        """Come from elsewhere, and keep what is claimed."""
        uuid = str(uuids.uuid4())
        data = migrate_data.LibvirtLiveMigrateData(
            source_mdev_types={str(uuids.uuid4()): TYPE_A}
        )
        answer = self.driver.check_source_migrate_data_at_dest(
            self.context,
            types.SimpleNamespace(uuid=uuid, flavor=None),
            data,
            types.SimpleNamespace(uuid=uuid, source_compute="source"),
            None,
            self.allocations,
        )
        return list(answer.target_mdevs.values())

    def _boot(self) -> list[str]:
        """Be booted, and keep what is allocated until all have answers."""
        return list(self.driver._allocate_mdevs(self.allocations))

    def _compete(self, number: int) -> None:
        """Ask for an mdev as a migration or as a boot, in turns."""
        with self.driver.mdev_compute.promises.booting(str(uuids.uuid4())):
            try:
                self.answers.put(
                    self._boot() if number % 2 else self._migrate()
                )
            except (
                exception.MigrationPreCheckError,
                exception.ComputeResourcesUnavailable,
            ):
                self.answers.put([])
            except Exception as error:  # noqa: BLE001 - fails the test
                self.answers.put([repr(error)])
            self.all_have_answers.wait(LIMIT_S)

    def _look(self) -> None:
        """Look at the claims again and again, as another process does."""
        while not self.all_have_answers.is_set():
            self.driver.mdev_compute.host.claims.read()
            time.sleep(0.001)

    def test_capacity(self):
        """All there is room for is given out, each once, and nobody hangs."""
        for _ in range(CAPACITY // 2):
            self.target_host.create(PARENTS[0], TYPE_A)
        threads = [
            threading.Thread(target=self._compete, args=(number,), daemon=True)
            for number in range(COMPETITORS)
        ]
        threads.append(threading.Thread(target=self._look, daemon=True))
        for thread in threads:
            thread.start()

        given = [
            uuid
            for _ in range(COMPETITORS)
            for uuid in self.answers.get(timeout=LIMIT_S)
        ]
        self.all_have_answers.set()
        for thread in threads:
            thread.join(LIMIT_S)

        self.assertEqual(CAPACITY, len(given), given)
        self.assertEqual(set(self.target_host.mdevs), set(given))
        self.assertEqual([], [each for each in threads if each.is_alive()])
