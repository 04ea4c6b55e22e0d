# SPDX-License-Identifier: Apache-2.0
"""Live-migrate libvirt guests that use mediated devices (mdevs)."""
