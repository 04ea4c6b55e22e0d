# SPDX-License-Identifier: Apache-2.0
"""Say amounts as people read them."""

from __future__ import annotations

import math

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def size(count: float | None) -> str:
    """Return a number of bytes in words.

    >>> [size(count) for count in (None, 1, 156, 69206016, 3 << 29, 2**64)]
    ['unknown', '1 byte', '156 bytes', '66.0 MiB', '1.5 GiB', '16.0 EiB']
    """
    if count is None or count < 0:
        return "unknown"
    if count < 1024:
        return "1 byte" if round(count) == 1 else f"{count:.0f} bytes"
    text = ""
    for unit in _UNITS:
        count /= 1024
        text = f"{count:.1f} {unit}"
        # Rounded, it must be less than one of the next unit.
        if count < 1023.95:
            break
    return text


def about(seconds: float) -> str:
    """Return in words how long something will take, by an estimate.

    >>> [about(seconds) for seconds in (0.2, 119, 121, 7300, 10**9)]
    ['about 1 s', 'about 119 s', 'about 3 min', 'about 3 h', 'more than a day']
    """
    if seconds >= _DAY:
        return "more than a day"
    for unit, length in (("h", _HOUR), ("min", _MINUTE)):
        if seconds > 2 * length:
            return f"about {math.ceil(seconds / length)} {unit}"
    return f"about {math.ceil(seconds)} s"
