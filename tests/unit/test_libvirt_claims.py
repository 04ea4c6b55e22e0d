# SPDX-License-Identifier: Apache-2.0
"""Do claims on a host behave as libvirt's unique names let them?"""

from dataclasses import replace

import libvirt
import pytest

from mdev_migrate import exception, libvirt_host, model, testing
from mdev_migrate.core import claim_xml
from tests import builders

FORM = claim_xml.Form()
MADE = builders.target(builders.mdev(1), created=True)
REUSED = builders.target(builders.mdev(2))
CLAIM = builders.claim(MADE, REUSED)


@pytest.fixture
def simulated():
    """Return a host that others migrate to."""
    return testing.two_hosts()[1]


@pytest.fixture
def host(simulated):
    """Return it behind a connection."""
    group = simulated.group
    return libvirt_host.LibvirtHost(simulated.uris[0], opener=group.open)


def another(claim, *targets):
    """Return a claim of somebody else."""
    return replace(claim, token=builders.instance(0x77), targets=targets)


class TestDefining:
    def test_it_is_read_by_everybody(self, host):
        """Another connection reads what was claimed."""
        host.claims.define(CLAIM, FORM)

        assert host.claims.read() == model.Claims((CLAIM,))

    def test_the_second_is_refused_and_the_first_unchanged(self, host):
        """Names are unique: that is what decides races."""
        host.claims.define(CLAIM, FORM)
        rival = another(CLAIM, builders.target(REUSED.mdev, domain=0x99))

        with pytest.raises(exception.ClaimTaken) as caught:
            host.claims.define(rival, FORM)

        assert caught.value.mdev_uuid == REUSED.mdev.uuid
        assert host.claims.read().all == (CLAIM,)

    def test_all_are_claimed_or_none(self, host):
        """Of a claim that meets a refusal nothing is left."""
        host.claims.define(replace(CLAIM, targets=(REUSED,)), FORM)
        rival = another(CLAIM, MADE, builders.target(REUSED.mdev, domain=0x99))

        with pytest.raises(exception.ClaimTaken):
            host.claims.define(rival, FORM)

        assert host.claims.read().all == (replace(CLAIM, targets=(REUSED,)),)

    @pytest.mark.parametrize(
        "number",
        [libvirt.VIR_ERR_ACCESS_DENIED, libvirt.VIR_ERR_OPERATION_DENIED],
    )
    def test_who_may_not_define_is_refused(self, host, simulated, number):
        """Access control and read-only connections have a code of ours."""
        error = testing.libvirt_error(number, "domain:write")
        simulated.faults.on("defineXML", testing.fail(error))

        with pytest.raises(exception.ClaimsDenied):
            host.claims.define(CLAIM, FORM)

    def test_what_else_libvirt_refuses_is_told(self, host, simulated):
        """A refusal while the name is free is no race."""
        error = testing.libvirt_error(
            libvirt.VIR_ERR_OPERATION_FAILED, "disk full"
        )
        for nth in range(1, 9):
            simulated.faults.on("defineXML", testing.fail(error), nth=nth)

        with pytest.raises(exception.LibvirtFailed):
            host.claims.define(CLAIM, FORM)

        assert host.claims.read() == model.Claims()

    def test_made_in_spite_of_an_error(self, host, simulated):
        """What libvirt made and said not to have is released with the rest."""
        error = testing.libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "timer")

        def make_and_fail(_link, define):
            define()
            raise error

        for nth in range(1, 9):
            simulated.faults.on("defineXML", make_and_fail, nth=nth)

        with pytest.raises(exception.LibvirtFailed):
            host.claims.define(CLAIM, FORM)

        assert host.claims.read() == model.Claims()

    def test_rival_who_gives_up_between_refusal_and_look(
        self, host, simulated
    ):
        """A name that was taken, and is free when looked for, is tried again.

        Otherwise a race that nobody won would be a failure of the host.
        """
        error = testing.libvirt_error(
            libvirt.VIR_ERR_OPERATION_FAILED, "domain already exists with uuid"
        )
        simulated.faults.on("defineXML", testing.fail(error))

        host.claims.define(CLAIM, FORM)

        assert host.claims.read() == model.Claims((CLAIM,))


class TestWriting:
    def test_step_and_beat_are_replaced(self, host):
        """What was written last is read."""
        host.claims.define(CLAIM, FORM)
        later = replace(CLAIM, step=model.Step.MIGRATE, beat=12.5)

        host.claims.write(later)

        assert host.claims.read().all == (later,)

    def test_each_target_costs_one_call(self, host, simulated):
        """They are found by one list, however many they are."""
        host.claims.define(CLAIM, FORM)
        before = len(simulated.calls)

        host.claims.write(CLAIM)

        names = [name for _, name in simulated.calls[before:]]
        assert names == ["listAllDomains", "setMetadata", "setMetadata"]

    def test_a_lost_claim_is_not_written(self, host):
        """Its owner learns that somebody removed it."""
        with pytest.raises(exception.ClaimLost):
            host.claims.write(CLAIM)

    def test_what_is_over_stays_so(self, host):
        """An owner that is not heard cannot undo it by going on."""
        host.claims.define(CLAIM, FORM)
        later = replace(CLAIM, step=model.Step.MIGRATE, beat=12.5)

        host.claims.close(CLAIM)
        host.claims.write(later)

        assert host.claims.read().all == (replace(later, over=True),)

    @pytest.mark.parametrize("target", CLAIM.targets)
    def test_one_that_others_end_is_lost(self, host, target):
        """Whichever of its domains says so, or is gone."""
        part = replace(CLAIM, targets=(target,))
        host.claims.define(CLAIM, FORM)
        host.claims.confirm(CLAIM)

        host.claims.close(part)
        with pytest.raises(exception.ClaimLost):
            host.claims.confirm(CLAIM)
        host.claims.undefine(part)

        for ask in (host.claims.confirm, host.claims.close):
            with pytest.raises(exception.ClaimLost):
                ask(CLAIM)

    def test_anothers_of_the_same_name_is_not_touched(self, host):
        """It is found by its domain's UUID, not by its name."""
        rival = another(CLAIM, builders.target(REUSED.mdev, domain=0x99))
        host.claims.define(rival, FORM)

        with pytest.raises(exception.ClaimLost):
            host.claims.write(replace(CLAIM, targets=(REUSED,)))
        host.claims.undefine(CLAIM)

        assert host.claims.read().all == (rival,)


class TestReleasing:
    def test_it_may_be_done_twice(self, host):
        """Gone is gone."""
        host.claims.define(CLAIM, FORM)

        host.claims.undefine(CLAIM)
        host.claims.undefine(CLAIM)

        assert host.claims.read() == model.Claims()


class TestInventory:
    def test_a_claim_is_no_guest(self, host):
        """It holds its mdevs and is nobody."""
        host.claims.define(CLAIM, FORM)

        found = host.inventory()

        assert found.guests == ()
        assert found.claims.held() == CLAIM.mdevs

    def test_a_guest_named_like_a_claim_is_a_guest(self, host, simulated):
        """It is reported as well, and holds the mdev of its name."""
        name = claim_xml.name_of(MADE.mdev.uuid)
        simulated.add_guest(name, builders.INSTANCE, running=False)

        found = host.inventory()

        assert [guest.name for guest in found.guests] == [name]
        assert [each.name for each in found.claims.strange] == [name]
        assert [mdev.uuid for mdev in found.claims.held()] == [MADE.mdev.uuid]
