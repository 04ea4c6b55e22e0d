# SPDX-License-Identifier: Apache-2.0
"""Read what a host has, in few calls and in few round trips.

What state an object is in is told by the lists that libvirt makes for it,
and not asked of each object. What remains is its documents. They are fetched
side by side through the one connection, for libvirt-python lets go of the
interpreter's lock while it waits for an answer; they are read afterwards.

An object that is gone meanwhile is left out, and one that cannot be read
hides no other.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import weakref
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import libvirt

from mdev_migrate import exception, model
from mdev_migrate.core import cards, claim_xml, guest_xml, nodedev_xml
from mdev_migrate.libvirt_errors import (
    DENIED,
    GONE,
    UNSUPPORTED,
    is_alive,
    reason_of,
)

T = TypeVar("T")
A = TypeVar("A")

_PARENTS = libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV_TYPES
_MDEVS = libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV
_PCI = libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV
_INACTIVE = libvirt.VIR_CONNECT_LIST_NODE_DEVICES_INACTIVE
_DEFINED_TOO = libvirt.VIR_CONNECT_LIST_NODE_DEVICES_ACTIVE | _INACTIVE
#: VIR_CONNECT_LIST_NODE_DEVICES_PERSISTENT, libvirt 10.1.0; an older binding
#: has no name for it.
_PERSISTENT = 1 << 28
_SHUT_OFF = libvirt.VIR_DOMAIN_SHUTOFF
_RUNNING = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED)
#: Why a guest that is paused is not migrated, nor has come where it is: QEMU
#: refuses while another migration has hold of it ("inmigrate", "postmigrate"),
#: and libvirt while it starts or stops. For no other reason does either: of
#: an I/O error libvirt's qemuMigrationSrcIsAllowed makes one only for
#: VIR_MIGRATE_ABORT_ON_ERROR, which is never asked for here.
_HELD_UP = {
    libvirt.VIR_DOMAIN_PAUSED_MIGRATION: "is on its way from or to a host",
    libvirt.VIR_DOMAIN_PAUSED_POSTCOPY: "is on its way by post-copy",
    libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED: (
        "is on two hosts, each with a part of its memory: its migration by "
        "post-copy failed"
    ),
    libvirt.VIR_DOMAIN_PAUSED_STARTING_UP: "is being started",
    libvirt.VIR_DOMAIN_PAUSED_SHUTTING_DOWN: "is being shut down",
}
#: States of an active guest that neither runs nor is paused.
_NEITHER = {
    libvirt.VIR_DOMAIN_NOSTATE: "is in no state that libvirt knows",
    libvirt.VIR_DOMAIN_SHUTDOWN: "is being shut down",
    libvirt.VIR_DOMAIN_CRASHED: "has crashed, and is kept as it was then",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "sleeps (pmsuspended)",
}
_NOT_ASKED = -1
#: How a guest came to be shut off; a daemon that was restarted forgot it.
_STOPPED = {
    _NOT_ASKED: "",
    libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN: "was stopped",
    libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN: "was shut down",
    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED: "was stopped by force",
    libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED: model.MIGRATED_AWAY,
    libvirt.VIR_DOMAIN_SHUTOFF_SAVED: "was saved to a file",
    libvirt.VIR_DOMAIN_SHUTOFF_FAILED: "did not start",
    libvirt.VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT: "was reverted to a snapshot",
    libvirt.VIR_DOMAIN_SHUTOFF_DAEMON: "was stopped as its daemon started",
}
#: How libvirt's name of an mdev begins; its UUID follows.
_NAME = "mdev_"
#: How many answers are waited for at the same time, and for how few objects
#: threads are not worth their start.
_THREADS, _FEW = 16, 3


class Device(NamedTuple):
    """A node device, and the mdev that it is."""

    device: Any
    mdev: model.Mdev


@dataclass(slots=True)
class Reading(Generic[T]):
    """What was read of all that a host lists, and what could not be."""

    found: list[T] = field(default_factory=list)
    not_read: list[model.Unreadable] = field(default_factory=list)


def read_parents(
    connection: Any, names: Collection[str] | None = None
) -> Reading[model.Parent]:
    """Read the devices that mdevs can be cut from.

    :param names: read those of these names; by default all.
    :raises libvirt.libvirtError: if they cannot be listed.
    """
    if names is None:
        devices = connection.listAllDevices(_PARENTS)
    else:
        devices = _found(connection.nodeDeviceLookupByName, names)
    return _read_all(
        connection,
        "parent",
        devices,
        _document,
        lambda _, text: nodedev_xml.read_parent(text),
    )


def read_cards(connection: Any) -> Reading[cards.Card]:
    """Read the cards that mdevs may come from.

    :raises libvirt.libvirtError: if they cannot be listed.
    """
    return _read_all(
        connection,
        "parent",
        connection.listAllDevices(_PCI),
        _document,
        lambda _, text: cards.read(text),
    )


def read_mdevs(
    connection: Any,
    known: Iterable[model.Mdev] = (),
    uuids: Collection[str] | None = None,
) -> Reading[Device]:
    """Read the mdevs that are active or defined.

    While an mdev comes or goes without libvirt, libvirt may list it as
    neither, without its type. Nobody can use it.

    :param known: mdevs that need not be read again, if they are as they were
        by what the lists tell.
    :param uuids: read these alone, by default all. libvirt names an mdev by
        its UUID; since 7.7.0 its parent's address follows.
    :raises libvirt.libvirtError: if they cannot be listed.
    """
    devices = _list_mdevs(connection)
    if uuids is not None:
        names = [uuid.replace("-", "_") for uuid in uuids]
        devices = [d for d in devices if any(n in d.name() for n in names)]
    if not devices:
        return Reading()
    inactive = _names(connection, _MDEVS | _INACTIVE) or ()
    persistent = _names(connection, _MDEVS | _DEFINED_TOO | _PERSISTENT)
    before = _by_name(known)

    def ask(device: Any) -> _Asked | model.Mdev | None:
        name = device.name()
        active = name not in inactive
        if persistent is None:
            defined = _ask(device.isPersistent)
        else:
            defined = name in persistent
        mdev = _one_named(before, name)
        if mdev is not None and (mdev.active, mdev.persistent) == (
            active,
            defined,
        ):
            return mdev
        if not (active or defined):
            return None
        autostart = defined and _ask(device.autostart)
        return _document(device), active, defined, autostart

    return _read_all(connection, "mdev", devices, ask, _read_mdev)


def _by_name(mdevs: Iterable[model.Mdev]) -> dict[str, list[model.Mdev]]:
    """Return mdevs by the part of libvirt's name of them that is sure."""
    named: dict[str, list[model.Mdev]] = {}
    for mdev in mdevs:
        named.setdefault(_NAME + mdev.uuid.replace("-", "_"), []).append(mdev)
    return named


