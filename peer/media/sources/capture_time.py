"""When something was captured, on the clock of ``media_time()``, from whatever clock its maker stamped it with."""

from __future__ import annotations

import math
import time
from typing import Final

from peer.media.frames import media_time

_OLDEST: Final = 1.0
"""Seconds: a capture time further back than this is a clock that we misunderstand, not a slow device."""

_LATELY: Final = 10.0
"""Seconds that the offset of a live stream is looked for in, and half of the time that one found counts."""


def from_monotonic(stamp: float | None) -> float:
    """Of a V4L2 buffer (CLOCK_MONOTONIC); now, if ``stamp`` is missing or cannot be that."""
    return _believe(stamp, time.monotonic())


def from_wall(stamp: float | None) -> float:
    """Of an FFmpeg device that stamps with Unix time; now, if ``stamp`` is missing or cannot be that."""
    return _believe(stamp, time.time())


def from_age(seconds: float) -> float:
    """Of sound that lay in a device for ``seconds``; now, if that cannot be."""
    return _believe(-seconds, 0.0)


def _believe(stamp: float | None, now: float) -> float:
    age = now - stamp if stamp is not None else 0.0
    return media_time() - (age if 0 <= age <= _OLDEST else 0.0)


class LiveClock:
    """Puts a live stream's own time on ours: both tracks of it by one offset, so that they stay in sync.

    The offset is that of the frame that came quickest lately: nothing can arrive before it was made, and two clocks
    never run alike. At 100 ppm they are 0.36 s apart after an hour.
    """

    def __init__(self) -> None:
        self._offset: float | None = None
        self._window = 0.0
        self._least = self._least_before = math.inf

    def moment(self, stamp: float | None) -> float:
        """Our time for the stream's ``stamp`` in seconds, of a frame that came just now."""
        now = media_time()
        if stamp is None:
            return now
        offset = now - stamp
        if self._offset is None or offset < self._offset or offset > self._offset + _OLDEST:
            self._offset, self._window = offset, now
            self._least, self._least_before = math.inf, offset
        self._least = min(self._least, offset)
        if now - self._window >= _LATELY:
            self._offset, self._window = min(self._least, self._least_before), now
            self._least, self._least_before = math.inf, self._least
        return stamp + self._offset
