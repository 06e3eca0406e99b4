"""How many pictures a second an encoder is told. PURE: time is an argument.

Encoders of H.264 share their bitrate out by that figure, whatever their pictures are stamped with: of a source with
60 a second x264 made twice the bitrate that it was given for 30, and of one with 10 a third. An encoder that is told
another figure is made anew, which costs a key frame.
"""

from __future__ import annotations

from typing import Final

AFTER: Final = 2.0
"""Seconds over which pictures are counted before an encoder is told that there are more of them than it thought."""

TIMES: Final = 5
"""Times that in a row before it is told that there are fewer: no limit is broken meanwhile."""

PAUSE: Final = 0.5
"""Seconds between two pictures that are a pause, and say nothing of their rate."""


class Pace:
    """Of one source's pictures."""

    def __init__(self) -> None:
        self._expected = self._fps = 0.0
        self._since = self._last = float("-inf")
        self._count = self._fewer = 0

    def count(self, time: float, expected: float) -> float:
        """A picture of ``time`` seconds is coded. How many a second there are; ``expected`` until it is known."""
        if expected != self._expected:
            self._expected = self._fps = expected
            self._last = float("-inf")
        if not 0 <= time - self._last <= PAUSE:
            self._since, self._count, self._fewer = time, -1, 0
        self._last = time
        self._count += 1
        if time - self._since >= AFTER:
            rate = self._count / (time - self._since)
            self._fewer = self._fewer + 1 if rate < self._fps * 0.8 else 0
            if rate > self._fps * 1.25 or self._fewer == TIMES:
                self._fps, self._fewer = round(rate), 0
            self._since, self._count = time, 0
        return self._fps
