# SPDX-License-Identifier: Apache-2.0
"""The migrate data that the wire tests exchange, and a way to write it down.

    MDEV_MIGRATE_STOCK=1 python -m tests.nova.wire_samples NAME

writes what this environment's stock Nova makes of the samples to
``tests/nova/golden/NAME.json``: done once a release, and then compared by
every other.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

from nova.objects import migrate_data

GOLDEN = pathlib.Path(__file__).parent / "golden"

SOURCE = "55555555-5555-4555-8555-555555555555"
TARGET = "33333333-3333-4333-8333-333333333333"

PLAIN = {
    "is_shared_instance_path": True,
    "is_shared_block_storage": False,
    "block_migration": False,
    "instance_relative_path": "aaaaaaaa-0000-4000-8000-000000000001",
    "serial_listen_ports": [],
    "supported_perf_events": [],
}
MDEVS = {
    "dst_supports_mdev_live_migration": True,
    "source_mdev_types": {SOURCE: "nvidia-11"},
    "target_mdevs": {SOURCE: TARGET},
}


def plain() -> Any:
    """Return the migrate data of a guest without mdevs."""
    return migrate_data.LibvirtLiveMigrateData(**PLAIN)


def with_mdevs() -> Any:
    """Return the migrate data of a guest with one mdev."""
    return migrate_data.LibvirtLiveMigrateData(**PLAIN, **MDEVS)


def primitive(data: Any, version: str | None = None) -> dict[str, Any]:
    """Return what goes over the wire, in an order that can be compared."""
    made: dict[str, Any] = data.obj_to_primitive(target_version=version)
    made["nova_object.changes"] = sorted(made.get("nova_object.changes", ()))
    return made


def known() -> dict[str, dict[str, Any]]:
    """Return what this Nova makes of the samples that it knows."""
    made = {"plain": primitive(plain())}
    if "target_mdevs" in migrate_data.LibvirtLiveMigrateData.fields:
        made["mdevs"] = primitive(with_mdevs())
        made["mdevs as 1.11"] = primitive(with_mdevs(), "1.11")
        made["mdevs as 1.10"] = primitive(with_mdevs(), "1.10")
    return made


def golden(release: str) -> dict[str, dict[str, Any]]:
    """Return what a release's stock Nova had made of the samples."""
    text = (GOLDEN / f"{release}.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = json.loads(text)
    return found


if __name__ == "__main__":
    (GOLDEN / f"{sys.argv[1]}.json").write_text(
        json.dumps(known(), indent=1, sort_keys=True) + "\n",
        encoding="utf-8",
    )
