"""A limit on the frame rate of a source or encoding, by dropping frames evenly. Pure."""

from __future__ import annotations


class FrameRateLimiter:
    """A limit of ``fps`` frames per second, evenly spaced; none if ``fps`` is ``None``."""

    def __init__(self, fps: float | None) -> None:
        self._interval = 1 / fps if fps else 0.0
        self._due: float | None = None

    def accepts(self, time: float) -> bool:
        """Whether the frame captured at ``time`` seconds is accepted. It may be early by 10% of the interval.


        A clock that jumps, forward by an interval or back by ten, starts a new schedule.
        """
        if self._due is None or time < self._due - 10 * self._interval or time > self._due + self._interval:
            self._due = time
        elif time < self._due - self._interval / 10:
            return False
        self._due += self._interval
        return True
