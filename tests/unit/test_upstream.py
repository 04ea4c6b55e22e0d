# SPDX-License-Identifier: Apache-2.0
"""Is it seen what becomes of Nova's own tests with the mixin?"""

import json

import pytest

from tests.upstream import __main__ as upstream
from tests.upstream import outcomes

SUITE = outcomes.SUITES[0]
ONE, OTHER = (f"nova.tests.{SUITE}.{name}" for name in ("One", "Other"))
RELEASE = "34.0.0"
SUITES = {
    suite: [ONE, OTHER] if suite == SUITE else [] for suite in outcomes.SUITES
}


def ended(**statuses):
    """Return how the two tests ended."""
    ids = {"one": ONE, "other": OTHER}
    return {ids[name]: {"status": how} for name, how in statuses.items()}


@pytest.fixture(autouse=True)
def _kept(tmp_path, monkeypatch):
    """Keep what is recorded in a folder of the test."""
    monkeypatch.setattr(outcomes, "KEPT", tmp_path / "releases")


class TestJudge:
    """What differs and what is listed must be the same."""

    STOCK = ended(one="passed", other="failed")

    def test_alike(self):
        """What stock fails too is Nova's."""
        assert upstream.judge(self.STOCK, self.STOCK, []) == []

    @pytest.mark.parametrize("how", ["failed", "skipped", "died"])
    def test_differs(self, how):
        """It fails, is skipped, or ends the process: that is told."""
        ours = ended(one=how, other="failed")

        assert upstream.judge(ours, self.STOCK, []) == [ONE]

    def test_differs_for_the_better(self):
        """What stock fails and ours passes is looked at, too."""
        ours = ended(one="passed", other="passed")

        assert upstream.judge(ours, self.STOCK, []) == [OTHER]

    def test_listed(self):
        """What differs on purpose is no error."""
        ours = ended(one="failed", other="failed")

        assert upstream.judge(ours, self.STOCK, [ONE]) == []

    def test_listed_and_alike(self):
        """An entry that does not differ any more is one."""
        assert upstream.judge(self.STOCK, self.STOCK, [ONE]) == [ONE]


class TestList:
    """``differences.ini``."""

    def test_reason(self):
        """Each entry has one, in a line."""
        listed = upstream.expected(RELEASE)

        assert listed
        assert all(listed.values())
        assert all(test.startswith("nova.tests.") for test in listed)

    def test_releases(self):
        """An entry is for the releases that it names."""
        older, newer = map(upstream.expected, ("28.3.1", "29.4.0"))

        assert older
        assert older.keys().isdisjoint(newer)


class TestKept:
    """What is recorded of a run."""

    def test_stock_is_not_run_again(self, tmp_path):
        """How stock ended is known the next time."""
        stock = ended(one="passed", other="skipped")
        outcomes.record(RELEASE, SUITES, stock, stock)

        found = outcomes.kept_stock(RELEASE, [ONE, OTHER], tmp_path / "last")

        assert found == stock

    def test_other_versions(self, tmp_path):
        """What was run with other packages does not count."""
        stock = ended(one="passed", other="passed")
        outcomes.record(RELEASE, SUITES, stock, stock)
        (path,) = outcomes.KEPT.iterdir()
        path.write_text(json.dumps({"made_for": "others"}))

        found = outcomes.kept_stock(RELEASE, [ONE, OTHER], tmp_path / "last")

        assert found is None

    def test_counts(self):
        """How many of each suite ended how, and how many of them differ."""
        outcomes.record(
            RELEASE,
            SUITES,
            ended(one="passed", other="passed"),
            ended(one="passed", other="failed"),
        )
        (path,) = outcomes.KEPT.iterdir()
        found = json.loads(path.read_text())

        assert found["stock"][SUITE] == {"passed": 2}
        assert found["mixin"][SUITE] == {"passed": 1, "failed": 1}
        assert found["differing"][SUITE] == {"failed": 1}


class TestChosen:
    """What is run of a release."""

    def test_all(self):
        """Nothing is left out that is not left out on purpose."""
        assert upstream.chosen([]) == outcomes.SUITES

    def test_some(self):
        """A word names the suites that begin with it."""
        found = upstream.chosen(["unit.objects", "functional.compute"])

        assert found == (
            "unit.objects.test_migrate_data",
            "functional.compute.test_live_migration",
        )
