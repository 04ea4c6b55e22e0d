# SPDX-License-Identifier: Apache-2.0
"""A name that programs know from before claims lived on the destination."""

from __future__ import annotations


class ClaimTable:
    """Kept the claims of one process; the destination's libvirt does now."""
