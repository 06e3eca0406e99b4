"""The quality ladder: the sizes, frame rates and bitrates at which a source can be encoded. Pure.

    rung 0   full size
    rung 1   three quarters of its width and height
    rung 2   half
    rung 3   a third, at half the frame rate

Rungs that would save too little are left out. ``rung_selector.py`` selects the rung of each viewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

BITS_PER_PIXEL: Final = 0.1
"""Bits per pixel that moving video needs to look good, in VP8 or H.264 encoded in real time."""

MIN_BITRATE: Final = 100_000
MAX_BITRATE: Final = 6_000_000
"""Minimum and maximum bitrate of a rung, in bit/s, if the user has set no limit."""

_SCALES: Final = (Fraction(1), Fraction(3, 4), Fraction(1, 2), Fraction(1, 3))

_MAX_RATIO: Final = 0.75
"""Maximum bitrate of a rung, as a fraction of the bitrate of the rung above. Otherwise it would save too little."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the quality ladder. Sizes in pixels, ``bitrate`` in bit/s."""

    width: int
    height: int
    fps: float
    """Approximate frame rate, in frames per second."""
    bitrate: int
    limits_frame_rate: bool = False
    """Whether frames are dropped to keep ``fps``. It is otherwise the expected frame rate of the source."""


def suitable_bitrate(width: int, height: int, fps: float) -> int:
    """Return the bitrate at which moving video of this size looks good, in bit/s."""
    return round(min(max(width * height * fps * BITS_PER_PIXEL, MIN_BITRATE), MAX_BITRATE))


def ladder(width: int, height: int, fps: float, max_bitrate: int | None = None) -> tuple[Rung, ...]:
    """Return the rungs for a source, best first. ``max_bitrate`` limits all of them, in bit/s."""
    rungs: list[Rung] = []
    for scale in _SCALES:
        is_smallest = scale == _SCALES[-1]
        rate = fps / 2 if is_smallest else fps
        size = (even(width * scale), even(height * scale))
        bitrate = min(suitable_bitrate(*size, rate), max_bitrate or MAX_BITRATE)
        if not rungs or bitrate <= rungs[-1].bitrate * _MAX_RATIO:
            rungs.append(Rung(*size, rate, bitrate, is_smallest))
    return tuple(rungs)


def even(side: float | Fraction) -> int:
    """Return the even number of pixels at or below ``side``, at least 2: chroma planes have half of them."""
    return max(2, int(side) // 2 * 2)
