# SPDX-License-Identifier: Apache-2.0
"""Wrap methods of one of Nova's objects: no class of Nova's is touched."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Wrap a method on an object.

    :param around: is called with the stock method and its arguments.
    """
    earlier = vars(owner).get(name)

    @functools.wraps(getattr(owner, name))
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return around(earlier or _bound(owner, name), *args, **kwargs)

    setattr(owner, name, wrapped)


def _bound(owner: Any, name: str) -> Any:
    """Return a method of an object's class as the class has it now."""
    found = getattr(type(owner), name)
    bind = getattr(type(found), "__get__", None)
    return found if bind is None else bind(found, owner, type(owner))
