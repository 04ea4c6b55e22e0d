# SPDX-License-Identifier: Apache-2.0
"""Import this in nova-conductor, before any nova-compute has the mixin.

A conductor backports migrate data for older peers, and must know version
1.11 for that. One that does not asks a conductor, which asks a conductor.
"""

from mdev_migrate.nova import migrate_data

migrate_data.extend()
