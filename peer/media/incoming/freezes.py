"""Freeze detection: ``freezeCount`` of webrtc-stats (RTCInboundRtpStreamStats). Pure: time is an argument."""

from __future__ import annotations

from collections import deque
from typing import Final

_WINDOW: Final = 30
"""Number of frame intervals in the mean, as in webrtc-stats."""

_MIN_EXCESS: Final = 0.15
"""Minimum excess over the mean interval, in seconds, as in webrtc-stats. A shorter one is hardly visible."""


class FreezeDetector:
    """A count of frame intervals that exceed both three times the mean interval and the mean plus 0.15 s."""

    def __init__(self) -> None:
        self.count = 0
        self._intervals: deque[float] = deque(maxlen=_WINDOW)
        self._last: float | None = None

    def add_frame(self, now: float) -> None:
        """Record that a frame is shown at ``now``, in seconds."""
        if self._last is not None:
            interval = now - self._last
            if len(self._intervals) == _WINDOW:
                mean = sum(self._intervals) / _WINDOW
                self.count += interval > max(3 * mean, mean + _MIN_EXCESS)
            self._intervals.append(interval)
        self._last = now

    def pause(self) -> None:
        """Ignore the interval until the next frame: the video has no readers."""
        self._last = None
