# SPDX-License-Identifier: Apache-2.0
"""Are the examples of the simulated hosts true?"""

import doctest
import pathlib

import pytest

from mdev_migrate.testing import errors, faults, group

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "simulated-hosts.rst"
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


def test_the_page_is_true():
    """Every example of the page gives what the page says."""
    results = doctest.testfile(
        str(PAGE), module_relative=False, optionflags=OPTIONS
    )

    assert results.attempted > 20
    assert results.failed == 0


@pytest.mark.parametrize("module", [errors, faults, group])
def test_the_docstrings_are_true(module):
    """Every example of a module gives what it says."""
    results = doctest.testmod(module)

    assert results.attempted > 0
    assert results.failed == 0
