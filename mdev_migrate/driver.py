# SPDX-License-Identifier: Apache-2.0
"""The mixin under the name that forks import it by."""

from mdev_migrate.compute.driver import MdevLiveMigrationMixin

__all__ = ["MdevLiveMigrationMixin"]
