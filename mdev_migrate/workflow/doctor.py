# SPDX-License-Identifier: Apache-2.0
"""Look at a host that is to take part in migrations; leave it as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mdev_migrate import exception, model
from mdev_migrate.core import claim_xml, diagnosis, transport
from mdev_migrate.core.diagnosis import Finding
from mdev_migrate.host import Host
from mdev_migrate.workflow.attempt import owner_name
from mdev_migrate.workflow.values import mint

#: A type and a parent that no host has.
_NOWHERE = "mdev_migrate_doctor"


def examine(
    host: Host, machine: diagnosis.Machine | None
) -> Iterator[Finding]:
    """Look at a host.

    A claim on an mdev that does not exist is made and released, to see that
    it may be; an mdev is asked for under a parent that does not exist.

    :param machine: None if the host is another machine.
    :raises HostUnreachable: if it is gone.
    """
    yield from diagnosis.versions(host.facts())
    yield from diagnosis.parents(
        host.inventory("parent", "mdev"), host.cards()
    )
    yield diagnosis.right("may-claim", _trying(lambda: _claim(host)))
    yield diagnosis.right("may-create", _trying(lambda: _create(host)))
    yield from diagnosis.machine(machine)


def examine_peer(source: Host, peer_uri: str) -> Finding:
    """Ask a source whether it reaches a destination.

    libvirt does so only for a guest: for any that runs there, and that can
    be migrated.
    """
    blocked: Finding | None = None
    for guest in source.inventory("guest").guests:
        if guest.running:
            found = _ask(source, guest, peer_uri)
            if found.result != "unknown":
                return found
            blocked = blocked or found
    return blocked or Finding(
        "peer",
        "unknown",
        f"whether {source.uri} reaches {peer_uri} is asked for a running "
        "guest, and there is none",
        "'mdev-migrate check' tells it when there is one",
    )


def _ask(source: Host, guest: model.Guest, peer_uri: str) -> Finding:
    flags = transport.LIVE | transport.PEER2PEER
    try:
        reason = source.ask_blockers(guest.instance_uuid, flags, peer_uri)
    except exception.PeerUnreachable as error:
        return Finding("peer", "wrong", str(error), error.hint)
    except exception.MdevMigrateError as error:
        return Finding("peer", "unknown", str(error), error.hint)
    if reason is not None:
        return Finding(
            "peer",
            "unknown",
            f"guest {guest.name} cannot be migrated, so {source.uri} did not "
            f"try to reach {peer_uri}: {reason}",
        )
    return Finding("peer", "well", f"{source.uri} reaches {peer_uri}")


def _trying(act: Callable[[], None]) -> exception.MdevMigrateError | None:
    try:
        act()
    except exception.HostUnreachable:
        raise
    except exception.MdevMigrateError as error:
        return error
    return None


def _claim(host: Host) -> None:
    """Claim an mdev that does not exist, and release it."""
    mdev = model.Mdev(mint(), _NOWHERE, _NOWHERE)
    claim = model.Claim(
        instance_uuid=mint(),
        token=mint(),
        targets=(model.Target(mdev, created=False, domain_uuid=mint()),),
        owner=owner_name("mdev-migrate doctor"),
        guest="none: a trial of mdev-migrate doctor",
    )
    try:
        host.claims.define(claim, claim_xml.PLAIN)
    finally:
        host.claims.undefine(claim)


def _create(host: Host) -> None:
    """Ask for an mdev where there can be none."""
    try:
        host.create_mdev(model.Mdev(mint(), _NOWHERE, _NOWHERE))
    except (exception.MdevCreationFailed, exception.TargetMdevGone):
        return
