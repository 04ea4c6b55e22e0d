# SPDX-License-Identifier: Apache-2.0
"""Run the command as ``python -m mdev_migrate.cli``."""

from mdev_migrate.cli import main

if __name__ == "__main__":
    main.main()
