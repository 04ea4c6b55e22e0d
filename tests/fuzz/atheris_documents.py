# SPDX-License-Identifier: Apache-2.0
"""Search for documents that bring the readers down, guided by coverage.

Not a test: ``pip install atheris``, then ``python
tests/fuzz/atheris_documents.py -max_total_time=60 CORPUS tests/data/mtty``
with an empty folder for CORPUS. What it finds becomes an example in
``test_bad_input.py``.
"""

import contextlib
import json
import sys

import atheris

with atheris.instrument_imports(include=["mdev_migrate"]):
    from mdev_migrate import exception
    from mdev_migrate.core import claim_xml, guest_xml, nodedev_xml, wire


def read(content: bytes) -> None:
    """Give what was found to every reader; only our errors may come."""
    text = content.decode("utf-8", "surrogateescape")
    for reader in (
        guest_xml.read_mdevs,
        guest_xml.named_mdevs,
        guest_xml.read_viommu,
        nodedev_xml.read_mdev,
        nodedev_xml.read_parent,
    ):
        with contextlib.suppress(exception.PreCheckError):
            reader(text)
    claim_xml.read_all([claim_xml.Domain("mdev-claim-x", "", False, text)])
    with contextlib.suppress(
        ValueError, RecursionError, exception.MigrateDataInvalid
    ):
        wire.check_source_mdev_types(json.loads(text))


if __name__ == "__main__":
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
