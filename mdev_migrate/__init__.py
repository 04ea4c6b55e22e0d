# SPDX-License-Identifier: Apache-2.0
"""Live-migrate libvirt guests that use mediated devices (mdevs)."""

#: The one place where the version stands.
__version__ = "0.1.0"
