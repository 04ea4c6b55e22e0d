# SPDX-License-Identifier: Apache-2.0
"""Count the calls that a migration makes to each host's fake libvirt."""

from __future__ import annotations

import collections
import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import fixtures
from nova.tests.fixtures import libvirt as fakelibvirt
from oslo_concurrency import lockutils

from tests.nova import fake_host
from tests.upstream import fake_claims

#: Not a call to a daemon: what the binding, or Nova's fake, knows itself.
#: Looks at a job that is under way are as many as it lasts long.
_LOCAL = {
    "name",
    "parent",
    "UUIDString",
    "ID",
    "complete_job",
    "fail_job",
    "registerCloseCallback",
    "domainEventRegisterAny",
    "address",
    "generate_xml",
    "format_vpd_cap",
    "follow",
    "verify_hostdevs_interface_are_vfs",
    "jobStats",
}
#: The hooks that a migration is made of, in their order.
HOOKS = (
    "check_can_live_migrate_destination",
    "check_can_live_migrate_source",
    "check_source_migrate_data_at_dest",
    "cleanup_live_migration_destination_check",
    "pre_live_migration",
    "_live_migration_operation",
    "post_live_migration",
    "post_live_migration_at_source",
    "post_live_migration_at_destination",
)


def _calls_of(kind: type) -> list[str]:
    return [
        name
        for name, value in vars(kind).items()
        if callable(value) and not name.startswith("_") and name not in _LOCAL
    ]


class CallCounter(fixtures.Fixture):
    """Counts calls by hook, of one migration at a time.

    Nova may make a call in another thread than the hook's.

    :ivar by_hook: how many calls each hook made.
    :ivar guests_under_lock: how many guests' documents were read while
        Nova's lock for mdevs was held.
    """

    def __init__(self, lock_name: str) -> None:
        super().__init__()
        self._lock_name = lock_name
        self._here = threading.local()
        self._hook: str | None = None
        self._locked = 0
        self.reset()

    def reset(self) -> None:
        """Forget what was counted."""
        self.by_hook: collections.Counter[str] = collections.Counter()
        self.names: dict[str, collections.Counter[str]] = {}
        self.guests_under_lock = 0

    def _setUp(self) -> None:  # noqa: N802 - the base class's
        kinds = (
            fakelibvirt.Connection,
            fakelibvirt.Domain,
            fake_claims.ClaimDomain,
            fake_host.NodeMdev,
            fake_host._Parent,
        )
        for kind in kinds:
            for name in _calls_of(kind):
                self._patch(kind, name, self._counted)
        lock = lockutils.lock

        @contextlib.contextmanager
        def noted_lock(name: str, *args: Any, **kwargs: Any) -> Iterator[Any]:
            with lock(name, *args, **kwargs) as held:
                ours = int(name == self._lock_name)
                self._locked += ours
                try:
                    yield held
                finally:
                    self._locked -= ours

        self.useFixture(
            fixtures.MonkeyPatch("oslo_concurrency.lockutils.lock", noted_lock)
        )

    def _patch(
        self, kind: type, name: str, around: Callable[..., Any]
    ) -> None:
        stock = getattr(kind, name)
        place = f"{kind.__module__}.{kind.__qualname__}.{name}"
        self.useFixture(fixtures.MonkeyPatch(place, around(kind, name, stock)))

    def _counted(
        self, kind: type, name: str, stock: Callable[..., Any]
    ) -> Callable[..., Any]:
        @functools.wraps(stock)
        def call(*args: Any, **kwargs: Any) -> Any:
            hook = self._hook
            if getattr(self._here, "calling", False):
                return stock(*args, **kwargs)
            self._here.calling = True
            reads = kind is fakelibvirt.Domain and name == "XMLDesc"
            self.guests_under_lock += bool(reads and self._locked)
            if hook is not None:
                self.by_hook[hook] += 1
                names = self.names.setdefault(hook, collections.Counter())
                names[f"{kind.__name__}.{name}"] += 1
            try:
                return stock(*args, **kwargs)
            finally:
                self._here.calling = False

        return call

    def watch(self, driver: Any) -> None:
        """Count the calls of a driver's hooks."""
        for name in HOOKS:
            stock = getattr(driver, name, None)
            if stock is not None:
                setattr(driver, name, self._in_hook(name, stock))

    def _in_hook(
        self, name: str, stock: Callable[..., Any]
    ) -> Callable[..., Any]:
        @functools.wraps(stock)
        def hook(*args: Any, **kwargs: Any) -> Any:
            outer, self._hook = self._hook, name
            try:
                return stock(*args, **kwargs)
            finally:
                self._hook = outer

        return hook
