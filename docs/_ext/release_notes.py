# SPDX-License-Identifier: Apache-2.0
"""A directive that shows the release notes, with or without the history.

``.. changes::`` lists the notes of ``releasenotes/`` by version, newest
first. reno reads from the history which version each belongs to. Where that
cannot be told, as in a source archive, a shallow clone, or before the first
release has a tag, all notes are those of what is not released yet.
"""

from __future__ import annotations

import pathlib
from typing import Any

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from dulwich.errors import NotGitRepository
from reno import config, formatter, loader
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles

TOP = pathlib.Path(__file__).parents[2]
#: What reno calls a history without a tag.
_NO_TAG = "0.0.0"


class _Files:
    """The notes as they lie in the tree, for reno's formatter."""

    #: A dash tells the formatter that this is no release.
    versions = ("not-released",)

    def __init__(self, conf: config.Config) -> None:
        self._folder = TOP / conf.notespath

    def __getitem__(self, version: str) -> list[tuple[str, None]]:
        paths = sorted(self._folder.glob("*.yaml"))
        return [(str(path.relative_to(TOP)), None) for path in paths]

    def parse_note_file(self, filename: str, _sha: None) -> dict[str, Any]:
        """Return what a note says, by section."""
        text = (TOP / filename).read_text(encoding="utf-8")
        note: dict[str, Any] = yaml.safe_load(text)
        return note


def _notes(conf: config.Config) -> loader.Loader | _Files:
    """Return the notes by version, as far as that can be told."""
    try:
        notes = loader.Loader(conf)
    except (NotGitRepository, KeyError, OSError):
        return _Files(conf)
    return notes if set(notes.versions) - {_NO_TAG} else _Files(conf)


class Changes(SphinxDirective):
    """All release notes."""

    def run(self) -> list[nodes.Node]:
        """Return them as sections, one a version."""
        conf = config.Config(str(TOP))
        notes = _notes(conf)
        text = formatter.format_report(
            notes, conf, notes.versions, show_source=False
        )
        for path in (TOP / conf.notespath).glob("*.yaml"):
            self.env.note_dependency(str(path))
        node = nodes.section()
        node.document = self.state.document
        lines = StringList(text.splitlines(), "release notes")
        nested_parse_with_titles(self.state, lines, node)
        return node.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("changes", Changes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
