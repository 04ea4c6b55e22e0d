# SPDX-License-Identifier: Apache-2.0
"""Live migrations that a real OpenStack is asked for.

They run on the cloud of ``tools/cloud test``, which says where it is. Each
begins and ends with no server and no mdev on either host.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
