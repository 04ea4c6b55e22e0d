# SPDX-License-Identifier: Apache-2.0
"""How Sphinx makes the documentation."""

import pathlib
import sys

import mdev_migrate

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "mdev-migrate"
author = "the mdev-migrate developers"
copyright = author  # noqa: A001 - Sphinx's name
version = release = mdev_migrate.__version__

extensions = [
    "sphinx.ext.autodoc",
    "claim_tables",
    "command_help",
    "downtime_chart",
    "error_table",
    "pictures",
    "release_notes",
    "results_table",
    "upstream_table",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"{project} {version}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_theme_options = {"top_of_page_buttons": []}
html_show_sphinx = False
html_copy_source = False
pygments_style = "default"
pygments_dark_style = "github-dark"

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True

#: The page of the command is its man page, too.
man_pages = [("command", project, mdev_migrate.__doc__.rstrip("."), author, 1)]
man_show_urls = False
#: Or the page would differ from day to day.
today = " "
