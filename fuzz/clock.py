"""An event loop with a manual clock, so that tests of time-outs do not wait."""

from __future__ import annotations

import asyncio


class Clock(asyncio.SelectorEventLoop):
    """Real sockets and callbacks; the time changes only by ``advance``, so a time-out needs a call to it."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__()

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Advance the clock. Callbacks that are due run in the next turn of the loop."""
        self._now += seconds
