# SPDX-License-Identifier: Apache-2.0
"""Is a claim's domain what it says, and is what is forged only reported?"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from mdev_migrate import model
from mdev_migrate.core import claim_xml, guest_xml
from tests import builders

MDEV = builders.mdev(1, attributes=(("a", "1"), ("b", "2")))
OTHER = builders.mdev(2)
CLAIM = builders.claim(builders.target(MDEV, created=True), beat=1.5)
FORM = claim_xml.Form("kvm", "x86_64", "pc-q35-10.0", "vfio-pci")


def domain_of(claim, target=None, **facts):
    """Return a claim's domain as a host would list it."""
    target = target or claim.targets[0]
    known = {
        "name": claim_xml.name_of(target.mdev.uuid),
        "domain_uuid": target.domain_uuid,
        "active": False,
        "text": claim_xml.write(claim, target, FORM),
    }
    return claim_xml.Domain(**(known | facts))


def forged(**changes):
    """Return the claim's domain with words of its text replaced."""
    text = domain_of(CLAIM).text
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    return domain_of(CLAIM, text=text)


class TestWriting:
    def test_it_names_the_mdev_as_a_guest_does(self):
        """Whoever reads guests finds the mdev held, and nothing else."""
        text = domain_of(CLAIM).text

        assert guest_xml.named_mdevs(text) == {MDEV.uuid}

    def test_it_has_the_form_of_the_guest_that_comes(self):
        """Type, architecture, machine and model are the guest's."""
        root = etree.fromstring(domain_of(CLAIM).text)
        system = root.find("os/type")

        assert root.get("type") == "kvm"
        assert (system.get("arch"), system.get("machine")) == (
            "x86_64",
            "pc-q35-10.0",
        )

    def test_the_form_is_read_from_a_guest(self):
        """The live document of a captured guest gives the form."""
        form = claim_xml.read_form(builders.captured("guest-live.xml"))

        assert form.device_api == "vfio-pci"
        assert form.arch == "x86_64"

    def test_a_guest_that_does_not_say_its_form(self):
        """What a document leaves out is left out of the claim, too."""
        form = claim_xml.read_form("<domain type='kvm'/>")

        assert form == claim_xml.Form(domain_type="kvm")

    def test_it_says_in_words_for_whom_and_not_to_start_it(self):
        """A human who lists domains learns what it is."""
        root = etree.fromstring(domain_of(CLAIM).text)

        assert "guest vm" in root.findtext("title")
        assert "never start it" in root.findtext("description")


names = st.text(max_size=300)


class TestReading:
    @given(
        owner=names,
        guest=names,
        source=names,
        step=st.sampled_from(model.Step),
        beat=st.integers(0, 10**12).map(lambda ms: ms / 1000),
        over=st.booleans(),
        created=st.booleans(),
    )
    def test_what_was_written_is_read(
        self, owner, guest, source, step, beat, over, created
    ):
        """Facts survive as they are, texts as far as they are one line."""
        claim = replace(
            CLAIM,
            targets=(builders.target(MDEV, created=created),),
            owner=owner,
            guest=guest,
            source=source,
            step=step,
            beat=beat,
            over=over,
        )

        found = claim_xml.read(domain_of(claim))

        assert replace(found, owner=owner, guest=guest, source=source) == claim
        assert found.owner == "".join(
            c if c.isprintable() else " " for c in owner[:255]
        )

    def test_domains_of_one_token_are_one_claim(self):
        """The furthest step counts, and it is over if one part is.

        Whoever takes a claim over says so in one domain after the other; its
        owner looks at all.
        """
        targets = (builders.target(MDEV), builders.target(OTHER))
        claim = replace(CLAIM, targets=targets)
        later = replace(claim, step=model.Step.MIGRATE, over=True, beat=2.0)

        found = claim_xml.read_all(
            (domain_of(claim, targets[1]), domain_of(later, targets[0]))
        )

        assert found.all == (later,)
        assert found.names() == {
            claim_xml.name_of(m.uuid) for m in later.mdevs
        }

    def test_a_nova_migration_is_read(self):
        """A claim of Nova's names its migration."""
        claim = replace(CLAIM, migration=builders.instance(7))

        assert claim_xml.read(domain_of(claim)) == claim


