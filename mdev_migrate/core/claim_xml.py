# SPDX-License-Identifier: Apache-2.0
"""Write and read the domain that claims one target mdev.

It is shut off and never started, bears the mdev's UUID in its name, and has
the mdev as its only device: libvirt, Nova and people already agree that such
a domain holds the mdev of its definition. Who claimed it, for whom and how
far that is stands in ``<metadata>``, in a namespace of our own.

What is read is taken for forged. A domain that is not in every part what
would be written here is strange: it is reported, keeps others from its mdev,
and is never trusted. No word of it is ever opened, run, or put into a path.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from lxml import etree

from mdev_migrate import exception, model
from mdev_migrate.core import documents, guest_xml

#: Of the element in ``<metadata>``, and libvirt's key for it.
NAMESPACE = "urn:mdev-migrate:claim"
KEY = "mdev-migrate"
#: Of another element there, which says that nobody works on the claim any
#: more. Once written it stays: the owner, who may live after all, writes only
#: the first one.
OVER_NAMESPACE = "urn:mdev-migrate:over"
OVER_KEY = "mdev-migrate-over"
#: Raised whenever an element holds something that is not read so far.
VERSION = 1
#: Characters: ten times what libvirt makes of a domain written here.
_LONGEST = 64 * 2**10
_LONGEST_TEXT = 255
_DOCUMENT = "claim"
_TAG = f"{{{NAMESPACE}}}"
_OVER = f"{{{OVER_NAMESPACE}}}over"
#: What a domain that only claims has no use for, and somebody's guest has.
_DEVICES = ("disk", "interface", "filesystem", "hostdev", "shmem", "tpm")
#: Types of mdevs and names of parents, as the kernel and libvirt form them.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,127}")
_YES = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class Form:
    """What of a claim's domain a host may refuse: as its guest has it.

    :ivar device_api: the hostdev's ``model``.
    """

    domain_type: str = "qemu"
    arch: str | None = None
    machine: str | None = None
    device_api: str = "vfio-pci"


PLAIN = Form()


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain as a host lists it.

    :ivar text: its inactive document.
    """

    name: str
    domain_uuid: str
    active: bool
    text: str


def read_form(domain_xml: str) -> Form:
    """Return the form of the claims for a guest.

    :raises XmlMalformed: if its document cannot be read.
    """
    domain = documents.parse(domain_xml, "domain XML")
    system = domain.find("os/type")
    hostdev = domain.find("devices/hostdev[@type='mdev']")
    form = Form(domain_type=domain.get("type", PLAIN.domain_type))
    if system is not None:
        form = replace(
            form, arch=system.get("arch"), machine=system.get("machine")
        )
    if hostdev is not None:
        form = replace(form, device_api=hostdev.get("model", form.device_api))
    return form


def name_of(mdev_uuid: str) -> str:
    """Return the name of the domain that claims an mdev."""
    return f"{model.CLAIM_PREFIX}{mdev_uuid}"


# Writing ----------------------------------------------------------------


def write(claim: model.Claim, target: model.Target, form: Form) -> str:
    """Return the document that defines the domain of one target mdev."""
    domain = etree.Element("domain", type=form.domain_type)
    _add(domain, "name", name_of(target.mdev.uuid))
    _add(domain, "uuid", target.domain_uuid)
    _add(domain, "title", _clean(f"mdev claimed for guest {claim.subject}"))
    _add(
        domain,
        "description",
        _clean(
            "Not a guest: never start it. 'mdev-migrate recover' removes it "
            f"when nobody needs it any more. Holds mdev {target.mdev.uuid} "
            f"for guest {claim.subject}, which is to be migrated here from "
            f"{claim.source or 'its host'} by {claim.owner}."
        ),
    )
    metadata = _add(domain, "metadata")
    metadata.append(_element(claim, target, NAMESPACE))
    if claim.over:
        names = {OVER_KEY: OVER_NAMESPACE}
        etree.SubElement(metadata, _OVER, nsmap=names)
    _add(domain, "memory", "1024", unit="KiB")
    system = {"arch": form.arch, "machine": form.machine}
    given = {name: value for name, value in system.items() if value}
    _add(_add(domain, "os"), "type", "hvm", **given)
    hostdev = _add(
        _add(domain, "devices"),
        "hostdev",
        mode="subsystem",
        type="mdev",
        model=form.device_api,
    )
    _add(_add(hostdev, "source"), "address", uuid=target.mdev.uuid)
    return documents.serialise(domain)


