# SPDX-License-Identifier: Apache-2.0
"""What the tests of the mixin have in common."""

import pytest

from mdev_migrate.compute import driver_host
from tests import standin

KINDS = {
    "nova28": standin.MixedDriver,
    "nova29": standin.NewerMixedDriver,
}


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Return the file that says which kernel the hosts run: a new one."""
    path = tmp_path / "osrelease"
    path.write_text("6.12.0-amd64\n")
    monkeypatch.setattr(driver_host, "_KERNEL", path)
    return path


@pytest.fixture(params=KINDS)
def cloud(request, kernel):
    """Return two computes, with an old and with a new driver beneath."""
    return standin.Cloud(KINDS[request.param])
