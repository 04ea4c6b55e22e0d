# SPDX-License-Identifier: Apache-2.0
"""How does each attempt to move a guest begin and end, running or off?"""

from __future__ import annotations

import abc
import os
import socket
import time

from mdev_migrate import exception, model
from mdev_migrate.core import precheck
from mdev_migrate.host import Host
from mdev_migrate.model import Step
from mdev_migrate.workflow.check import GuestCheck
from mdev_migrate.workflow.provide import Provider
from mdev_migrate.workflow.recovery import Recovery
from mdev_migrate.workflow.values import (
    Destination,
    Observer,
    Options,
    Outcome,
    Report,
    Silent,
    mint,
)


def owner_name(program: str = "mdev-migrate") -> str:
    """Return the words by which claims name their owner: this process."""
    return f"{program} (process {os.getpid()}, {socket.gethostname()})"


class Attempt(abc.ABC):
    """An attempt to move one guest from one host to another.

    :param guest: its name, UUID or number.
    :param owner: names who moves it, for people who look at the claims.
    :param began: when connecting began, by the monotonic clock: from then on
        time is counted. None for now.
    """

    def __init__(  # noqa: PLR0913 - collaborators by name
        self,
        source: Host,
        destination: Destination,
        guest: str,
        options: Options,
        *,
        observer: Observer | None = None,
        owner: str | None = None,
        began: float | None = None,
    ) -> None:
        self._source = source
        self._destination = destination
        self._there = destination.host
        self._options = options
        self._check = GuestCheck(source, destination, guest, options)
        self._observer = observer or Silent()
        self._owner = owner or owner_name()
        self._began = began
        self._outcome = Outcome(guest)
        self._entered = time.monotonic()

    def run(self) -> Outcome:
        """Move the guest, or leave it and both hosts as they were.

        :returns: how it ended; errors of this package are in it.
        """
        outcome = self._outcome
        started = time.monotonic()
        if self._began is not None:
            outcome.timings[Step.CONNECT] = started - self._began
            started = self._began
        try:
            self._run()
        except exception.MdevMigrateError as error:
            outcome.error = error
            refused = isinstance(error, exception.PreCheckError)
            outcome.result = "refused" if refused else "failed"
        else:
            outcome.result = "migrated"
        finally:
            self._leave_step()
            outcome.seconds = time.monotonic() - started
        return outcome

    @abc.abstractmethod
    def _run(self) -> None:
        """Move the guest.

        :raises MdevMigrateError: if it cannot be moved.
        """

    def _enter(self, step: Step, detail: str = "") -> None:
        self._leave_step()
        self._outcome.step = step
        self._observer.step(step, detail)

    def _leave_step(self) -> None:
        now = time.monotonic()
        step, timings = self._outcome.step, self._outcome.timings
        if step is not None:
            timings[step] = timings.get(step, 0.0) + now - self._entered
        self._entered = now

    def _warn(self, text: str) -> None:
        self._outcome.warnings.append(text)
        self._observer.warn(text)

    def _checked(self) -> Report:
        """Make every pre-check; settle what an earlier attempt left."""
        self._enter(Step.CHECK)
        report = self._check.check()
        guest = report.guest
        self._outcome.guest = guest.name
        self._outcome.instance_uuid = guest.instance_uuid
        self._outcome.kernels_unknown = report.kernels_unknown
        if report.earlier:
            recovery = Recovery(self._destination, [self._source])
            for recovered in recovery.run(guest.instance_uuid):
                self._warn(recovered.text)
            report = self._check.check()
        precheck.refuse(report.checks)
        for text in report.warnings():
            self._warn(text)
        self._enter(Step.PLAN)
        return report

    def _claim_for(self, report: Report) -> model.Claim:
        """Return the claim to make for the guest, without targets."""
        return model.Claim(
            instance_uuid=report.guest.instance_uuid,
            token=mint(),
            targets=(),
            owner=self._owner,
            guest=report.guest.name,
            source=report.source,
            source_uuid=report.source_uuid,
        )

    def _provider(self, report: Report, who: model.Claim) -> Provider:
        return Provider(
            self._destination,
            who,
            report.wanted,
            report.form,
            entering=self._enter,
            warn=self._warn,
            seen=report.there,
        )

    def _target(self, report: Report, targets: dict[str, str]) -> None:
        """Note what the guest's mdevs become, and of which types."""
        self._outcome.target_mdevs = targets
        for want in report.wanted:
            for mdev in (want.source_uuid, targets[want.source_uuid]):
                self._outcome.mdev_types[mdev] = want.mdev_type
