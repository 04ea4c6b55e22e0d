# SPDX-License-Identifier: Apache-2.0
"""Let sphinx-click say once what all commands have in common.

Its directive writes the reference from the command itself. Options that the
group has too are left out of each command's list, and so are texts at the
end of the help, for which the page has sections of its own. The page is the
man page, too, where links to other pages are plain words.
"""

from __future__ import annotations

import re

import click
from docutils import nodes
from sphinx.application import Sphinx

_OPTION = re.compile(r"\.\. option:: (?P<names>.*)")


def _names(command: click.Command) -> set[str]:
    return {name for option in command.params for name in option.opts}


def _drop_shared(
    _app: Sphinx, context: click.Context, lines: list[str]
) -> None:
    """Leave out the options that stand before a command's name, too."""
    if context.parent is None:
        return
    shared = _names(context.parent.command)
    kept: list[str] = []
    keep = True
    for line in lines:
        if begins := _OPTION.match(line):
            named = set(re.findall(r"-[-\w]+", begins["names"]))
            keep = not named & shared
        if keep:
            kept.append(line)
    lines[:] = kept


def _drop(_app: Sphinx, _context: click.Context, lines: list[str]) -> None:
    lines.clear()


def _unlink(app: Sphinx, page: nodes.document, _name: str) -> None:
    """Leave the words of a link where there is no place to go to."""
    if app.builder.name == "man":
        for link in list(page.findall(nodes.reference)):
            if link.get("internal"):
                link.replace_self(link.children)


def setup(app: Sphinx) -> dict[str, bool]:
    """Listen to sphinx-click."""
    app.setup_extension("sphinx_click")
    app.connect("sphinx-click-process-options", _drop_shared)
    app.connect("sphinx-click-process-arguments", _drop)
    app.connect("sphinx-click-process-epilog", _drop)
    app.connect("doctree-resolved", _unlink)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
