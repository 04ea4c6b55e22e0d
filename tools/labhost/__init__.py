# SPDX-License-Identifier: Apache-2.0
"""Two libvirt/QEMU hosts with mediated devices, on one machine."""
