# SPDX-License-Identifier: Apache-2.0
"""A directive that lists every error of the package, from its code.

``.. error-table:: PreCheckError`` makes a definition list of that class's
subclasses which have a code: the code, what it means, and what to do. Each
is a target by its code, as ``:ref:`guest-lost```, and stands in the index,
where the pages' search finds it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from mdev_migrate import exception


def _below(parent: type) -> Iterator[type[exception.MdevMigrateError]]:
    """Return a class and all below it, each of which has its own code."""
    if "code" in vars(parent) and parent is not exception.MdevMigrateError:
        yield parent
    for child in parent.__subclasses__():
        yield from _below(child)


def _plain(text: str) -> str:
    """Return a text in which no character is markup."""
    return re.sub(r"([*`|_\\])", r"\\\1", text)


def _lines(error: type[exception.MdevMigrateError]) -> Iterator[str]:
    meaning = inspect.getdoc(error) or ""
    yield ".. index::"
    yield f"   ! single: {error.code}"
    yield f"   ! single: error code; {error.code}"
    yield ""
    yield f".. _{error.code}:"
    yield ""
    yield f"``{error.code}``"
    yield f"    {meaning.splitlines()[0]}"
    yield ""
    hint = _plain(error.hint)
    yield f"    *What to do:* {hint}{'' if hint.endswith('?') else '.'}"
    yield ""


class ErrorTable(SphinxDirective):
    """The errors below one class, with what they mean and what to do."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the list as nodes."""
        parent = getattr(exception, self.arguments[0])
        lines = StringList()
        for error in sorted(_below(parent), key=lambda each: each.code):
            for line in _lines(error):
                lines.append(line, f"exception.{error.__name__}")
        node = nodes.section()
        node.document = self.state.document
        self.state.nested_parse(lines, self.content_offset, node)
        self.env.note_dependency(inspect.getsourcefile(exception) or "")
        return node.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("error-table", ErrorTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
