# SPDX-License-Identifier: Apache-2.0
"""Stand between Nova and a guest with mdevs while it is migrated."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mdev_migrate import libvirt_errors, libvirt_jobs
from mdev_migrate.compute.migration_log import MigrationLog
from mdev_migrate.core import guest_xml, transport

#: Type of a job that has ended well: VIR_DOMAIN_JOB_COMPLETED.
_COMPLETED = 3
#: State and reason of a half that waits to hear of the other one:
#: VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_MIGRATION.
_HELD = (3, 2)


class _Wrapper:
    """Passes everything on to Nova's guest that is not overridden."""

    def __init__(self, guest: Any) -> None:
        self._guest = guest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guest, name)


class OutgoingGuest(_Wrapper):
    """A guest whose XML is rewritten last, as it leaves.

    :param target_mdevs: target by source mdev UUID.
    :param host: the source's name, for texts.
    :param told: logs what is left out.
    """

    def __init__(
        self,
        guest: Any,
        target_mdevs: Mapping[str, str],
        host: str,
        told: MigrationLog,
    ) -> None:
        super().__init__(guest)
        self._target_mdevs = target_mdevs
        self._host = host
        self._told = told

    def migrate(
        self,
        destination: str,
        migrate_uri: str | None = None,
        migrate_disks: Any = None,
        destination_xml: str | None = None,
        flags: int = 0,
        bandwidth: int = 0,
        **others: Any,
    ) -> Any:
        """Migrate the guest onto its target mdevs.

        Nova hands the same document to libvirt as live and as persistent
        definition. From Nova 29 it has been rewritten already. Which mdevs
        it names does not tell, as both hosts may have the same UUIDs: it
        is compared, in order, with what becomes of the guest's own.
        """
        own = self._guest.get_xml_desc(dump_migratable=True)
        rewritten = guest_xml.replace_mdevs(own, self._target_mdevs)
        if destination_xml is None:
            destination_xml = rewritten
        elif guest_xml.read_mdevs(destination_xml) != guest_xml.read_mdevs(
            rewritten
        ):
            destination_xml = guest_xml.replace_mdevs(
                destination_xml, self._target_mdevs
            )
        transport.check_secrecy(flags, self._host)
        flags, dropped = transport.drop_unsupported(flags)
        if dropped:
            self._told.left_out(dropped)
        return self._guest.migrate(
            destination,
            migrate_uri=migrate_uri,
            migrate_disks=migrate_disks,
            destination_xml=destination_xml,
            flags=flags,
            bandwidth=bandwidth,
            **others,
        )


@dataclass
class _NoJob:
    """What Nova's monitor reads of a guest that has no job any more, or yet.

    :ivar type: VIR_DOMAIN_JOB_NONE unless its end is known; Nova writes there
        what it makes of that.
    """

    type: int = 0


