# SPDX-License-Identifier: Apache-2.0
"""``nova-compute-mdev``: nova-compute with the mixin, without a patch."""

from __future__ import annotations


def main() -> None:
    """Install the mixin, then be nova-compute, with its arguments."""
    # Nova's own module comes first: it patches the standard library.
    from nova.cmd import compute  # noqa: PLC0415

    from mdev_migrate import nova  # noqa: PLC0415

    nova.install()
    compute.main()


def conductor_main() -> None:
    """Extend the migrate data, then be nova-conductor."""
    from nova.cmd import conductor  # noqa: PLC0415

    import mdev_migrate.nova.conductor  # noqa: PLC0415, F401

    conductor.main()
