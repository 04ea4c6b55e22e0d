# SPDX-License-Identifier: Apache-2.0
"""How Sphinx makes the documentation."""

import configparser
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

_setup = configparser.ConfigParser()
_setup.read(HERE.parent / "setup.cfg")

project = "mdev-migrate"
author = "the mdev-migrate developers"
copyright = author  # noqa: A001 - Sphinx's name
version = release = _setup["metadata"]["version"]

extensions = ["sphinx.ext.autodoc", "error_table"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {
    "description": _setup["metadata"]["summary"],
    "fixed_sidebar": True,
    "page_width": "1100px",
}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True