EVIL = "qemu+ext:///system?command=/tmp/x"
_DTD = "<!DOCTYPE domain [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"
FORGED = {
    "another hostdev": forged(
        a=(f'address uuid="{MDEV.uuid}"', f'address uuid="{OTHER.uuid}"')
    ),
    "two hostdevs": forged(
        a=("</hostdev>", "</hostdev><hostdev mode='subsystem' type='pci'/>")
    ),
    "a disk": forged(a=("<devices>", "<devices><disk/>")),
    "second devices": forged(
        a=("</domain>", "<devices><interface/></devices></domain>")
    ),
    "another namespace": forged(a=(claim_xml.NAMESPACE, "urn:somebody:else")),
    "two elements": forged(
        a=(
            "</metadata>",
            f"<c:claim xmlns:c='{claim_xml.NAMESPACE}'/></metadata>",
        )
    ),
    "an entity": domain_of(CLAIM, text=_DTD + domain_of(CLAIM).text),
    "1 MiB of text": forged(a=("somebody", "x" * 2**20)),
    "a long owner": forged(a=("somebody", "x" * 300)),
    "a newer version": forged(a=('version="1"', 'version="2"')),
    "a path for a token": forged(a=(CLAIM.token, "../../etc/passwd")),
    "a URI for an instance": forged(a=(CLAIM.instance_uuid, EVIL)),
    "a URI for a host": forged(a=(CLAIM.source_uuid, EVIL)),
    "a path for a parent": forged(a=("mtty_mtty", "../../x")),
    "a path for a type": forged(a=('type="mtty-1"', 'type="a/../b"')),
    "a step of its own": forged(a=('step="claim"', 'step="fly"')),
    "no beat": forged(a=('beat="1.500"', 'beat="nan"')),
    "neither yes nor no": forged(a=('created="yes"', 'created="maybe"')),
    "another mdev inside": forged(
        a=(f'mdev uuid="{MDEV.uuid}"', f'mdev uuid="{OTHER.uuid}"')
    ),
    "started": domain_of(CLAIM, active=True),
    "a name that is no UUID": domain_of(CLAIM, name="mdev-claim-../x"),
    "no prefix": domain_of(CLAIM, name=f"mdev-claim-{MDEV.uuid}A".upper()),
    "no prefix at all": domain_of(CLAIM, name=MDEV.uuid),
    "no owner": forged(
        a=('<mdev-migrate:owner name="somebody"/>', ""),
    ),
    "no XML": domain_of(CLAIM, text="<domain"),
    "somebody's guest": domain_of(
        CLAIM, text="<domain type='kvm'><name>x</name></domain>"
    ),
}


class TestForged:
    @pytest.mark.parametrize("name", FORGED)
    def test_it_is_reported_and_no_claim(self, name):
        """Nothing that differs from what is written here is believed."""
        found = claim_xml.read_all([FORGED[name]])

        assert found.all == ()
        assert found.strange[0].name == FORGED[name].name
        assert found.strange[0].reason

    @pytest.mark.parametrize(
        "name",
        [
            name
            for name, domain in FORGED.items()
            if domain.name == claim_xml.name_of(MDEV.uuid)
        ],
    )
    def test_it_keeps_others_from_its_mdev(self, name):
        """The name is taken, so the mdev is planned around."""
        found = claim_xml.read_all([FORGED[name]])

        assert MDEV.uuid in {mdev.uuid for mdev in found.held()}

    def test_the_hostdev_of_a_forged_one_is_kept_as_well(self):
        """A guest with such a name holds its mdevs as any guest does."""
        found = claim_xml.read_all([FORGED["another hostdev"]])

        assert found.strange[0].mdevs == {MDEV.uuid, OTHER.uuid}

    def test_a_uri_in_a_text_is_a_text(self):
        """Owner and names are for people: a URI in them is never a URI."""
        found = claim_xml.read(forged(a=("somebody", EVIL)))

        assert found.owner == EVIL