class MonitoredGuest(_Wrapper):
    """A guest that is neither paused nor post-copied to complete.

    :param downtime_factor: how many times longer than others it may stand
        still: its device's state is sent in that time.
    :param told: logs what is not done to it.
    :param note_abort: notes that the guest is to stay, so that it is no
        failure if it does.
    :param find_again: returns Nova's guest as a libvirt that was started
        anew knows it; waits for that.
    :param doubt: makes the error that says why it is not known where the
        guest runs.
    :param measured: somebody wants to know how much device state is sent.
    :ivar device_bytes: that, as was seen last; None if libvirt did not say.
    """

    def __init__(
        self,
        guest: Any,
        downtime_factor: float,
        told: MigrationLog,
        note_abort: Callable[[], None],
        find_again: Callable[[], Any],
        doubt: Callable[[str], Exception],
        *,
        measured: bool = False,
    ) -> None:
        super().__init__(guest)
        self._downtime_factor = downtime_factor
        self._told = told
        self._note_abort = note_abort
        self._find_again = find_again
        self._doubt = doubt
        self._measured = measured
        self.device_bytes: int | None = None
        self._thread = threading.get_ident()
        self._aborted = False
        self._unknown = False
        self._restarted = False

    def get_job_info(self) -> Any:
        """Return how far the migration is; no job while that is not known.

        When the link between the hosts is cut, or the disk is stuck, libvirt
        waits with the guest in its hands, and answers after 30 s that it
        cannot ask QEMU. Nova would take that for the end, put the guest into
        ERROR, and leave a migration that may still end well to itself. A
        monitor that hears of no job looks again as long as the call that
        migrates has not come back.

        A libvirt that was restarted is waited for, and asked by the next
        look. One that has no such guest any more has sent it.
        """
        try:
            job = self._guest.get_job_info()
        except Exception as error:
            number = libvirt_errors.number_of(error)
            if number is None:
                raise
            if not self._unknown:
                self._told.warn(
                    "not known how far it is: %(error)s", error=error
                )
            self._unknown = True
            if number not in libvirt_errors.BUSY and not self._is_found():
                return _NoJob(_COMPLETED)
            return _NoJob()
        self._unknown = False
        if self._measured:
            self._measure()
        return job

    def _is_found(self) -> bool:
        """Use a connection that works; tell whether the guest is there."""
        self._restarted = True
        try:
            self._guest = self._find_again()
        except Exception as error:
            if libvirt_errors.number_of(error) in libvirt_errors.GONE:
                return False
            raise
        return True

    def is_active(self) -> bool:
        """Tell whether the guest has stayed, once the call has come back.

        Nova takes an error for a yes, and has the destination destroy what
        may be the guest. A libvirt that is restarted just then is waited
        for. One that was restarted after all was sent, and did not hear
        whether the other half runs, leaves its own paused.

        :raises Exception: of doubt, for Nova to undo nothing.
        """
        reason = ""
        for _ in range(2):
            try:
                active = bool(self._guest.is_active())
                held = active and self._restarted and self._is_held()
            except Exception as error:
                if libvirt_errors.number_of(error) is None:
                    raise
                reason = str(error)
                if not self._is_found():
                    return False
            else:
                if held:
                    raise self._doubt("it is paused (migrating)")
                return active
        raise self._doubt(reason)

    def _is_held(self) -> bool:
        return tuple(self._guest._domain.state()) == _HELD

    def _measure(self) -> None:
        """See how much device state was sent: Nova leaves that out."""
        try:
            job = libvirt_jobs.read(self._guest._domain.jobStats())
        except Exception:  # noqa: BLE001 - no migration is hurt by it
            return
        if job is not None and job.device_transferred is not None:
            self.device_bytes = job.device_transferred

    def migrate_configure_max_downtime(self, mstime: int) -> None:
        """Limit the downtime to what Nova's step is for this guest."""
        scaled = int(mstime * self._downtime_factor)
        self._guest.migrate_configure_max_downtime(
            min(max(scaled, 1), transport.MAX_DOWNTIME_MS)
        )

    def force_complete(self) -> None:
        """Abort if the monitor's time is up; otherwise leave it as it is.

        The monitor calls from the thread that made this guest, and goes on
        calling: one abort is enough, and one that fails is tried again.
        """
        if threading.get_ident() != self._thread:
            self._told.warn(
                "not forced to complete: a guest with mdevs is neither "
                "post-copied nor migrated paused. A longer downtime lets its "
                "migration end, an abort stops it."
            )
        elif not self._aborted:
            self._told.warn("out of time: a guest with mdevs is not forced")
            try:
                self.abort_job()
            except Exception as error:  # noqa: BLE001 - the job may be over
                self._told.warn("not aborted: %(error)s", error=error)
            else:
                self._aborted = True

    def abort_job(self) -> Any:
        """Abort the migration, and remember who wanted it."""
        self._note_abort()
        return self._guest.abort_job()

    def pause(self) -> None:
        """Do not pause: the device would go on, and never converge."""
        self._told.warn(
            "not paused: a guest with mdevs is not migrated paused; raise "
            "its downtime limit or abort the migration"
        )

    def migrate_start_postcopy(self) -> None:
        """Do not start post-copy: QEMU loses the guest, or refuses."""
        self._told.warn("not post-copied: the guest has mdevs")
