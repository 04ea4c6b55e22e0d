# SPDX-License-Identifier: Apache-2.0
"""How does a card look that no mdevs can be cut from?"""

from collections.abc import Sequence

from lxml import etree

from mdev_migrate.testing import markup
from mdev_migrate.testing.parents import Parent


class IdleCard(Parent):
    """A graphics card without mdev types.

    :param driver: the one that it is bound to; empty for none.
    :param functions: how many virtual functions it could have, none of which
        it has; 0 for a card that cannot.
    """

    def __init__(self, name: str, driver: str = "", functions: int = 0):
        super().__init__(name, ())
        self._driver = driver
        self._functions = functions

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What ``virNodeDeviceListCaps`` answers."""
        return ("pci",)

    def available(
        self,
        mdev_type: str,  # noqa: ARG002 - of none
        existing: Sequence[str],  # noqa: ARG002
    ) -> int:
        """Return that there is no room."""
        return 0

    def document(
        self,
        existing: Sequence[str],  # noqa: ARG002 - there are none
    ) -> str:
        """Write the card's document as libvirt does."""
        root = etree.Element("device")
        markup.add_child(root, "name", self.name)
        markup.add_child(root, "path", self.path)
        markup.add_child(root, "parent", "computer")
        if self._driver:
            driver = markup.add_child(root, "driver")
            markup.add_child(driver, "name", self._driver)
        pci = self._add_capability(root)
        if self._functions:
            markup.add_child(
                pci,
                "capability",
                type="virt_functions",
                maxCount=str(self._functions),
            )
        return markup.write(root)
