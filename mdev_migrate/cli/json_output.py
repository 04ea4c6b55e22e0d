# SPDX-License-Identifier: Apache-2.0
"""What the answers to programs have in common, as what ``json`` writes.

``docs/command.rst`` promises these keys to scripts: none may go, or change
what it means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdev_migrate import exception, model
    from mdev_migrate.core.phases import Step

#: A JSON object.
Answer = dict[str, Any]


def error(
    problem: exception.MdevMigrateError | None, step: Step | None
) -> Answer | None:
    """Return an error of the library; null if there is none."""
    if problem is None:
        return None
    where = step.value if step else None
    return _error(problem.code, where, str(problem), problem.hint)


def _error(code: str, step: str | None, message: str, hint: str) -> Answer:
    return {
        "code": code,
        "step": step,
        "message": message,
        "hint": hint or None,
    }


def usage(message: str, hint: str) -> Answer:
    """Return what is wrong with a call."""
    return {"error": _error("usage", None, message, hint)}


def not_installed(message: str, hint: str) -> Answer:
    """Return that something the command needs is not installed."""
    return {"error": _error("not-installed", None, message, hint)}


def internal_error(message: str, hint: str) -> Answer:
    """Return that the command itself is wrong."""
    return {"error": _error("internal-error", None, message, hint)}


def mdev(found: model.Mdev) -> Answer:
    """Return an mdev."""
    return {
        "uuid": found.uuid,
        "type": found.mdev_type,
        "parent": found.parent,
    }
