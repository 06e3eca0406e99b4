"""Conversion of capture timestamps, from whatever clock a device or stream uses, to ``media_time()``."""

from __future__ import annotations

import math
import time
from typing import Final

from peer.media.frames import media_time

_MAX_AGE: Final = 1.0
"""Maximum age of a capture timestamp, in seconds. Devices are faster: an older one stems from another clock."""

_OFFSET_WINDOW: Final = 10.0
"""Window in which the smallest offset is searched, in seconds. An offset is renewed from the last two windows."""


def from_monotonic(timestamp: float | None) -> float:
    """Convert the time of a V4L2 buffer (CLOCK_MONOTONIC); now, if it is missing or implausible."""
    return _convert(timestamp, time.monotonic())


def from_wall(timestamp: float | None) -> float:
    """Convert the Unix time of an FFmpeg device; now, if it is missing or implausible."""
    return _convert(timestamp, time.time())


def from_age(seconds: float) -> float:
    """Convert the time that audio has spent in a device's buffer; now, if it is implausible."""
    return _convert(-seconds, 0.0)


def _convert(timestamp: float | None, now: float) -> float:
    age = now - timestamp if timestamp is not None else 0.0
    return media_time() - (age if 0 <= age <= _MAX_AGE else 0.0)


class CaptureClock:
    """Conversion of a live stream's timestamps to ``media_time()``. All tracks share one offset and stay in sync.

    The offset is that of the recent frame with the smallest delay, since no frame arrives before it was captured. It
    is renewed because two clocks never run at the same rate: at 100 ppm they are 0.36 s apart after an hour.
    """

    def __init__(self) -> None:
        self._offset: float | None = None
        self._window_start = 0.0
        self._smallest = self._previous_smallest = math.inf

    def capture_time(self, timestamp: float | None) -> float:
        """Return the media time for the stream's ``timestamp``, in seconds, of a frame that arrived just now."""
        now = media_time()
        if timestamp is None:
            return now
        offset = now - timestamp
        if self._offset is None or offset < self._offset or offset > self._offset + _MAX_AGE:
            self._offset, self._window_start = offset, now
            self._smallest, self._previous_smallest = math.inf, offset
        self._smallest = min(self._smallest, offset)
        if now - self._window_start >= _OFFSET_WINDOW:
            self._offset, self._window_start = min(self._smallest, self._previous_smallest), now
            self._smallest, self._previous_smallest = math.inf, self._smallest
        return timestamp + self._offset