def write_metadata(claim: model.Claim, target: model.Target) -> str:
    """Return the element for ``virDomainSetMetadata``.

    libvirt itself puts it into the namespace.
    """
    return documents.serialise(_element(claim, target, None))


def write_over() -> str:
    """Return the element that says that a claim is over, likewise."""
    return "<over/>"


def _element(
    claim: model.Claim, target: model.Target, namespace: str | None
) -> etree._Element:
    tag = f"{{{namespace}}}" if namespace else ""
    names = {KEY: namespace} if namespace else None
    element = etree.Element(
        f"{tag}claim",
        {
            "version": str(VERSION),
            "token": claim.token,
            "step": claim.step.value,
            "beat": f"{claim.beat:.3f}",
        },
        nsmap=names,
    )
    _add(
        element,
        f"{tag}instance",
        uuid=claim.instance_uuid,
        name=_clean(claim.guest),
    )
    _add(
        element,
        f"{tag}source",
        name=_clean(claim.source),
        uuid=claim.source_uuid,
    )
    _add(element, f"{tag}owner", name=_clean(claim.owner))
    if claim.migration:
        _add(element, f"{tag}migration", uuid=claim.migration)
    mdev = _add(
        element,
        f"{tag}mdev",
        uuid=target.mdev.uuid,
        type=target.mdev.mdev_type,
        parent=target.mdev.parent,
        created=_word(target.created),
        persistent=_word(target.mdev.persistent),
    )
    for name, value in target.mdev.attributes:
        _add(mdev, f"{tag}attr", name=name, value=value)
    return element


def _add(
    above: etree._Element, tag: str, text: str | None = None, **facts: str
) -> etree._Element:
    child = etree.SubElement(above, tag, facts)
    child.text = text
    return child


def _word(value: bool) -> str:
    return "yes" if value else "no"


def _clean(text: str) -> str:
    """Return a text that libvirt takes as a title: one line, not too long."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return printable[:_LONGEST_TEXT]


# Reading ----------------------------------------------------------------


def is_named_so(name: str) -> bool:
    """Tell whether a domain's name says that it is a claim."""
    return name.startswith(model.CLAIM_PREFIX)


def read_all(domains: Iterable[Domain]) -> model.Claims:
    """Return the claims that some domains are.

    Domains of one token are one claim, if they are of one instance: the
    furthest step and the last beat among them count, and one that is over is
    enough.
    """
    found: dict[tuple[str, str], model.Claim] = {}
    strange = []
    for domain in domains:
        try:
            part = read(domain)
        except exception.XmlMalformed as error:
            strange.append(_strange(domain, error.reason))
            continue
        key = (part.token, part.instance_uuid)
        found[key] = _joined(found[key], part) if key in found else part
    return model.Claims(tuple(found.values()), tuple(strange))


def _joined(claim: model.Claim, part: model.Claim) -> model.Claim:
    steps = list(model.Step)
    return replace(
        claim,
        targets=tuple(
            sorted((*claim.targets, *part.targets), key=lambda t: t.mdev.uuid)
        ),
        step=max(claim.step, part.step, key=steps.index),
        beat=max(claim.beat, part.beat),
        over=claim.over or part.over,
    )


def _strange(domain: Domain, reason: str) -> model.StrangeClaim:
    kept: set[str] = set()
    with contextlib.suppress(ValueError):
        kept.add(model.normalise_uuid(_ending(domain.name)))
    if len(domain.text) <= _LONGEST:
        with contextlib.suppress(exception.XmlMalformed):
            kept |= guest_xml.named_mdevs(domain.text)
    return model.StrangeClaim(
        domain.name, reason, frozenset(kept), domain.domain_uuid
    )


def _ending(name: str) -> str:
    return name.removeprefix(model.CLAIM_PREFIX)


def read(domain: Domain) -> model.Claim:
    """Return the part of a claim that one domain is.

    :raises XmlMalformed: if it is not in every part what :func:`write`
        writes; the reason says what is strange.
    """
    if len(domain.text) > _LONGEST:
        raise _malformed("its document is far too long")
    root = documents.parse(domain.text, _DOCUMENT)
    if domain.active:
        raise _malformed("it has been started")
    mdev_uuid = _uuid(_ending(domain.name), "name")
    if domain.name != name_of(mdev_uuid):
        raise _malformed("its name is not that of a claim")
    _check_devices(root, mdev_uuid)
    elements = root.findall(f"metadata/{_TAG}claim")
    if len(elements) != 1:
        raise _malformed(f"it says {len(elements)} times whose claim it is")
    claim = _read_element(elements[0], mdev_uuid, domain.domain_uuid)
    return replace(claim, over=_says_over(root))


