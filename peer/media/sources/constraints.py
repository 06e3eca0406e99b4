"""What is wanted of an input."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted of an input: picture, sound or both; pictures within ``size`` and at most ``fps`` a second.

    ``h264``: of a camera, its own H.264 and nothing else.
    """

    video: bool
    audio: bool
    size: tuple[int, int] | None = None
    fps: float | None = None
    h264: bool = False


class Thinner:
    """Takes at most ``fps`` pictures a second out of more, evenly."""

    def __init__(self, fps: float | None) -> None:
        self._interval = 1 / fps if fps else 0.0
        self._due: float | None = None

    def takes(self, time: float) -> bool:
        """Whether the picture of ``time`` seconds is taken. A tenth of an interval early is on time."""
        if self._due is None or time < self._due - 10 * self._interval or time > self._due + self._interval:
            self._due = time
        elif time < self._due - self._interval / 10:
            return False
        self._due += self._interval
        return True
