# SPDX-License-Identifier: Apache-2.0
"""What libvirt's errors mean."""

from __future__ import annotations

from typing import Any

import libvirt

from mdev_migrate import exception

#: What access control answers, and a connection that may only read.
DENIED = (
    libvirt.VIR_ERR_ACCESS_DENIED,
    libvirt.VIR_ERR_OPERATION_DENIED,
)
#: What an older daemon or another driver answers to a newer question.
UNSUPPORTED = (
    libvirt.VIR_ERR_NO_SUPPORT,
    libvirt.VIR_ERR_INVALID_ARG,
    libvirt.VIR_ERR_RPC,
)
#: What is answered of an object that is not there any more.
GONE = (libvirt.VIR_ERR_NO_NODE_DEVICE, libvirt.VIR_ERR_NO_DOMAIN)
#: What is answered after 30 s of a guest that another call has hold of.
BUSY = (libvirt.VIR_ERR_OPERATION_TIMEOUT,)


def number_of(error: Exception) -> int | None:
    """Return the code of an error of whatever libvirt Nova has.

    :returns: None if it is no error of libvirt's.
    """
    number = getattr(error, "get_error_code", lambda: None)()
    return number if isinstance(number, int) else None


def reason_of(error: libvirt.libvirtError) -> str:
    """Return libvirt's own words."""
    return str(error.get_error_message() or error)


def failure(
    host: str, operation: str, error: libvirt.libvirtError
) -> exception.LibvirtFailed:
    """Return our error for a call that a host has answered with one."""
    number = error.get_error_code()
    denied = number in DENIED
    kind = exception.AccessDenied if denied else exception.LibvirtFailed
    return kind(host, operation, number, reason_of(error))


def is_alive(connection: Any) -> bool:
    """Tell whether calls still reach the host of a connection."""
    try:
        return bool(connection.isAlive())
    except libvirt.libvirtError:
        return False
