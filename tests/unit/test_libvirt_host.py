# SPDX-License-Identifier: Apache-2.0
"""What does it mean when libvirt does not do what it is asked for?"""

from __future__ import annotations

import threading
from collections.abc import Callable

import libvirt
import pytest

from mdev_migrate import exception, libvirt_host, model, testing
from tests import builders

MDEV = model.Mdev(builders.uuid(1), "mtty-1", "mtty_mtty")


class Place:
    """A host with one mdev, and a connection to it."""

    def __init__(self) -> None:
        self.simulated, _ = testing.two_hosts()
        self.simulated.add_mdev(MDEV.uuid, MDEV.mdev_type)
        self.host = libvirt_host.LibvirtHost(
            self.simulated.uris[0], opener=self.simulated.group.open
        )

    def refuse(self, code: int, detail: str) -> None:
        """Let libvirt refuse to destroy the mdev."""
        error = testing.libvirt_error(code, detail)
        self.simulated.faults.on("destroy", testing.fail(error))

    def before_destroy(self, act: Callable[[], object]) -> None:
        """Let something happen just before the mdev is destroyed."""

        def effect(_link: object, call: Callable[[], object]) -> object:
            act()
            return call()

        self.simulated.faults.on("destroy", effect)


@pytest.fixture
def place() -> Place:
    """Return a host with one mdev."""
    return Place()


REMOVERS = pytest.mark.parametrize("name", ["remove_mdev", "recycle_mdev"])


@REMOVERS
@pytest.mark.parametrize(
    "detail",
    [
        "Unable to destroy 'mdev_x': device in use",
        "Unable to destroy 'mdev_x': write error: Device or resource busy",
    ],
)
def test_busy(place, name, detail):
    """Somebody has it open: that passes."""
    place.refuse(libvirt.VIR_ERR_INTERNAL_ERROR, detail)

    with pytest.raises(exception.MdevBusy, match="mdev_x"):
        getattr(place.host, name)(MDEV)

    assert list(place.simulated.mdevs()) == [MDEV.uuid]


@REMOVERS
@pytest.mark.parametrize(
    ("code", "detail"),
    [
        (libvirt.VIR_ERR_ACCESS_DENIED, "permission denied"),
        (libvirt.VIR_ERR_OPERATION_DENIED, "read only access prevents it"),
        (libvirt.VIR_ERR_INTERNAL_ERROR, "mdevctl: command not found"),
    ],
)
def test_refused(place, name, code, detail):
    """Nobody needs to be looked for who has it open."""
    place.refuse(code, detail)

    with pytest.raises(exception.LibvirtFailed, match=detail) as raised:
        getattr(place.host, name)(MDEV)

    assert raised.value.number == code


@REMOVERS
def test_unreachable(place, name):
    """A broken connection says nothing about the mdev."""
    place.simulated.faults.on("destroy", testing.lose_connection())

    with pytest.raises(exception.HostUnreachable):
        getattr(place.host, name)(MDEV)


@REMOVERS
@pytest.mark.parametrize("noticed", [True, False])
def test_gone_meanwhile(place, name, noticed):
    """What somebody else has removed is removed."""

    def vanish() -> None:
        if not noticed:
            place.simulated.lose_mdev(MDEV.uuid)
            return
        connection = place.simulated.open()
        (device,) = connection.listAllDevices(
            libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV
        )
        device.destroy()

    place.before_destroy(vanish)

    getattr(place.host, name)(MDEV)

    expected = {"remove_mdev": [], "recycle_mdev": [MDEV.uuid]}[name]
    assert list(place.simulated.mdevs()) == expected


def test_one_that_does_not_answer(place):
    """It holds up nobody who asks another host."""
    _, silent = testing.two_hosts()
    other = libvirt_host.LibvirtHost(silent.uris[0], opener=silent.group.open)
    asked, released = threading.Event(), threading.Event()

    def hang(_link: object, call: Callable[[], object]) -> object:
        asked.set()
        released.wait(10)
        return call()

    silent.faults.on("getHostname", hang)
    threads = [threading.Thread(target=lambda: other.name)]
    threads[0].start()
    assert asked.wait(10)
    answered = threading.Event()

    def ask() -> None:
        assert place.host.name == "host-a"
        answered.set()

    threads.append(threading.Thread(target=ask))
    threads[1].start()

    in_time = answered.wait(1)

    released.set()
    for thread in threads:
        thread.join()
    assert in_time
    assert other.name == "host-b"
