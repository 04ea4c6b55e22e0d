# SPDX-License-Identifier: Apache-2.0
"""The commands that a page of the documentation tells its readers to say."""

import pathlib
import re
import shlex

DOCS = pathlib.Path(__file__).parents[1] / "docs"
_PROMPT = re.compile(r"^ +# (mdev-migrate .*)$", re.MULTILINE)
_BROKEN_LINE = re.compile(r" *\\\n +")


def commands(page: str, title: str) -> list[list[str]]:
    """Return the words of each command of a section, without our name.

    :param page: the file's name, as in ``operators.rst``.
    """
    text = (DOCS / page).read_text(encoding="utf-8")
    begin = text.index(f"\n{title}\n=")
    end = text.find("\n====", text.index("\n", begin + len(title) + 3))
    section = _BROKEN_LINE.sub(" ", text[begin:end])
    return [shlex.split(line)[1:] for line in _PROMPT.findall(section)]
