# SPDX-License-Identifier: Apache-2.0
"""What is logged of a live migration, a line for each step, on either side.

Each line names instance and migration. A failure is one line too; where it
came from is logged at DEBUG.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from oslo_log import log

LOG = log.getLogger(__name__)


def words(items: Iterable[str]) -> str:
    """Return some words in one line."""
    return ", ".join(items) or "none"


def one_line(error: BaseException) -> str:
    """Return what an error says in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _pairs(target_mdevs: Mapping[str, str]) -> str:
    return words(
        f"{source} -> {target}" for source, target in target_mdevs.items()
    )


class MigrationLog:
    """Logs the steps of one live migration.

    :param migration_uuid: of Nova's record; None if Nova does not say: the
        first checks are not told.
    """

    def __init__(
        self, instance_uuid: str, migration_uuid: str | None = None
    ) -> None:
        self._instance_uuid = instance_uuid
        self._migration = migration_uuid or "(not named yet)"

    def _say(self, level: int, text: str, **facts: Any) -> None:
        LOG.log(
            level,
            "Migration %(migration)s: %(step)s",
            {"migration": self._migration, "step": text % facts},
            instance_uuid=self._instance_uuid,
        )

    # Either side --------------------------------------------------------

    def not_known(self, detail: str) -> None:
        """Say what a check could not find out, which refuses nothing."""
        self._say(log.INFO, "not known: %(detail)s", detail=detail)

    def refused(self, reason: str) -> None:
        """Say why this host does not take part."""
        self._say(log.INFO, "refused: %(reason)s", reason=reason)

    def not_checked(self, error: BaseException) -> None:
        """Say why a check could not be made."""
        self._say(
            log.ERROR,
            "the pre-check could not be made: %(reason)s",
            reason=one_line(error),
        )
        LOG.debug("It came from here", exc_info=error)

    # Source -------------------------------------------------------------

    def begins(
        self,
        destination: str,
        target_mdevs: Mapping[str, str],
        downtime_ms: int | None,
    ) -> None:
        """Say which mdevs become which, and how long the guest may stop.

        :param downtime_ms: None if that is Nova's to know.
        """
        self._say(
            log.INFO,
            "begins, to %(destination)s; mdevs: %(pairs)s; downtime at most: "
            "%(downtime)s",
            destination=destination,
            pairs=_pairs(target_mdevs),
            downtime="Nova's" if downtime_ms is None else f"{downtime_ms} ms",
        )

    def left_out(self, ways: Sequence[str]) -> None:
        """Say what was asked for and is not for guests with mdevs."""
        self._say(
            log.INFO,
            "left out, as the guest has mdevs: %(ways)s",
            ways=words(ways),
        )

    def has_left(self) -> None:
        """Say that libvirt has moved the guest."""
        self._say(log.INFO, "the guest has left")

    def aborted(self, error: BaseException) -> None:
        """Say that the guest stayed, as somebody wanted."""
        self._say(
            log.INFO,
            "aborted, as was asked for: %(reason)s",
            reason=one_line(error),
        )

    def failed(self, error: BaseException) -> None:
        """Say why the guest has stayed."""
        self._say(log.ERROR, "failed: %(reason)s", reason=one_line(error))
        LOG.debug("It came from here", exc_info=error)

    def warn(self, text: str, **facts: Any) -> None:
        """Warn of what is not done to a guest with mdevs, though asked."""
        self._say(log.WARNING, text, **facts)

    # Destination --------------------------------------------------------

    def claimed(
        self,
        source: str,
        target_mdevs: Mapping[str, str],
        created: Iterable[str],
    ) -> None:
        """Say which mdevs wait for the guest, and which of them are new."""
        self._say(
            log.INFO,
            "claimed, for a guest from %(source)s: %(pairs)s; created for it: "
            "%(created)s",
            source=source,
            pairs=_pairs(target_mdevs),
            created=words(sorted(created)),
        )

    def prepared(self, mdev_uuids: Iterable[str]) -> None:
        """Say that the guest may come."""
        self._say(
            log.INFO,
            "prepared: %(mdevs)s",
            mdevs=words(sorted(mdev_uuids)),
        )

    def released(self, mdev_uuids: Iterable[str]) -> None:
        """Say that the guest has come and its claim has ended."""
        self._say(
            log.INFO,
            "the guest has its mdevs, no longer claimed: %(mdevs)s",
            mdevs=words(sorted(mdev_uuids)),
        )

    def undone(
        self,
        removed: Iterable[str],
        recycled: Iterable[str],
        left: Iterable[str],
    ) -> None:
        """Say what became of the mdevs of a guest that did not come.

        :param left: what the guest never was sent to, or others have.
        """
        self._say(
            log.INFO,
            "undone; mdevs removed: %(removed)s; recycled: %(recycled)s; left "
            "as they are: %(left)s",
            removed=words(sorted(removed)),
            recycled=words(sorted(recycled)),
            left=words(sorted(left)),
        )
