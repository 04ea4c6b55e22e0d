# SPDX-License-Identifier: Apache-2.0
"""How long may the tests that search take?"""

import os

#: Set by ``MDEV_MIGRATE_SOAK=1``, as ``tox -e soak`` does: every call fails
#: in every way, and random searches are long. Otherwise all takes minutes.
SOAKING = os.environ.get("MDEV_MIGRATE_SOAK") == "1"
