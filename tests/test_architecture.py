# SPDX-License-Identifier: Apache-2.0
"""Is the house as its plan says?

The floors and who may import what are contracts in pyproject.toml.
"""

import ast
import os
import pathlib
import stat
import subprocess
import sys

import pytest

TOP = pathlib.Path(__file__).parents[1]
PACKAGE = sorted(TOP.glob("mdev_migrate/**/*.py"))
TESTS = sorted(TOP.glob("tests/**/*.py"))
PYTHON = [path for path in [*PACKAGE, *TESTS] if path.stat().st_size]
SCRIPTS = [
    path
    for path in [*sorted(TOP.glob("tools/*")), TOP / ".ci" / "run"]
    if path.is_file() and path.suffix == ""
]
SPDX = "# SPDX-License-Identifier: Apache-2.0"
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "log"}


def _name(path):
    return str(path.relative_to(TOP))


def _calls_of_log(tree):
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in LOG_METHODS
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "LOG"
        ):
            yield node


def test_imports_go_down_a_floor():
    """No contract on who may import what is broken."""
    code = "from importlinter.cli import lint_imports_command as run; run()"

    done = subprocess.run(  # noqa: S603 - a command of our own
        [sys.executable, "-c", code, "--no-cache"],
        cwd=TOP,
        env=os.environ | {"PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [*PYTHON, *SCRIPTS], ids=_name)
def test_file_names_its_licence(path):
    """The licence stands in one of the first two lines."""
    lines = path.read_text(encoding="utf-8").splitlines()

    assert SPDX in lines[:2]


@pytest.mark.parametrize("path", SCRIPTS, ids=_name)
def test_script_can_be_executed(path):
    """A script has a first line that starts it, and the right to run."""
    assert path.read_text(encoding="utf-8").startswith("#!")
    assert path.stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize("path", PYTHON, ids=_name)
def test_module_says_what_it_is_for(path):
    """A module has a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))

    assert ast.get_docstring(tree)


@pytest.mark.parametrize("path", PACKAGE, ids=_name)
def test_log_texts_are_constant(path):
    """A log line is a constant text with named fields, never put together."""
    tree = ast.parse(path.read_text(encoding="utf-8"))

    for call in _calls_of_log(tree):
        # The level comes first where it is an argument.
        text = call.args[1 if call.func.attr == "log" else 0]
        assert isinstance(text, ast.Constant), ast.unparse(call)
