# SPDX-License-Identifier: Apache-2.0
"""Which errors do the simulated hosts raise, and how are they built?

They are real ``libvirt.libvirtError`` objects. That class reads the calling
thread's last error when it is made, so everything it read is replaced here.
"""

import libvirt

_TEXTS = {
    libvirt.VIR_ERR_INTERNAL_ERROR: "internal error: %s",
    libvirt.VIR_ERR_NO_CONNECT: "no connection driver available for %s",
    libvirt.VIR_ERR_INVALID_CONN: "invalid connection pointer in %s",
    libvirt.VIR_ERR_INVALID_ARG: "invalid argument: %s",
    libvirt.VIR_ERR_OPERATION_FAILED: "operation failed: %s",
    libvirt.VIR_ERR_XML_ERROR: "XML error: %s",
    libvirt.VIR_ERR_SYSTEM_ERROR: "%s",
    libvirt.VIR_ERR_RPC: "%s",
    libvirt.VIR_ERR_NO_DOMAIN: "Domain not found: %s",
    libvirt.VIR_ERR_NO_NODE_DEVICE: "Node device not found: %s",
    libvirt.VIR_ERR_OPERATION_INVALID: "Requested operation is not valid: %s",
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED: "unsupported configuration: %s",
    libvirt.VIR_ERR_OPERATION_TIMEOUT: (
        "Timed out during operation: cannot acquire state change lock %s"
    ),
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED: "argument unsupported: %s",
    libvirt.VIR_ERR_OPERATION_ABORTED: "operation aborted: %s",
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED: "Operation not supported: %s",
    libvirt.VIR_ERR_DEVICE_MISSING: "device not found: %s",
    libvirt.VIR_ERR_ACCESS_DENIED: "access denied: %s",
}


def libvirt_error(
    code: int, detail: str, domain: int = libvirt.VIR_FROM_QEMU
) -> libvirt.libvirtError:
    """Build the error that libvirt reports for a code and a detail.

    :param code: one of libvirt's ``VIR_ERR_`` numbers.
    :param detail: what libvirt puts after the code's own words.
    :param domain: the part of libvirt that reports, ``VIR_FROM_...``.

    >>> import libvirt
    >>> str(libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "out of luck"))
    'internal error: out of luck'
    """
    text = _TEXTS.get(code, "%s")
    message = text % detail
    error = libvirt.libvirtError(message)
    error.args = (message,)
    error.err = (
        code,
        domain,
        message,
        libvirt.VIR_ERR_ERROR,
        text,
        detail,
        None,
        -1,
        -1,
    )
    return error


def internal(
    detail: str, domain: int = libvirt.VIR_FROM_QEMU
) -> libvirt.libvirtError:
    """Build an internal error."""
    return libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, detail, domain)


def invalid(
    detail: str, domain: int = libvirt.VIR_FROM_QEMU
) -> libvirt.libvirtError:
    """Build the error for an operation that the state does not allow."""
    return libvirt_error(libvirt.VIR_ERR_OPERATION_INVALID, detail, domain)


def failed(detail: str) -> libvirt.libvirtError:
    """Build the error for an operation that was tried in vain."""
    return libvirt_error(libvirt.VIR_ERR_OPERATION_FAILED, detail)


def no_domain(detail: str) -> libvirt.libvirtError:
    """Build the error for a guest that the host does not know."""
    return libvirt_error(libvirt.VIR_ERR_NO_DOMAIN, detail)


def no_device(name: str) -> libvirt.libvirtError:
    """Build the error for a node device that the host does not list."""
    return libvirt_error(
        libvirt.VIR_ERR_NO_NODE_DEVICE,
        f"no node device with matching name '{name}'",
        libvirt.VIR_FROM_NODEDEV,
    )


def mdev_gone(name: str) -> libvirt.libvirtError:
    """Build the error for destroying an mdev that is there no more.

    libvirt trips over it when it looks whether a guest uses the mdev.
    """
    uuid = name.removeprefix("mdev_")[:36].replace("_", "-")
    return libvirt_error(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        f"failed to access '/sys/bus/mdev/devices/{uuid}/iommu_group': No "
        "such file or directory",
        libvirt.VIR_FROM_NONE,
    )


def connection_broke() -> libvirt.libvirtError:
    """Build the error of the call during which a connection broke."""
    return libvirt_error(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        "End of file while reading data: Input/output error",
        libvirt.VIR_FROM_RPC,
    )


def connection_closed() -> libvirt.libvirtError:
    """Build the error of a call on a connection that broke before."""
    return internal("client socket is closed", libvirt.VIR_FROM_RPC)


def keepalive_expired() -> libvirt.libvirtError:
    """Build the error of a call that the other end never answered."""
    return internal(
        "connection closed due to keepalive timeout", libvirt.VIR_FROM_RPC
    )


def refused(uri: str) -> libvirt.libvirtError:
    """Build the error of opening a connection that nobody answers."""
    return libvirt_error(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        f"unable to connect to server at '{uri}': Connection refused",
        libvirt.VIR_FROM_RPC,
    )
