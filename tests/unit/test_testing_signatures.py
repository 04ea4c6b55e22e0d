# SPDX-License-Identifier: Apache-2.0
"""Do the simulated objects take what libvirt-python's take?"""

import inspect

import libvirt
import pytest

from mdev_migrate import testing

PAIRS = (
    (testing.SimulatedConnection, libvirt.virConnect),
    (testing.SimulatedNodeDevice, libvirt.virNodeDevice),
    (testing.SimulatedDomain, libvirt.virDomain),
)
METHODS = [
    pytest.param(simulated, real, name, id=f"{real.__name__}.{name}")
    for simulated, real in PAIRS
    for name, _ in inspect.getmembers(simulated, inspect.isfunction)
    if not name.startswith("_")
]


def parameters(method):
    """Return names, kinds and defaults of a method's parameters."""
    return [
        (parameter.name, parameter.kind, parameter.default)
        for parameter in inspect.signature(method).parameters.values()
    ]


@pytest.mark.parametrize(("simulated", "real", "name"), METHODS)
def test_a_method_is_called_as_libvirts_is(simulated, real, name):
    """Every public method has its real counterpart's parameters."""
    ours = parameters(getattr(simulated, name))

    assert ours == parameters(getattr(real, name))


def test_an_error_is_told_apart_as_libvirts_is():
    """A simulated error answers each question as a real one does."""
    with pytest.raises(libvirt.libvirtError) as real:
        libvirt.open("test:///nonexistent/file.xml")
    assert real.value.get_error_message()

    error = testing.libvirt_error(
        libvirt.VIR_ERR_DEVICE_MISSING, "mediated device 'x' not found"
    )

    assert (
        error.get_error_code(),
        error.get_error_domain(),
        error.get_error_message(),
        error.get_error_level(),
        str(error),
    ) == (
        libvirt.VIR_ERR_DEVICE_MISSING,
        libvirt.VIR_FROM_QEMU,
        "device not found: mediated device 'x' not found",
        libvirt.VIR_ERR_ERROR,
        "device not found: mediated device 'x' not found",
    )
