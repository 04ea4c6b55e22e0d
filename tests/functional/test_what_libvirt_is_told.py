# SPDX-License-Identifier: Apache-2.0
"""Does libvirt get what the user asked for, and all that the guest is?"""

from collections.abc import Callable
from typing import Any

import libvirt
import pytest
from lxml import etree

from mdev_migrate import libvirt_host, testing
from tests import builders, scenes
from tests.functional.conftest import World

PASSWORD = "open-sesame"


def test_limits_and_ways(world: World):
    """Bandwidth and both URIs reach libvirt as they were given."""
    world.add_guest()
    (peer,) = world.destination.uris[:1]

    answer = world.run(
        *("migrate", "vm", "--to", world.there, "--bandwidth", "250"),
        *("--migrate-uri", "tcp://192.0.2.7", "--peer-uri", peer),
    )

    *_probes, request = world.source.requests
    assert answer.code == 0, answer.err
    assert request.parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] == 250
    assert (
        request.parameters[libvirt.VIR_MIGRATE_PARAM_URI] == "tcp://192.0.2.7"
    )
    assert request.peer_uri == peer


def test_nothing_that_was_not_asked_for(world: World):
    """Without options libvirt chooses the way, and nothing limits it."""
    world.add_guest()

    world.run("migrate", "vm", "--to", world.there)

    *_probes, request = world.source.requests
    assert request.parameters.keys() == {
        libvirt.VIR_MIGRATE_PARAM_DEST_XML,
        libvirt.VIR_MIGRATE_PARAM_PERSIST_XML,
    }
    assert request.peer_uri == world.there


@pytest.mark.parametrize("flags", [0, libvirt.VIR_DOMAIN_XML_INACTIVE])
def test_guest_keeps_its_password(flags: int):
    """What libvirt tells only those it trusts arrives with the guest."""
    document = etree.fromstring(
        testing.guest_document("vm", builders.INSTANCE, [builders.uuid(1)])
    )
    devices = document.find("devices")
    assert devices is not None
    etree.SubElement(devices, "graphics", type="vnc", passwd=PASSWORD)
    scene = scenes.Scene(xml=etree.tostring(document, encoding="unicode"))

    outcome = scene.migrate()

    arrived = scene.there.guests.engine.document(
        builders.INSTANCE, flags | libvirt.VIR_DOMAIN_XML_SECURE
    )
    assert scene.missed(outcome) == []
    assert f'passwd="{PASSWORD}"' in arrived.replace("'", '"')


def test_silent_peer_is_noticed(monkeypatch: pytest.MonkeyPatch):
    """A connection is kept alive, so that a dead host ends a call."""
    source, _destination = testing.two_hosts()
    monkeypatch.setattr(libvirt, "open", source.group.open)

    connection = libvirt_host.connect(source.uris[0])

    interval_s, count = connection.keepalive
    assert 0 < interval_s * count <= 60


def test_taken_between_look_and_claim():
    """An mdev that a guest got just before the claim is no target.

    It is seen before anything is sent, and not by libvirt's refusal.
    """
    scene = scenes.Scene(spare_types=["mtty-1"])
    (taken,) = scene.there.mdevs()

    def take(_link: object, define: Callable[[], Any]) -> Any:
        """Let a guest have the spare as it is about to be claimed."""
        scene.there.add_guest("other", builders.uuid(0xA0), [taken])
        return define()

    scene.group.faults.on("defineXML", take, host="host-b")

    outcome = scene.migrate()

    sent = [
        request
        for request in scene.here.requests
        if request.peer_uri in scene.there.uris
        and request.destination_xml != "<domain/>"  # asks for the way
    ]
    assert len(sent) == 1
    assert scene.there.used_mdevs()[taken] == "other"
    assert outcome.result == "migrated", outcome.error
    assert taken not in outcome.target_mdevs.values()
