# SPDX-License-Identifier: Apache-2.0
"""Do programs run on that know the names of earlier versions?"""

from __future__ import annotations

from mdev_migrate import service
from mdev_migrate.core import claims
from mdev_migrate.workflow import GuestMigration
from tests import scenes


def test_library_as_it_was_called():
    """A destination with a table of claims is a destination."""
    scene = scenes.Scene(["mtty-1"])
    limits = service.Limits(poll_s=0.002)

    outcome = GuestMigration(
        scene.host(scene.here),
        service.MdevMigration(
            scene.host(scene.there), claims.ClaimTable(), limits=limits
        ),
        "vm",
    ).run()

    assert outcome.result == "migrated"
