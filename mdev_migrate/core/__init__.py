# SPDX-License-Identifier: Apache-2.0
"""The rules, without I/O: no libvirt, oslo, logging, config or clock."""
