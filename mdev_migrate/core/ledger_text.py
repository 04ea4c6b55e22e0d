# SPDX-License-Identifier: Apache-2.0
"""The text of a ledger: claims, and mdevs made for guests that arrived.

JSON, so that people can read it. What is read is foreign until every part
of it has been looked at: a ledger is a whole or it is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mdev_migrate import model
from mdev_migrate.core import allocation, claims, phases, wire

_FORMAT = "mdev-migrate ledger"
#: Raised whenever a ledger holds something that is not read so far.
VERSION = 1
#: Bytes: far more than the claims of a full host take.
LONGEST = 16 * 2**20
#: Seconds since the epoch.
_YEAR_10000 = 253_402_300_800


class NewerError(ValueError):
    """A ledger is of a version that only newer programs know."""

    def __init__(self, version: int) -> None:
        super().__init__(version)
        self.version = version


@dataclass(slots=True)
class Records:
    """What a ledger holds.

    :ivar claims: by instance UUID.
    :ivar made: instance UUID by the UUID of an mdev made for it.
    """

    claims: dict[str, claims.Claim] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)


def write(host: str, records: Records) -> str:
    """Return the text of a ledger.

    :param host: whose ledger it is.
    """
    content = {
        "format": _FORMAT,
        "version": VERSION,
        "host": host,
        "claims": [_write_claim(claim) for claim in records.claims.values()],
        "made": records.made,
    }
    return json.dumps(content, indent=1)


def _write_claim(claim: claims.Claim) -> dict[str, Any]:
    note = claim.note
    return {
        "instance_uuid": claim.instance_uuid,
        "step": claim.step.value,
        "reuse": [_write_mdev(mdev) for mdev in claim.plan.reuse],
        "create": [_write_mdev(mdev) for mdev in claim.plan.create],
        "owner": note.owner,
        "token": note.token,
        "since": note.since,
        "guest": note.guest,
        "source": note.source,
        "destination": note.destination,
        "migration": note.migration,
        "over": note.over,
    }


def _write_mdev(mdev: model.Mdev) -> dict[str, Any]:
    return {
        "uuid": mdev.uuid,
        "type": mdev.mdev_type,
        "parent": mdev.parent,
        "attributes": [list(pair) for pair in mdev.attributes],
        "persistent": mdev.persistent,
        "autostart": mdev.autostart,
    }


def read(text: str, host: str) -> Records:
    """Read a whole ledger.

    :param host: whose ledger it must be.
    :raises NewerError: if a newer version of this program wrote it.
    :raises ValueError: if it is anything but what :func:`write` returns.
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    match content:
        case {"format": str(kind), "version": int(version)} if (
            kind == _FORMAT and version > VERSION
        ):
            raise NewerError(version)
        case {
            "format": str(kind),
            "version": int(version),
            "host": str(whose),
            "claims": list(entries),
            "made": dict(made),
        }:
            pass
        case _:
            raise ValueError("not a ledger")
    if (kind, version, whose) != (_FORMAT, VERSION, host):
        raise ValueError(f"{kind!r:.80} {version} of host {whose!r:.80}")
    return Records(_read_claims(entries), _read_made(made))


def _read_claims(entries: Iterable[object]) -> dict[str, claims.Claim]:
    read = [_read_claim(entry) for entry in entries]
    found = {claim.instance_uuid: claim for claim in read}
    uuids = [mdev.uuid for claim in read for mdev in claim.plan.mdevs]
    if len(found) != len(read) or len(set(uuids)) != len(uuids):
        raise ValueError("an instance or an mdev stands there twice")
    return found


def _read_made(made: dict[str, object]) -> dict[str, str]:
    return {
        model.normalise_uuid(uuid): model.normalise_uuid(_text(instance))
        for uuid, instance in made.items()
    }


def _text(value: object) -> str:
    """Return a text that libvirt can be given.

    :raises ValueError: if it is none.
    """
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"not a text: {value!r:.80}")
    value.encode()
    return value


def _xml_text(value: str) -> str:
    """Return a text that can stand in a document.

    :raises ValueError: if it cannot.
    """
    if not all(map(str.isprintable, value)):
        raise ValueError(f"not fit for XML: {value!r:.80}")
    return _text(value)


def _time(value: float) -> float:
    if not 0 <= value < _YEAR_10000:
        raise ValueError(f"not a time: {value!r:.80}")
    return float(value)


def _read_claim(entry: object) -> claims.Claim:
    match entry:
        case {
            "instance_uuid": str(instance_uuid),
            "step": str(step),
            "reuse": list(reuse),
            "create": list(create),
            "since": int() | float() as since,
            "over": bool(over),
            **others,
        }:
            return claims.Claim(
                instance_uuid=model.normalise_uuid(instance_uuid),
                plan=allocation.AllocationPlan(
                    tuple(_read_mdev(mdev) for mdev in reuse),
                    tuple(_read_mdev(mdev) for mdev in create),
                ),
                step=phases.Step(step),
                note=claims.Note(
                    owner=_text(others.get("owner")),
                    token=_text(others.get("token")),
                    since=_time(since),
                    guest=_text(others.get("guest")),
                    source=_text(others.get("source")),
                    destination=_text(others.get("destination")),
                    migration=_text(others.get("migration")),
                    over=over,
                ),
            )
        case _:
            raise ValueError("a claim is not as it is written")


def _read_mdev(entry: object) -> model.Mdev:
    match entry:
        case {
            "uuid": str(uuid),
            "type": str(mdev_type),
            "parent": str(parent),
            "attributes": list(attributes),
            "persistent": bool(persistent),
            "autostart": bool(autostart),
        }:
            return model.Mdev(
                uuid=model.normalise_uuid(uuid),
                mdev_type=wire.check_mdev_type(mdev_type),
                parent=_xml_text(parent),
                attributes=tuple(_read_attribute(pair) for pair in attributes),
                persistent=persistent,
                autostart=autostart,
            )
        case _:
            raise ValueError("an mdev is not as it is written")


def _read_attribute(pair: object) -> tuple[str, str]:
    match pair:
        case [str(name), str(value)]:
            return _xml_text(name), _xml_text(value)
        case _:
            raise ValueError("an attribute is not as it is written")
