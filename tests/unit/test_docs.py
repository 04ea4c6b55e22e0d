# SPDX-License-Identifier: Apache-2.0
"""Are the examples of the documentation true?

Those of docs/simulated-hosts.rst are run by test_testing_docs.py.
"""

import doctest
import pathlib

import pytest

from mdev_migrate import exception

DOCS = pathlib.Path(__file__).parents[2] / "docs"
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
PAGES = [
    path
    for path in sorted(DOCS.glob("**/*.rst"))
    if "\n>>> " in path.read_text(encoding="utf-8")
    and path.name != "simulated-hosts.rst"
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_are_true(page):
    """Every example of a page gives what the page says."""
    results = doctest.testfile(
        str(page), module_relative=False, optionflags=OPTIONS
    )

    assert results.attempted > 0
    assert results.failed == 0


def test_every_error_is_described():
    """The page of errors has a table for every kind of error."""
    page = (DOCS / "errors.rst").read_text(encoding="utf-8")

    for kind in exception.MdevMigrateError.__subclasses__():
        assert f".. error-table:: {kind.__name__}\n" in page
