# SPDX-License-Identifier: Apache-2.0
"""Can every call of a simulated host be made to fail, in every way?"""

import threading

import libvirt
import pytest

from mdev_migrate import testing

MDEV = "55555555-5555-4555-8555-555555555555"
REQUEST = testing.mdev_request("mtty_mtty", "mtty-1", MDEV)
CREATE = "nodeDeviceCreateXML"


@pytest.fixture
def host():
    """Give the first of two hosts."""
    return testing.two_hosts()[0]


def test_an_error_instead_of_the_call(host):
    """The call fails and nothing happens."""
    error = testing.libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "no luck")
    host.faults.on(CREATE, testing.fail(error))
    connection = host.open()

    with pytest.raises(libvirt.libvirtError, match="no luck"):
        connection.nodeDeviceCreateXML(REQUEST)

    assert host.mdevs() == {}
    assert connection.isAlive() == 1


@pytest.mark.parametrize(
    ("effect", "made"),
    [(testing.lose_connection(), set()), (testing.lose_answer(), {MDEV})],
)
def test_a_lost_connection(host, effect, made):
    """The call fails, made or not, and so does every later call."""
    host.faults.on(CREATE, effect)
    connection = host.open()
    with pytest.raises(libvirt.libvirtError, match="End of file"):
        connection.nodeDeviceCreateXML(REQUEST)

    with pytest.raises(libvirt.libvirtError, match="socket is closed"):
        connection.getHostname()

    assert connection.isAlive() == 0
    assert set(host.mdevs()) == made
    assert host.open().isAlive() == 1


def test_a_lost_connection_is_announced(host):
    """The close callback hears of it, with its own opaque value."""
    connection = host.open()
    heard = []
    connection.registerCloseCallback(
        lambda conn, reason, opaque: heard.append((conn, reason, opaque)),
        "mine",
    )

    host.cut_connections()

    reason = libvirt.VIR_CONNECT_CLOSE_REASON_EOF
    assert heard == [(connection, reason, "mine")]


@pytest.mark.parametrize(
    ("effect", "made"),
    [(testing.die(), set()), (testing.die_after(), {MDEV})],
)
def test_a_dead_process_reaches_no_host(host, effect, made):
    """After its death, no cleaning up of its own has an effect."""
    host.faults.on(CREATE, effect)
    connection, other = host.open(), host.open()
    with pytest.raises(testing.ProcessDied):
        connection.nodeDeviceCreateXML(REQUEST)

    for late in (connection.getHostname, other.getHostname, host.open):
        with pytest.raises(testing.ProcessDied):
            late()

    assert set(host.mdevs()) == made
    host.group.new_process()
    assert host.open().getHostname() == host.name


def test_a_call_hangs_until_released(host):
    """Then it is made as if nothing had been."""
    released = threading.Event()
    host.faults.on("getHostname", testing.hang(released))
    connection = host.open()
    threading.Timer(0, released.set).start()

    assert connection.getHostname() == host.name


def test_a_call_hangs_for_a_limited_time(host):
    """After its limit the connection counts as dead."""
    host.faults.on("getHostname", testing.hang(threading.Event(), 0))
    connection = host.open()

    with pytest.raises(libvirt.libvirtError, match="keepalive timeout"):
        connection.getHostname()

    assert connection.isAlive() == 0


def test_the_nth_call_on_one_host_is_met(host):
    """Host, name and count select it; the others simply happen."""
    other = host.group.hosts["host-b"]
    host.faults.on(
        "getHostname", testing.lose_connection(), host="host-a", nth=2
    )
    here, there = host.open(), other.open()
    names = [c.getHostname() for c in (there, here, there)]

    with pytest.raises(libvirt.libvirtError):
        here.getHostname()

    assert names == ["host-b", "host-a", "host-b"]
    assert host.faults.pending() == []


def test_a_host_that_nobody_answers_for(host):
    """Opening a connection fails as it does for a stopped daemon."""
    host.stop_daemon()

    with pytest.raises(libvirt.libvirtError, match="Connection refused"):
        host.open()

    host.start_daemon()
    assert host.open().isAlive() == 1


def workflow(host):
    """Create an mdev and destroy it again."""
    connection = host.open()
    connection.getHostname()
    connection.nodeDeviceCreateXML(REQUEST).destroy()


def test_every_recorded_call_can_be_failed():
    """A clean run names the points; each is met in a run of its own."""
    host, _ = testing.two_hosts()
    workflow(host)
    points = testing.call_points(host.calls)

    met = 0
    for point in points:
        fresh, _ = testing.two_hosts()
        fresh.faults.at(point, testing.lose_connection())
        with pytest.raises(libvirt.libvirtError):
            workflow(fresh)
        met += not fresh.faults.pending()

    assert [point.name for point in points] == [
        "open",
        "getHostname",
        CREATE,
        "destroy",
    ]
    assert met == len(points)


def test_threads_share_a_parent_without_overbooking(host):
    """Of more requests than instances, exactly the instances succeed."""
    barrier = threading.Barrier(32)
    made = []

    def ask(number):
        uuid = f"55555555-5555-4555-8555-{number:012d}"
        request = testing.mdev_request("mtty_mtty", "mtty-1", uuid)
        connection = host.open()
        barrier.wait(10)
        try:
            connection.nodeDeviceCreateXML(request)
        except libvirt.libvirtError:
            return
        made.append(uuid)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert len(made) == len(host.mdevs()) == 24
