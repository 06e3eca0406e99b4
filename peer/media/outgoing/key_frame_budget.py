"""Budget of key frame requests (PLI, FIR) of one viewer. Pure: time is an argument.

A key frame is several times as large as other frames, and all viewers of an encoding get it. An encoding makes at
most two per second. A single viewer that requests them all the time would cost all others quality.
"""

from __future__ import annotations

from typing import Final

INTERVAL: Final = 2.0
"""Time per request in the long run, in seconds. A viewer that loses more than that is moved to a lower rung."""

BURST: Final = 4
"""Maximum number of requests in a row. Viewers repeat a request until the key frame has arrived."""


class KeyFrameBudget:
    """The budget of one viewer: ``BURST`` requests at once, then one per ``INTERVAL`` (GCRA, ITU-T I.371)."""

    def __init__(self) -> None:
        self._paid_until = float("-inf")

    def spend(self, now: float) -> float:
        """Spend one request. Return 0, or if there is none left the seconds until there is, and spend nothing."""
        paid_until = max(self._paid_until, now)
        wait = paid_until - now - (BURST - 1) * INTERVAL
        if wait > 0:
            return wait
        self._paid_until = paid_until + INTERVAL
        return 0.0
