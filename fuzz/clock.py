"""An event loop whose time stands still until it is told to go on: what waits for seconds is tested in none."""

from __future__ import annotations

import asyncio


class Clock(asyncio.SelectorEventLoop):
    """Real sockets, real callbacks, and the time that ``advance`` says. What only time would end, ends never."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__()

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass. What is due happens in the loop's next turn."""
        self._now += seconds
