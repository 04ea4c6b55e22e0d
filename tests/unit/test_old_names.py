# SPDX-License-Identifier: Apache-2.0
"""Do programs run on that know the names of earlier versions?"""

from __future__ import annotations

import pytest

from mdev_migrate import service
from mdev_migrate.cli import main
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


@pytest.mark.parametrize("place", [0, 1])
def test_folder_of_claims(place, capsys):
    """A script that names one goes on; it is not made."""
    folder = "/nonexistent/claims"
    call = ["types", "-c", "test:///default"]
    call[place:place] = ["--state-dir", folder]

    with pytest.raises(SystemExit) as ended:
        main.main(call)

    assert ended.value.code == 0
    assert folder not in "".join(capsys.readouterr())
