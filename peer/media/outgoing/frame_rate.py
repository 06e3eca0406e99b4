"""Estimation of the frame rate that an encoder is configured with. Pure: time is an argument.

H.264 encoders divide their bitrate by the configured frame rate and ignore timestamps. Configured for 30 fps, x264
produced twice its bitrate from a source with 60 fps, and a third of it from one with 10 fps. A change of the frame
rate requires a new encoder, which costs a key frame.
"""

from __future__ import annotations

from typing import Final

WINDOW: Final = 2.0
"""Time over which frames are counted, in seconds. An increase is applied after one window."""

DECREASE_WINDOWS: Final = 5
"""Number of consecutive windows after which a decrease is applied. It can wait, because no limit is exceeded."""

PAUSE: Final = 0.5
"""Distance between two frames beyond which counting starts again, in seconds: the source has paused."""


class FrameRateEstimator:
    """Estimator of the frame rate of one source."""

    def __init__(self) -> None:
        self._expected = self._fps = 0.0
        self._window_start = self._last = float("-inf")
        self._count = self._low_windows = 0

    def add_frame(self, time: float, expected: float) -> float:
        """Count a frame captured at ``time``, in seconds. Return the frame rate, which is ``expected`` at first."""
        if expected != self._expected:
            self._expected = self._fps = expected
            self._last = float("-inf")
        if not 0 <= time - self._last <= PAUSE:
            self._window_start, self._count, self._low_windows = time, -1, 0
        self._last = time
        self._count += 1
        if time - self._window_start >= WINDOW:
            rate = self._count / (time - self._window_start)
            self._low_windows = self._low_windows + 1 if rate < self._fps * 0.8 else 0
            if rate > self._fps * 1.25 or self._low_windows == DECREASE_WINDOWS:
                self._fps, self._low_windows = round(rate), 0
            self._window_start, self._count = time, 0
        return self._fps
