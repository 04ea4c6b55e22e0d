# SPDX-License-Identifier: Apache-2.0
"""How each scenario ended last, on each release: kept, and shown as a table.

A failed scenario stays in the table until it has passed.
"""

import csv
import datetime
import io
import json
from collections.abc import Mapping
from typing import TypedDict

from labhost.state import write_whole

from cloudlab.layout import RELEASES, WorkFolder

#: The file of scenarios in which Nova runs as it is.
_STOCK = "test_stock"
_NOT_RUN = "not run"
_NOT_THERE = "not on this release"


class Ending(TypedDict):
    """How a scenario ended.

    The date is YYYY-MM-DD.
    """

    result: str
    seconds: int
    date: str


#: By the scenario's name, by release.
Endings = dict[str, dict[str, Ending]]


def read(work: WorkFolder) -> Endings:
    """Return what was written down so far."""
    try:
        found: Endings = json.loads(work.results.read_text())
    except FileNotFoundError:
        return {}
    return found


def note(
    work: WorkFolder, release: str, node: str, result: str, seconds: float
) -> None:
    """Write down how a scenario ended, in the place of its last time.

    :param node: what pytest calls it.
    """
    found = read(work)
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    found.setdefault(_name(node), {})[release] = {
        "result": result,
        "seconds": round(seconds),
        "date": today,
    }
    write_whole(work.results, json.dumps(found, indent=2) + "\n")


def table(found: Mapping[str, Mapping[str, Ending]]) -> str:
    """Return scenarios by releases, as CSV that the documentation includes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["Scenario", "Nova with", *RELEASES])
    for name, endings in sorted(found.items()):
        stock = name.startswith(f"{_STOCK}: ") or "[stock" in name
        kind = "nothing" if stock else "the mixin"
        words = name.removeprefix("test_").replace("_", " ")
        writer.writerow(
            [words, kind, *(_cell(endings.get(each)) for each in RELEASES)]
        )
    return text.getvalue()


def _name(node: str) -> str:
    """Return what a table calls a scenario."""
    file, _, test = node.rpartition("/")[2].partition("::")
    return f"{file.removesuffix('.py')}: {test.removeprefix('test_')}"


def _cell(ending: Ending | None) -> str:
    if ending is None:
        return _NOT_RUN
    if ending["result"] == "skipped":
        return _NOT_THERE
    return f"{ending['result']} ({ending['seconds']} s, {ending['date']})"
