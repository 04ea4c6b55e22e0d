# SPDX-License-Identifier: Apache-2.0
"""Does what Nova leaves out, or hands over, reach stock as it is?

Each method that the mixin stands in front of is called for a guest without
mdevs, with every argument in each form that it may have, by its place and by
its name; stock must be called as it would have been, and what it answers, or
raises, must come back.
"""

from __future__ import annotations

import inspect
import unittest
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import fixtures
from nova import exception as nova_exception
from nova import objects
from nova.compute import manager as compute_manager
from nova.objects import migrate_data
from nova.virt.libvirt import driver as libvirt_driver

from mdev_migrate.compute.boots import BOOTS
from tests.nova import base

#: What the driver's own methods ask each other, and no manager asks. They
#: are not in front of stock: they answer for guests with mdevs.
ASKED = {
    "_allocate_mdevs",
    "_create_new_mediated_device",
    "_get_all_assigned_mediated_devices",
    "_get_existing_mdevs_not_assigned",
    "_get_mdev_types_from_uuids",
    "instance_claimed_mdevs",
}
#: Allocations of a guest without mdevs.
ALLOCATIONS = (
    {base.IMAGE: {"resources": {"VCPU": 1}}},
    {base.IMAGE: {"resources": {}}},
    {},
    None,
)
#: Of the names that Nova's releases have for an argument, to one of them.
SAME = {
    "ctxt": "context",
    "dest_check_data": "migrate_data",
    "allocs": "allocations",
}


class _Stock:
    """What stock is called with, and what it answers to all calls."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.answer = (False, "answer")

    def stand_in(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return what stands in for a method, and has its signature."""
        signature = inspect.signature(method)

        def called(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            self.calls.append(dict(bound.arguments))
            if self.error is not None:
                raise self.error
            return None if method.__name__ == "init_host" else self.answer

        called.__signature__ = signature  # type: ignore[attr-defined]
        return called


@unittest.skipIf(base.STOCK, "there is nothing in front of stock")
class TestGuestWithoutMdevs(base.MdevComputesTestCase):
    def setUp(self):
        super().setUp()
        server = self.boot(self._create_flavor())
        instance = self.instance(server)
        self.stock = _Stock()
        #: The forms of arguments; the first is the usual one.
        self.forms: dict[str, tuple[Any, ...]] = {
            "instance": (
                instance,
                objects.Instance(uuid=server),
                SimpleNamespace(uuid=server),
                server,
            ),
            "migrate_data": (
                migrate_data.LibvirtLiveMigrateData(
                    is_shared_instance_path=True
                ),
                migrate_data.LibvirtLiveMigrateData(),
                migrate_data.VMwareLiveMigrateData(),
                {},
                None,
            ),
            "migration": (
                objects.Migration(uuid=base.IMAGE, source_compute="source"),
                objects.Migration(),
                None,
            ),
            "limits": (object(), {}, None),
            "allocations": ALLOCATIONS,
            "destroy_disks": (True, False),
        }

    def _in_front(self) -> Iterator[tuple[Any, type, str]]:
        """Return the methods in front of stock: object, class, name.

        Fixtures patch the composed class; the rest of it is in its bases.
        """
        manager, driver = self.source.manager, self.source.driver
        ours = set(BOOTS)
        for each in type(driver).__mro__[1:]:
            if each.__module__.startswith("mdev_migrate."):
                ours.update(vars(each))
        stock = libvirt_driver.LibvirtDriver
        for name in sorted(ours - ASKED):
            if not name.startswith("__") and hasattr(stock, name):
                yield driver, stock, name
        for name in sorted(vars(manager)):
            if callable(getattr(compute_manager.ComputeManager, name, None)):
                yield manager, compute_manager.ComputeManager, name

    def _arguments(
        self, method: Callable[..., Any]
    ) -> Iterator[tuple[str, list[Any]]]:
        """Return calls' arguments, and which of them is not the usual."""
        names = [
            SAME.get(parameter.name, parameter.name)
            for parameter in inspect.signature(method).parameters.values()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ][1:]
        usual = [self.forms.get(name, (object(),))[0] for name in names]
        yield "usual", usual
        for place, name in enumerate(names):
            forms = self.forms.get(name, ())
            for number, form in enumerate(forms[1:], 1):
                given = [*usual[:place], form, *usual[place + 1 :]]
                yield f"{name} {number}", given

    def _how(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return with what stock was called, and how the call ended."""
        self.stock.calls.clear()
        try:
            ended = call(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - compared with stock's
            ended = repr(error)
        return list(self.stock.calls), ended

    def _compare(self, owner: Any, stock: type, name: str) -> list[str]:
        """Call a method in all ways; return those that differ from stock."""
        method = getattr(stock, name)
        names = list(inspect.signature(method).parameters)[1:]
        wrong = []
        with fixtures.MonkeyPatch(
            f"{stock.__module__}.{stock.__name__}.{name}",
            self.stock.stand_in(method),
        ):
            for what, given in self._arguments(method):
                named = dict(zip(names, given, strict=False))
                plain = self._how(getattr(stock, name), owner, *given)
                for how, found in (
                    ("by place", self._how(getattr(owner, name), *given)),
                    ("by name", self._how(getattr(owner, name), **named)),
                ):
                    if found != plain:
                        wrong.append(f"{name}, {how}, {what}: {found[1]}")
        return wrong

    def _compare_all(self) -> None:
        found = list(self._in_front())
        wrong = [each for one in found for each in self._compare(*one)]

        self.assertEqual([], wrong)
        self.assertLessEqual(
            {"check_can_live_migrate_source", "spawn", "_post_live_migration"},
            {name for _, _, name in found},
        )

    def test_answer(self):
        """Stock answers."""
        self._compare_all()

    def test_error(self):
        """Stock fails."""
        self.stock.error = ValueError("stock cannot go on")

        self._compare_all()

    def test_libvirt_fails(self):
        """The mixin cannot ask libvirt anything."""

        def fail(host: Any) -> None:
            raise nova_exception.HypervisorUnavailable(host="source")

        self._patch("nova.virt.libvirt.host.Host.get_connection", fail)

        self._compare_all()

    def test_allocations(self):
        """There are none for a boot, or none of mdevs: it gets none."""
        driver = self.source.driver
        for allocations in ALLOCATIONS:
            self.assertEqual(
                libvirt_driver.LibvirtDriver._allocate_mdevs(
                    driver, allocations
                ),
                driver._allocate_mdevs(allocations),
            )

    def test_mdevs_of_a_guest(self):
        """It has none, when it is asked for them to be made anew."""
        for instance in self.forms["instance"][:2]:
            self.assertEqual(
                {},
                self.source.driver._get_all_assigned_mediated_devices(
                    instance
                ),
            )
