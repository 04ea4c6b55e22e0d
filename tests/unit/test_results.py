# SPDX-License-Identifier: Apache-2.0
"""Is what was tested written down as it was?"""

import json
import pathlib
import subprocess
import sys

import pytest

from tests import results

TOP = pathlib.Path(__file__).parents[2]
KEYS = {
    "what",
    "versions",
    "date",
    "commit",
    "passed",
    "failed",
    "skipped",
    "seconds",
}


def test_result_is_written(tmp_path, monkeypatch):
    """A result has its versions in its name and all facts in it."""
    monkeypatch.setenv(results.VARIABLE, str(tmp_path))

    path = results.write(
        "nova", {"python": "3.11.7", "nova": "28.3.1"}, results.Counts(58), 9
    )

    assert path == tmp_path / "nova_nova-28.3.1_python-3.11.7.json"
    assert json.loads(path.read_text()).keys() == KEYS


def test_nothing_is_written_unasked(tmp_path, monkeypatch):
    """Without a folder there is no result."""
    monkeypatch.delenv(results.VARIABLE, raising=False)

    assert results.write("nova", {}, results.Counts(), 9) is None


@pytest.mark.parametrize(
    ("more", "written"),
    [((), 1), (("-k", "one"), 0), (("tests/test_x.py",), 0)],
)
def test_only_the_whole_is_written(tmp_path, more, written):
    """A run of chosen tests says nothing about the suite."""
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_x.py").write_text(
        "import pytest\n"
        "def test_one(): pass\n"
        "def test_two(): pytest.skip('no')\n"
        "def test_three(): assert False\n"
    )
    (tmp_path / "conftest.py").write_text(
        "from tests import results\n"
        f"results.TOP = results.pathlib.Path({str(tmp_path)!r})\n"
        "def pytest_configure(config):\n"
        "    config.pluginmanager.register(results.Recorder())\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]

    subprocess.run(  # noqa: S603 - pytest on a file of our own
        [*command, "--rootdir", str(tmp_path), *(more or ["tests"])],
        cwd=tmp_path,
        env={"PYTHONPATH": str(TOP), results.VARIABLE: str(tmp_path)},
        check=False,
        capture_output=True,
    )

    found = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert len(found) == written
    for each in found:
        assert each["what"] == "simulated"
        assert (each["passed"], each["failed"], each["skipped"]) == (1, 1, 1)


def test_kept_results_are_whole():
    """Each file in docs/results has the facts that the table shows."""
    for path in (TOP / "docs" / "results").glob("*.json"):
        assert json.loads(path.read_text()).keys() == KEYS, path
