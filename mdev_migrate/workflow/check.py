# SPDX-License-Identifier: Apache-2.0
"""Make every pre-check of a migration and plan it, changing nothing."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from mdev_migrate import exception, model
from mdev_migrate.core import (
    allocation,
    claim_xml,
    estimate,
    guest_xml,
    idle,
    made,
    offers,
    pairing,
    precheck,
)
from mdev_migrate.core.precheck import Check, attempt
from mdev_migrate.host import Host
from mdev_migrate.workflow.values import Destination, Options, Report


@dataclass(slots=True)
class _Findings:
    """What both hosts said, and what was made of it so far.

    :ivar here: the guest's mdevs, and their parents.
    :ivar there: what the destination has.
    :ivar blockers: what blocks the migration in the source's words, empty if
        nothing does; None if it could not be asked.
    """

    source: model.HostFacts
    destination: model.HostFacts
    guest: model.Guest
    here: model.Inventory
    there: model.Inventory
    blockers: str | None = None
    kept: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)
    wanted: tuple[model.WantedMdev, ...] = ()
    plan: allocation.AllocationPlan | None = None
    estimate: estimate.Estimate | None = None
    form: claim_xml.Form = claim_xml.PLAIN
    made: frozenset[str] = frozenset()


class GuestCheck:
    """The pre-checks of one guest's migration.

    :param guest: its name, UUID or number.
    """

    def __init__(
        self,
        source: Host,
        destination: Destination,
        guest: str,
        options: Options | None = None,
    ) -> None:
        self._source = source
        self._destination = destination
        self._name = guest
        self._options = options or Options()

    def check(self) -> Report:
        """Make every pre-check and plan; change nothing on either host.

        :raises OptionInvalid: if an option is out of its bounds.
        :raises GuestNotFound: if the source has no such guest.
        :raises XmlMalformed: if a host's document cannot be read.
        :raises HostError: if a host cannot be asked.
        """
        self._options.check()
        try:
            return self._check()
        except exception.LibvirtFailed:
            # One without a definition may have ended meanwhile.
            self._source.find_guest(self._name)
            raise

    def _check(self) -> Report:
        source = self._source.facts()
        destination = self._destination.host.facts()
        guest = self._source.find_guest(self._name)
        versions: list[Check] = []
        if guest.mdevs:
            versions += precheck.check_versions("source", source)
            versions += precheck.check_versions("destination", destination)
        try:
            findings = _Findings(
                source=source,
                destination=destination,
                guest=guest,
                notes=list(precheck.hidden(guest)),
                here=self._source.inventory_of(guest.mdevs),
                there=self._destination.host.inventory(warm=True),
            )
        except exception.MdevMigrateError:
            if all(check.result != "refused" for check in versions):
                raise
            # Too old to be asked for the rest in words that it knows.
            return Report(guest, tuple(versions))
        checks = list(self._check_all(findings, versions))
        return Report(
            guest=guest,
            checks=tuple(checks),
            wanted=findings.wanted,
            plan=findings.plan,
            form=findings.form,
            made=self._find_made(findings),
            there=findings.there,
            source=source.name,
            source_uuid=source.host_uuid,
            earlier=bool(findings.there.claims.of(guest.instance_uuid)),
            estimate=findings.estimate,
            kept=findings.kept,
            notes=tuple(findings.notes),
        )

    def _find_made(self, findings: _Findings) -> tuple[model.Mdev, ...]:
        """Return what is there of the mdevs that were made for the guest."""
        mdevs = findings.here.mdevs
        if not findings.made <= findings.guest.mdevs:
            mdevs = self._source.inventory_of(findings.made).mdevs
        return tuple(
            mdev
            for mdev in mdevs
            if mdev.uuid in findings.made and not mdev.persistent
        )

    def _check_all(
        self, findings: _Findings, versions: list[Check]
    ) -> Iterator[Check]:
        busy = self._check_job(findings)
        if busy.error is not None:
            yield busy
        yield from _check_places(findings, shut_off=self._options.shut_off)
        stays = findings.guest.running or findings.guest.suspended
        if stays and busy.error is None:
            blockers, peer = self._check_blockers(findings)
            findings.blockers = _said(blockers)
            yield blockers
            if peer is not None:
                yield peer
        yield from self._check_bases(findings.guest)
        if not findings.guest.mdevs:
            if self._options.targets:
                yield attempt("guest-mdevs", "source", self._check_no_targets)
            findings.plan = allocation.AllocationPlan()
            return
        yield from versions
        yield from self._check_guest(findings)
        yield from self._check_claims(findings)
        if findings.wanted and not self._options.shut_off:
            yield self._check_downtime(findings)
        if findings.wanted:
            yield from self._check_targets(findings)

    def _check_job(self, findings: _Findings) -> Check:
        """See that nothing else is being done with this guest.

        libvirt would wait for its end, and then say something else.
        """
        guest = findings.guest

        def check_none() -> str:
            job = (
                self._source.progress(guest.instance_uuid)
                if guest.active
                else None
            )
            return precheck.check_no_job(guest, findings.source.name, job)

        return attempt("guest-job", "source", check_none)

    def _check_blockers(
        self, findings: _Findings
    ) -> tuple[Check, Check | None]:
        """Ask libvirt and QEMU whether they would migrate this guest.

        :returns: that check, and whether the source reaches the destination,
            if it was asked.
        """
        guest = findings.guest
        peer_uri = self._options.peer_uri or self._destination.host.uri
        unreached: list[exception.PeerUnreachable] = []

        def ask() -> str:
            reason = None
            try:
                reason = self._source.ask_blockers(
                    guest.instance_uuid,
                    self._options.flags_for(guest),
                    peer_uri,
                )
            except exception.PeerUnreachable as error:
                unreached.append(error)
            if reason is not None:
                raise exception.MigrationBlocked(
                    guest.name, findings.source.name, reason
                )
            return "neither libvirt nor QEMU blocks the migration"

        def reach() -> str:
            for error in unreached:
                raise error
            return f"{findings.source.name} reaches {peer_uri}"

        blockers = attempt("migration-blockers", "source", ask)
        if blockers.error is not None:
            return blockers, None
        return blockers, attempt("peer-reachable", "source", reach)

    def _check_bases(self, guest: model.Guest) -> Iterator[Check]:
        """Check the documents that the user gave for the destination."""
        for option, document in (
            ("xml", self._options.live_xml),
            ("persistent xml", self._options.persistent_xml),
        ):
            if document is not None:
                own = self._own_document(guest, option)
                rule = functools.partial(
                    precheck.check_base, guest, option, document, own
                )
                yield attempt("given-xml", "destination", rule)

    def _check_no_targets(self) -> str:
        precheck.with_targets((), self._options.targets)
        return "the guest has no mdevs, and no target was chosen for one"

    def _own_document(self, guest: model.Guest, option: str) -> str | None:
        if option == "xml":
            return self._source.live_xml(guest.instance_uuid)
        if not guest.persistent:
            return None
        return self._source.inactive_xml(guest.instance_uuid)

    def _live_mdevs(self, live: str) -> tuple[model.GuestMdev, ...]:
        """Return the mdevs that the guest uses now: none if it is off."""
        if self._options.shut_off:
            return ()
        return tuple(guest_xml.read_mdevs(live))

    def _need_listed(self, findings: _Findings) -> None:
        """Need all mdevs of a guest that is off: it would not start.

        :raises GuestMdevNotListed: if its host does not list one.
        """
        if self._options.shut_off and findings.kept:
            raise exception.GuestMdevNotListed(
                findings.guest.name, findings.source.name, findings.kept
            )

    def _check_guest(self, findings: _Findings) -> Iterator[Check]:
        """Check what the guest's documents say."""
        guest = findings.guest
        live = self._source.live_xml(guest.instance_uuid)
        inactive = None
        if guest.persistent:
            inactive = self._source.inactive_xml(guest.instance_uuid)

        findings.form = claim_xml.read_form(live)
        findings.made = made.read(live)

        def check_mdevs() -> str:
            for document in filter(None, (live, inactive)):
                precheck.check_replaceable(
                    guest.name, guest_xml.mdevs_by_options(document)
                )
            now = self._live_mdevs(live)
            wanted = precheck.source_mdevs(guest, now, findings.here)
            if inactive is not None:
                later = guest_xml.read_mdevs(inactive)
                pending, findings.kept = precheck.pending_mdevs(
                    now, later, findings.here
                )
                self._need_listed(findings)
                named = {mdev.uuid for mdev in later}
                wanted = tuple(
                    replace(want, inactive=want.source_uuid in named)
                    for want in wanted
                )
                wanted += pending
            findings.wanted = precheck.with_targets(
                wanted, self._options.targets
            )
            return "; ".join(
                f"{want.source_uuid} is {want.mdev_type}"
                for want in findings.wanted
            )

        def check_inactive() -> str:
            if inactive is None:
                return "the guest is transient: it has no inactive XML"
            change = precheck.pending_change(
                guest_xml.read_mdevs(live),
                guest_xml.read_mdevs(inactive),
                findings.kept,
            )
            if change:
                findings.notes.append(change)
            return (
                change or "the live and the inactive XML name the same mdevs"
            )

        def check_viommu() -> str:
            return precheck.check_viommu(
                guest, guest_xml.read_viommu(live), findings.blockers
            )

        yield attempt("guest-mdevs", "source", check_mdevs)
        yield attempt("guest-xml", "source", check_inactive)
        if not self._options.shut_off:
            yield attempt("guest-viommu", "source", check_viommu)

    def _check_downtime(self, findings: _Findings) -> Check:
        """Estimate how long the guest stands still for its devices."""
        names = estimate.names_of(
            (*findings.there.parents, *findings.here.parents)
        )
        options = self._options
        found = estimate.make(
            [want for want in findings.wanted if want.live],
            names,
            options.way.switchover_bandwidth or options.bandwidth,
        )
        findings.estimate = found

        def judge() -> str:
            return estimate.judge(
                findings.guest.name,
                found,
                options.max_downtime_ms,
                strict=options.strict_downtime,
            )

        return attempt("downtime", "source", judge)

    def _check_claims(self, findings: _Findings) -> Iterator[Check]:
        """Say what earlier claims of the guest mean, and name the others."""
        uuid, claims = findings.guest.instance_uuid, findings.there.claims
        for claim in claims.of(uuid):

            def check_earlier(claim: model.Claim = claim) -> str:
                return precheck.check_earlier(claim)

            yield attempt("older-claim", "destination", check_earlier)
        others = [c.subject for c in claims.all if c.instance_uuid != uuid]
        others += [f"strange: {each.name}" for each in claims.strange]
        if others:
            detail = f"mdevs there are claimed for {', '.join(others)}"
            yield Check("other-claims", "destination", "passed", detail)

    def _check_targets(self, findings: _Findings) -> Iterator[Check]:
        """Check what the destination can offer, and plan with it."""
        there = findings.there

        def check_readable() -> str:
            return precheck.check_readable(there)

        def check_types() -> str:
            offers.check_types(there, findings.wanted)
            findings.notes += offers.renamed(there, findings.wanted)
            return f"{there.host} offers every mdev type of the guest"

        def check_available() -> str:
            held = there.claims.held_for_good(findings.guest.instance_uuid)
            plan = allocation.allocate(
                there,
                findings.wanted,
                held=held,
                owner=findings.guest.instance_uuid,
                mint=self._destination.mint,
            )
            findings.plan = plan
            reused = {mdev.uuid for mdev in plan.reuse}
            define = pairing.to_define(findings.wanted, plan.mdevs)
            count = len(reused & define.keys())
            left = idle.left_behind(
                there, plan.mdevs, held, findings.guest.instance_uuid
            )
            notes = list(precheck.left_behind(there.host, left))
            findings.notes += notes
            found = (
                f"{there.host} has them: {len(plan.reuse)} to reuse, "
                f"{len(plan.create)} to create"
                + f"; {count} will be defined, as on the source"
                * bool(count)
            )
            return "; ".join((found, *notes))

        readable = attempt("readable-host", "destination", check_readable)
        if readable.error is not None:
            yield readable
        types = attempt("mdev-types", "destination", check_types)
        yield types
        if types.result == "passed":
            yield attempt("available-mdevs", "destination", check_available)

    def difference(self, report: Report) -> str:
        """Return what the plan changes in the guest's live XML.

        :raises PreCheckError: if the document cannot be rewritten.
        """
        before = self._source.live_xml(report.guest.instance_uuid)
        created = report.plan.create if report.plan else ()
        after = report.rewritten(
            before, report.live_mdevs(report.target_mdevs), created
        )
        return guest_xml.difference(before, after)


def _said(blockers: Check) -> str | None:
    """Return what the source said of blockers, None if it was not asked."""
    if isinstance(blockers.error, exception.MigrationBlocked):
        return blockers.error.reason
    return "" if blockers.result == "passed" else None


def _check_places(findings: _Findings, *, shut_off: bool) -> Iterator[Check]:
    """Check that the guest can leave here and arrive there at all."""

    def check_hosts() -> str:
        return precheck.check_hosts_differ(
            findings.source, findings.destination
        )

    def check_running() -> str:
        if shut_off:
            return precheck.check_off(findings.guest, findings.source.name)
        found = precheck.check_running(findings.guest, findings.source.name)
        if not findings.guest.running:
            findings.notes.append(found)
        return found

    def check_unknown() -> str:
        return precheck.check_unknown_there(findings.guest, findings.there)

    hosts = attempt("different-hosts", "destination", check_hosts)
    yield hosts
    yield attempt("guest-running", "source", check_running)
    if hosts.result == "passed":
        yield attempt("guest-unknown", "destination", check_unknown)
