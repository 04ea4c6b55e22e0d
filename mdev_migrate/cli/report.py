# SPDX-License-Identifier: Apache-2.0
"""One page that shows a migration, to be kept or sent to somebody.

It stands by itself: no script, no font and no picture from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lxml import etree

from mdev_migrate.cli.listeners import Recorder
from mdev_migrate.core import wording

#: Points of a curve: seconds, value.
Points = Sequence[tuple[float, float]]
_WIDTH, _HEIGHT, _LEFT, _TOP = 720, 200, 90, 16
_COLOURS = ("#1f77b4", "#d62728")
_MIB = 2**20
_STYLE = """
body { font-family: sans-serif; max-width: 60em; margin: 2em auto; }
table { border-collapse: collapse; } td, th { padding: .2em .8em .2em 0;
text-align: left; vertical-align: top; } svg { width: 100%; }
text { font-size: 12px; } h2 { margin-top: 1.5em; }
"""


def page(answer: dict[str, Any], recorded: Recorder) -> bytes:
    """Return the page.

    :param answer: how the migration ended, as ``--json`` answers.
    """
    title = f"Migration of {answer['guest']}: {answer['result']}"
    charts = (
        (
            "Memory that remains, MiB",
            {"remaining": _curve(recorded, "data_remaining", _MIB)},
        ),
        (
            "Sent, and written by the guest, MiB/s",
            {
                "sent": _curve(recorded, "rate", _MIB),
                "written": _curve(recorded, "dirty_rate", _MIB),
            },
        ),
        (
            "Downtime limit, and what QEMU expects, ms",
            {
                "limit": _curve(recorded, "limit_ms"),
                "expected": _curve(recorded, "downtime_ms"),
            },
        ),
        (
            "Device state sent, MiB",
            {"sent": _curve(recorded, "device_transferred", _MIB)},
        ),
    )
    body = _element("body", _element("h1", title), _table(_facts(answer)))
    for name, curves in charts:
        body.extend((_element("h2", name), _chart(curves)))
    said = ((f"{at:.1f} s", text) for at, text in recorded.notes)
    body.extend((_element("h2", "What happened"), _table(said)))
    head = _element("head", _element("meta", charset="utf-8"))
    head.extend((_element("title", title), _element("style", _STYLE)))
    return etree.tostring(
        _element("html", head, body), method="html", doctype="<!DOCTYPE html>"
    )


def _element(
    tag: str, *content: str | etree._Element, **attributes: str
) -> etree._Element:
    """Return an element with a text, or with others in it."""
    element = etree.Element(tag, attributes)
    for part in content:
        if isinstance(part, str):
            # What cannot stand in a document is not let through.
            element.text = "".join(
                c if c.isprintable() or c == "\n" else "?" for c in part
            )
        else:
            element.append(part)
    return element


def _facts(answer: dict[str, Any]) -> Iterable[tuple[str, str]]:
    yield "Instance", answer["instance_uuid"] or "unknown"
    yield "Took", f"{answer['seconds']} s"
    for step, seconds in answer["steps"].items():
        yield f"Step {step}", f"{seconds} s"
    downtime = answer["downtime_ms"]
    yield "Downtime", "unknown" if downtime is None else f"{downtime} ms"
    yield "Sent", wording.size(answer["bytes"])
    for source, target in answer["target_mdevs"].items():
        kind = answer["source_mdev_types"].get(source, "unknown type")
        yield f"mdev {source}", f"{target} ({kind})"
    if answer["error"] is not None:
        yield "Error", answer["error"]["message"]
        yield "Code", answer["error"]["code"]


def _table(rows: Iterable[tuple[str, str]]) -> etree._Element:
    return _element(
        "table",
        *(
            _element("tr", _element("th", name), _element("td", text))
            for name, text in rows
        ),
    )


def _curve(recorded: Recorder, name: str, unit: int = 1) -> Points:
    """Return a figure of the job over its seconds."""
    found = ((at, getattr(job, name)) for at, job in recorded.looks)
    return [(at, value / unit) for at, value in found if value is not None]


def _chart(curves: dict[str, Points]) -> etree._Element:
    """Draw curves over the same seconds, with their names."""
    every = [point for points in curves.values() for point in points]
    if not every:
        return _element("p", "libvirt did not say.")
    end_s = max(at for at, _ in every) or 1.0
    most = max(value for _, value in every) or 1.0
    bottom, right = _TOP + _HEIGHT, _LEFT + _WIDTH
    chart = _element(
        "svg",
        _text(_LEFT - 8, _TOP + 4, f"{most:.4g}", "end"),
        _text(_LEFT - 8, bottom, "0", "end"),
        _text(_LEFT, bottom + 18, "0 s", "start"),
        _text(right, bottom + 18, f"{end_s:.1f} s", "end"),
        _element(
            "path",
            d=f"M{_LEFT},{_TOP} V{bottom} H{right}",
            fill="none",
            stroke="#888",
        ),
        viewBox=f"0 0 {right + 10} {bottom + 24}",
        role="img",
    )
    named = zip(curves.items(), _COLOURS, strict=False)
    for number, ((name, points), colour) in enumerate(named):
        where = " ".join(
            f"{_LEFT + _WIDTH * at / end_s:.1f},"
            f"{bottom - _HEIGHT * value / most:.1f}"
            for at, value in points
        )
        curve = {"points": where, "fill": "none", "stroke": colour}
        label = _text(_LEFT + 120 * number + 200, bottom + 18, name, "start")
        label.set("fill", colour)
        chart.extend((_element("polyline", **curve), label))
    return chart


def _text(x: float, y: float, text: str, anchor: str) -> etree._Element:
    where = {"x": f"{x}", "y": f"{y}", "text-anchor": anchor}
    return _element("text", text, **where)
