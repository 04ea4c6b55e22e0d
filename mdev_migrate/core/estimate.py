# SPDX-License-Identifier: Apache-2.0
"""How long may a guest stand still for its devices, before anything is tried?

While a guest stands still the state of its devices is sent. Nobody tells its
size beforehand; but some vendors say in a type's name how much memory a
device of it has, and more than that it cannot have to send. How much of it is
in use is not known, so what comes out is what it may take, not what it will.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mdev_migrate import exception, model
from mdev_migrate.core import wording

_MIB = 2**20

#: NVIDIA's virtual GPUs: the board, for a part of a GPU (MIG) its slices, the
#: frame buffer in GiB with 0 for 512 MiB, and the series. Source: "NVIDIA
#: vGPU Types Reference" of NVIDIA AI Enterprise and the appendix "Virtual GPU
#: Types Reference" of the Virtual GPU Software User Guide.
_NVIDIA = re.compile(
    r"(?:GRID |NVIDIA )?"  # As the driver of the time calls them.
    r"[A-Z][A-Za-z0-9 ]*(?:-[A-Z][A-Za-z0-9]*)*"  # A40, RTX6000-Ada
    r"(?:-[1-9])?"  # Slices of a GPU.
    r"-(?P<gib>[0-9]{1,3})"
    r"[ABCQ](?:[0-9]|ME|GFX)?"
)
#: The state of the kernel's sample device: a header and each port. Source:
#: struct mtty_data in samples/vfio-mdev/mtty.c, Linux 6.7.
_MTTY = {"mtty-1": 60, "mtty-2": 96}


def type_bytes(mdev_type: str, name: str) -> int | None:
    """Return how much state an mdev of a type can have.

    :param name: what the vendor calls the type; may be empty.
    :returns: bytes; None if it is not known.

    >>> type_bytes("nvidia-557", "NVIDIA A40-8Q") // 2**30
    8
    >>> type_bytes("nvidia-11", "GRID M60-0B") // 2**20
    512
    >>> type_bytes("nvidia-699", "GRID A100-1-5C") // 2**30
    5
    """
    if mdev_type in _MTTY:
        return _MTTY[mdev_type]
    match = _NVIDIA.fullmatch(name)
    if match is None:
        return None
    return int(match["gib"]) * 1024 * _MIB or 512 * _MIB


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the devices of a guest may have to send, and how long that takes.

    :ivar device_bytes: of all its mdevs; None if it is not known of some.
    :ivar unknown: the types of those.
    :ivar bandwidth: MiB/s that it was made with; None if nobody said.
    """

    device_bytes: int | None
    unknown: tuple[str, ...] = ()
    bandwidth: int | None = None

    @property
    def downtime_ms(self) -> int | None:
        """Return how long the guest may stand still for its devices."""
        if self.device_bytes is None or self.bandwidth is None:
            return None
        return math.ceil(1000 * self.device_bytes / (self.bandwidth * _MIB))


def make(
    wanted: Iterable[model.WantedMdev],
    names: Mapping[str, str],
    bandwidth: int | None,
) -> Estimate:
    """Return the estimate for a guest's mdevs.

    :param names: what the vendor calls each type.
    :param bandwidth: MiB/s that there are for the last part.
    """
    types = [want.mdev_type for want in wanted]
    sizes = {kind: type_bytes(kind, names.get(kind, "")) for kind in types}
    unknown = tuple(kind for kind, size in sizes.items() if size is None)
    known = [size for kind in types if (size := sizes[kind]) is not None]
    return Estimate(None if unknown else sum(known), unknown, bandwidth)


def judge(
    guest: str, found: Estimate, max_downtime_ms: int, *, strict: bool
) -> str:
    """Compare an estimate with the longest downtime that is allowed.

    :param strict: the user wants no migration that may take longer.
    :returns: what was found, in words.
    :raises DowntimeTooLong: if it may take longer and that is not wanted.
    :raises DowntimeUnknown: if there is no telling, and it is asked for.
    """
    needed_ms = found.downtime_ms
    if needed_ms is None:
        reason = _why_not(found)
        if strict:
            raise exception.DowntimeUnknown(guest, reason)
        return f"no estimate: {reason}"
    if needed_ms <= max_downtime_ms:
        return (
            "the state of its devices, "
            f"{wording.size(found.device_bytes)}, may take {needed_ms} ms at "
            f"{found.bandwidth} MiB/s, the maximal downtime is "
            f"{max_downtime_ms} ms"
        )
    error = exception.DowntimeTooLong(guest, needed_ms, max_downtime_ms)
    if strict:
        raise error
    return f"{error}; {error.hint}"


def _why_not(found: Estimate) -> str:
    if found.device_bytes is None:
        types = ", ".join(found.unknown)
        return f"how much memory {types} has is not known"
    return (
        f"its devices have {wording.size(found.device_bytes)} of state at "
        "most; the bandwidth is not known"
    )


def names_of(parents: Iterable[model.Parent]) -> dict[str, str]:
    """Return what the vendor calls each type that some parents offer."""
    return {
        offered.mdev_type: offered.name
        for parent in parents
        for offered in parent.types
        if offered.name
    }
