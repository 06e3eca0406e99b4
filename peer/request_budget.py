"""Budget of the requests of one remote: a burst, then one per interval (GCRA, ITU-T I.371). Pure: no clock."""

from __future__ import annotations


class RequestBudget:
    """A budget of ``burst`` requests in a row, then one per ``interval`` seconds."""

    def __init__(self, interval: float, burst: int) -> None:
        self._interval = interval
        self._burst = burst
        self._paid_until = float("-inf")

    def spend(self, now: float) -> float:
        """Spend one request. Return 0, or if there is none left the seconds until there is, and spend nothing."""
        paid_until = max(self._paid_until, now)
        wait = paid_until - now - (self._burst - 1) * self._interval
        if wait > 0:
            return wait
        self._paid_until = paid_until + self._interval
        return 0.0
