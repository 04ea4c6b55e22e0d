# SPDX-License-Identifier: Apache-2.0
"""Tests on two real hosts; ``tools/lab test`` runs them."""

import sys
from pathlib import Path

# The lab's own modules are not installed: they lie beside its command.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