def _one_named(
    named: Mapping[str, Sequence[model.Mdev]], name: str
) -> model.Mdev | None:
    """Return the mdev of a name, None if that is not sure."""
    found = named.get(name[: len(_NAME) + 36], ())
    return found[0] if len(found) == 1 else None


#: An mdev's document; is it active, defined, started with its host?
_Asked = tuple[str, bool, bool, bool]


def _read_mdev(
    device: Any, answer: _Asked | model.Mdev | None
) -> Device | None:
    if answer is None:
        return None
    if isinstance(answer, model.Mdev):
        return Device(device, answer)
    text, active, persistent, autostart = answer
    mdev = nodedev_xml.read_mdev(
        text, active=active, persistent=persistent, autostart=autostart
    )
    return Device(device, mdev)


def _list_mdevs(connection: Any) -> list[Any]:
    try:
        return list(connection.listAllDevices(_MDEVS | _DEFINED_TOO))
    except libvirt.libvirtError as error:
        if error.get_error_code() not in UNSUPPORTED:
            raise
        return list(connection.listAllDevices(_MDEVS))


def _names(connection: Any, flags: int) -> frozenset[str] | None:
    """Return which devices a list has, None if the daemon makes none such."""
    try:
        return frozenset(
            str(device.name()) for device in connection.listAllDevices(flags)
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() not in UNSUPPORTED:
            raise
        return None


# Domains --------------------------------------------------------------


def read_domains(
    connection: Any, known: Iterable[model.Guest] = ()
) -> tuple[model.Claims, Reading[model.Guest]]:
    """Read the claims and the guests.

    All domains are listed first: one that starts or stops between the lists
    is never missed.

    :param known: guests that need not be read again, if they are in the
        state in which they were by what the lists tell.
    :raises libvirt.libvirtError: if they cannot be listed.
    """
    domains = list(connection.listAllDomains(0))
    active, transient, running = (
        frozenset(map(_uuid, connection.listAllDomains(flag)))
        for flag in (
            libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE,
            libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT,
            libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING,
        )
    )
    claims = _read_claims(connection, domains, active)
    names = claims.names()
    before = {guest.instance_uuid: guest for guest in known}

    def ask(domain: Any) -> _Facts | model.Guest:
        uuid = _uuid(domain)
        paused = uuid in active - running
        guest = before.get(uuid)
        state = (uuid in active, uuid not in transient, uuid in running)
        if (
            guest is not None
            and not paused
            and state
            == (
                guest.active,
                guest.persistent,
                guest.running,
            )
        ):
            return guest
        return _Facts(
            active=uuid in active,
            persistent=uuid not in transient,
            # Why it is paused no list tells.
            state=_state(domain) if paused else _NOT_PAUSED[uuid in active],
            texts=_texts(domain, uuid in active, uuid not in transient),
        )

    guests = _read_all(
        connection,
        "guest",
        [domain for domain in domains if domain.name() not in names],
        ask,
        _read_guest,
    )
    return claims, guests


def read_claims(connection: Any) -> model.Claims:
    """Read the claims alone.

    :raises libvirt.libvirtError: if domains cannot be listed.
    """
    domains = list(connection.listAllDomains(0))
    if not any(map(_may_claim, domains)):
        return model.Claims()
    flag = libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
    active = frozenset(map(_uuid, connection.listAllDomains(flag)))
    return _read_claims(connection, domains, active)


def is_claim(domain: Any) -> bool:
    """Tell whether a domain is a claim, and no guest.

    :raises libvirt.libvirtError: if it is gone, or cannot be asked for.
    """
    if not _may_claim(domain):
        return False
    active = {_uuid(domain)} if domain.isActive() else ()
    return bool(_read_claims(domain.connect(), [domain], active).all)


def find_guests(
    connection: Any, uuids: Collection[str]
) -> Reading[model.Guest]:
    """Read the guests of some UUIDs, as far as there are any.

    :raises libvirt.libvirtError: if they cannot be looked up.
    """
    domains = _found(connection.lookupByUUIDString, uuids)
    return _read_all(connection, "guest", domains, _ask_guest, _read_guest)


def _found(lookup: Callable[[str], Any], words: Iterable[str]) -> list[Any]:
    """Look objects up, and leave out what there is not."""
    found = []
    for word in words:
        try:
            found.append(lookup(word))
        except libvirt.libvirtError as error:
            if error.get_error_code() not in GONE:
                raise
    return found


def read_guest(domain: Any) -> model.Guest:
    """Read one guest.

    :raises XmlMalformed: if one of its documents cannot be read.
    :raises libvirt.libvirtError: if it is gone, or cannot be asked for.
    """
    with naming(domain):
        return _read_guest(domain, _ask_guest(domain))


def _ask_guest(domain: Any) -> _Facts:
    state = _state(domain)
    active, persistent = state[0] != _SHUT_OFF, bool(domain.isPersistent())
    texts = _texts(domain, active, persistent)
    return _Facts(active, persistent, state, texts)


class _Facts(NamedTuple):
    """What a guest's host answers of it.

    :ivar state: libvirt's state and the reason for it.
    """

    active: bool
    persistent: bool
    state: tuple[int, int]
    texts: Sequence[str]


#: States of a guest that is not paused, by whether it is active.
_NOT_PAUSED = {
    True: (libvirt.VIR_DOMAIN_RUNNING, 0),
    False: (libvirt.VIR_DOMAIN_SHUTOFF, _NOT_ASKED),
}


def _texts(domain: Any, active: bool, persistent: bool) -> list[str]:
    texts = [_document(domain)]
    if active and persistent:
        texts.append(_document(domain, libvirt.VIR_DOMAIN_XML_INACTIVE))
    return texts


def _state(domain: Any) -> tuple[int, int]:
    state, reason = domain.state()[:2]
    return state, reason


def _read_guest(domain: Any, facts: _Facts | model.Guest) -> model.Guest:
    if isinstance(facts, model.Guest):
        return facts
    state, reason = facts.state
    paused = state == libvirt.VIR_DOMAIN_PAUSED
    stopped = held_up = ""
    if not facts.active:
        stopped = _STOPPED.get(reason, "was stopped")
    elif paused:
        held_up = _HELD_UP.get(reason, "")
    else:
        held_up = _NEITHER.get(state, "")
    found = map(guest_xml.read_holdings, facts.texts)
    mdevs, hidden = zip(*found, strict=True)
    return model.Guest(
        name=str(domain.name()),
        instance_uuid=_uuid(domain),
        active=facts.active,
        running=state in _RUNNING,
        suspended=paused and not held_up,
        persistent=facts.persistent,
        mdevs=frozenset().union(*mdevs),
        stopped=stopped,
        held_up=held_up,
        hides=max(hidden),
        number=domain.ID() if facts.active else None,
    )


def _uuid(domain: Any) -> str:
    return model.normalise_uuid(domain.UUIDString())


def _may_claim(domain: Any) -> bool:
    return claim_xml.is_named_so(str(domain.name()))


def _read_claims(
    connection: Any, domains: Iterable[Any], active: Collection[str]
) -> model.Claims:
    """Return the claims among some domains; what is gone is left out."""
    named = [domain for domain in domains if _may_claim(domain)]
    answers = side_by_side(
        connection, [functools.partial(_claim_text, d) for d in named]
    )
    return claim_xml.read_all(
        claim_xml.Domain(str(domain.name()), uuid, uuid in active, text)
        for domain, answer in zip(named, answers, strict=True)
        if (text := answer()) is not None and (uuid := _uuid(domain))
    )


def _claim_text(domain: Any) -> str | None:
    """Return a claim's inactive document; an empty one if it is no UTF-8."""
    try:
        return str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    except UnicodeError:
        return ""
    except libvirt.libvirtError as error:
        if error.get_error_code() in GONE:
            return None
        raise


# Asking and reading ---------------------------------------------------


def side_by_side(
    connection: Any, calls: Sequence[Callable[[], A]]
) -> list[Callable[[], A]]:
    """Make calls at the same time; return what gives each one's answer.

    Each answer is returned, or raised, when it is asked for. Few calls are
    made only then.
    """
    if len(calls) <= _FEW:
        return list(calls)
    pool = _pools.get(connection)
    if pool is None:
        pool = concurrent.futures.ThreadPoolExecutor(_THREADS)
        _pools[connection] = pool
    futures = [pool.submit(call) for call in calls]
    try:
        concurrent.futures.wait(futures)
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    return [future.result for future in futures]


#: The threads that ask, which live as long as their connection: a host that
#: does not answer holds up no other.
_pools: weakref.WeakKeyDictionary[
    Any, concurrent.futures.ThreadPoolExecutor
] = weakref.WeakKeyDictionary()


def _read_all(
    connection: Any,
    kind: model.Kind,
    listed: Sequence[Any],
    ask: Callable[[Any], A],
    read: Callable[[Any, A], T | None],
) -> Reading[T]:
    """Ask for all that is listed, then read it.

    :param ask: makes the calls for one object.
    :param read: returns None for what is of no use.
    :raises libvirt.libvirtError: if a call is denied or the connection gone.
    """
    answers = side_by_side(
        connection, [functools.partial(ask, each) for each in listed]
    )
    result: Reading[T] = Reading()
    for each, answer in zip(listed, answers, strict=True):
        try:
            with naming(each):
                found = read(each, answer())
        except exception.XmlMalformed as error:
            reason = str(error)
        except libvirt.libvirtError as error:
            number = error.get_error_code()
            if number in GONE:
                continue
            if number in DENIED or not is_alive(connection):
                raise
            reason = f"{each.name()}: {reason_of(error)}"
        else:
            result.found += [] if found is None else [found]
            continue
        result.not_read.append(model.Unreadable(kind, each.name(), reason))
    return result


@contextlib.contextmanager
def naming(subject: Any) -> Iterator[None]:
    """Let errors of the block say which object's document cannot be read.

    :raises XmlMalformed: if it cannot.
    """
    try:
        yield
    except exception.XmlMalformed as error:
        document = f"{error.document} of {subject.name()}"
        raise exception.XmlMalformed(document, error.reason) from None
    except UnicodeError as error:
        # The binding decodes what the daemon sent.
        raise exception.XmlMalformed(
            f"XML of {subject.name()}", f"{error}"
        ) from None


def _document(subject: Any, flags: int = 0) -> str:
    return str(subject.XMLDesc(flags))


def _ask(question: Callable[[], Any]) -> bool:
    """Return the answer to a question; False if the daemon is too old."""
    try:
        return bool(question())
    except libvirt.libvirtError as error:
        if error.get_error_code() in UNSUPPORTED:
            return False
        raise
