# SPDX-License-Identifier: Apache-2.0
"""What Placement allocates from, and what Nova gives for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mdev_migrate import exception, model
from mdev_migrate.core import nodedev_xml


class Providers:
    """The resource providers of a compute node's parents.

    :param driver: the LibvirtDriver.
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    @property
    def _name(self) -> str:
        return str(self._driver.mdev_compute_host)

    @property
    def enabled_types(self) -> Sequence[str]:
        """The mdev types that are enabled on this host."""
        types: Sequence[str] = self._driver.supported_vgpu_types
        return types

    def asked(self, allocations: Any) -> Mapping[str, Any]:
        """Return what of some allocations is mdevs, by provider."""
        found: Mapping[str, Any] = self._driver._vgpu_allocations(allocations)
        return found

    def parent_of_provider(self, provider: str) -> str:
        """Return the parent whose inventory a resource provider has.

        Nova names the provider after its root and the parent.

        :raises ProviderUnknown: if there is none of that UUID, or name.
        """
        tree = self._driver.provider_tree
        try:
            name = str(tree.data(provider).name)
        except ValueError:
            raise exception.ProviderUnknown(self._name, provider) from None
        for root in tree.roots:
            if name.startswith(f"{root.name}_"):
                return name[len(root.name) + 1 :]
        raise exception.ProviderUnknown(self._name, name)

    def parent_of(self, request: dict[str, Any]) -> str:
        """Return the parent of an allocation from one provider."""
        (provider,) = request
        return self.parent_of_provider(provider)

    def type_of_provider(self, provider: str) -> str:
        """Return the mdev type that a provider's parent is set up for.

        :raises ProviderUnknown: if it is for none.
        """
        parent = self.parent_of_provider(provider)
        mdev_type = self._driver._get_vgpu_type_per_pgpu(parent)
        if not mdev_type:
            raise exception.ProviderUnknown(self._name, parent)
        return str(mdev_type)

    def _read(self, parent: str) -> model.Parent:
        """Return a parent with the room that it has now."""
        connection = self._driver._host.get_connection()
        device = connection.nodeDeviceLookupByName(parent)
        return nodedev_xml.read_parent(device.XMLDesc(0))

    @contextlib.contextmanager
    def explaining_shortage(
        self, needed: tuple[str, ...], had: Callable[[str], int], parent: str
    ) -> Iterator[None]:
        """Say how much there was, where Nova says that there is no more.

        Its error is not told by its class, which is Nova's, but by whether
        the parent has room.

        :param needed: the mdev types of all that is asked for.
        :param had: returns how many of a parent there are already.
        :raises TooFewMdevs: if that is why an error came.
        """
        try:
            yield
        except exception.MdevMigrateError:
            raise
        except Exception as error:
            mdev_type = str(self._driver._get_vgpu_type_per_pgpu(parent))
            offering = self._read(parent)
            offer = offering.offer(mdev_type)
            if offer is not None and offer.available_instances:
                raise
            raise exception.TooFewMdevs(
                self._name,
                needed,
                f"{had(parent)} of {mdev_type} on {parent}",
                tuple(each.reason for each in offering.unreadable),
            ) from error

    def allocate(self, allocations: Any) -> Any:
        """Let Nova choose mdevs; its lock, if needed, is held already.

        What Nova's decorator wraps is called: its lock cannot be taken
        twice.
        """
        method = self._driver._stock_allocate_mdevs()
        stock = getattr(method, "__wrapped__", method)
        return stock(self._driver, allocations)
