"""When a picture stood still: the W3C's ``freezeCount`` (webrtc-stats, RTCInboundRtpStreamStats). PURE."""

from __future__ import annotations

from collections import deque
from typing import Final

_FRAMES: Final = 30
"""Pictures whose mean distance counts as usual."""

_EXTRA: Final = 0.15
"""Seconds beyond the usual distance that an eye forgives."""


class Freezes:
    """Counts the distances between pictures longer than three usual ones, and than a usual one and 0.15 s."""

    def __init__(self) -> None:
        self.count = 0
        self._distances: deque[float] = deque(maxlen=_FRAMES)
        self._last: float | None = None

    def picture(self, now: float) -> None:
        """One is shown at ``now`` seconds."""
        if self._last is not None:
            distance = now - self._last
            if len(self._distances) == _FRAMES:
                usual = sum(self._distances) / _FRAMES
                self.count += distance > max(3 * usual, usual + _EXTRA)
            self._distances.append(distance)
        self._last = now

    def pause(self) -> None:
        """Nobody looks for a while: the next distance says nothing."""
        self._last = None