def is_over(text: str) -> bool:
    """Tell whether a domain's document says that its claim is over.

    :raises XmlMalformed: if it cannot be read.
    """
    return _says_over(documents.parse(text, _DOCUMENT))


def _says_over(root: etree._Element) -> bool:
    return root.find(f"metadata/{_OVER}") is not None


def _check_devices(root: etree._Element, mdev_uuid: str) -> None:
    """Refuse a domain that has more than the mdev of its name."""
    found = [
        device
        for devices in root.findall("devices")
        for device in devices
        if device.tag in _DEVICES
    ]
    named = [a.get("uuid") for a in root.iterfind(".//hostdev/source/address")]
    if len(found) != 1 or named != [mdev_uuid]:
        raise _malformed("its devices are not the mdev of its name alone")


def _read_element(
    element: etree._Element, mdev_uuid: str, domain_uuid: str
) -> model.Claim:
    version = element.get("version", "")
    if version != str(VERSION):
        raise _malformed(f"it is of version {version!r:.20}, not {VERSION}")
    instance, source = _child(element, "instance"), _child(element, "source")
    migration = element.find(f"{_TAG}migration")
    host_uuid = source.get("uuid", "")
    return model.Claim(
        instance_uuid=_uuid(instance.get("uuid", ""), "instance"),
        token=_uuid(element.get("token", ""), "token"),
        targets=(
            model.Target(
                _read_mdev(_child(element, "mdev"), mdev_uuid),
                _flag(_child(element, "mdev"), "created"),
                _uuid(domain_uuid, "domain"),
            ),
        ),
        owner=_text(_child(element, "owner")),
        guest=_text(instance),
        source=_text(source),
        source_uuid=_uuid(host_uuid, "source") if host_uuid else "",
        migration=(
            ""
            if migration is None
            else _uuid(migration.get("uuid", ""), "migration")
        ),
        step=_step(element.get("step", "")),
        beat=_beat(element.get("beat", "")),
    )


def _read_mdev(element: etree._Element, mdev_uuid: str) -> model.Mdev:
    if element.get("uuid") != mdev_uuid:
        raise _malformed("it is for another mdev than that of its name")
    names = [element.get("type", ""), element.get("parent", "")]
    if not all(map(_NAME.fullmatch, names)):
        raise _malformed("it does not name the mdev's type and parent")
    return model.Mdev(
        uuid=mdev_uuid,
        mdev_type=names[0],
        parent=names[1],
        attributes=tuple(
            (_short(attr.get("name", "")), _short(attr.get("value", "")))
            for attr in element.iterfind(f"{_TAG}attr")
        ),
        persistent=_flag(element, "persistent"),
    )


def _malformed(reason: str) -> exception.XmlMalformed:
    return exception.XmlMalformed(_DOCUMENT, reason)


def _child(element: etree._Element, name: str) -> etree._Element:
    found = element.findall(f"{_TAG}{name}")
    if len(found) != 1:
        raise _malformed(f"it has {len(found)} elements <{name}>")
    return found[0]


def _uuid(text: str, what: str) -> str:
    try:
        return model.normalise_uuid(text)
    except ValueError:
        raise _malformed(f"it has no UUID of its {what}") from None


def _short(text: str) -> str:
    if len(text) > _LONGEST_TEXT:
        raise _malformed("a text in it is far too long")
    return text


def _text(element: etree._Element) -> str:
    return _short(element.get("name", ""))


def _flag(element: etree._Element, name: str) -> bool:
    word = element.get(name, "")
    if word not in _YES:
        raise _malformed(f"it says neither yes nor no to '{name}'")
    return _YES[word]


def _step(word: str) -> model.Step:
    try:
        return model.Step(word)
    except ValueError:
        raise _malformed("it is at no known step") from None


def _beat(text: str) -> float:
    if not re.fullmatch(r"\d{1,12}\.\d{3}", text, re.ASCII):
        raise _malformed("its beat is none")
    return float(text)
