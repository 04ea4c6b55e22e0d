# SPDX-License-Identifier: Apache-2.0
"""The options under the name that forks and oslo-config-generator know."""

from mdev_migrate.compute.conf import (
    GROUP,
    OPTIONS,
    Options,
    list_opts,
    register,
)

__all__ = ["GROUP", "OPTIONS", "Options", "list_opts", "register"]
