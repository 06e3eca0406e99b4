"""Pings each client once an interval, a few at a time: a ping is a system call, and a message that comes meanwhile
waits for all of them. Ten thousand clients that came in one instant have theirs spread over 1.6 s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from ..renewal_queue import Rota
from .connection import Client

_MOST: Final = 32  # clients a turn of the loop: 0.3 ms
_PAUSE: Final = 0.005  # seconds from one such turn to the next: 6,400 pings a second, for 76,000 clients


class Pings:
    """Whose ping is due when, and one timer for all.

    Args:
        every: seconds from the join to the first ping, and from one to the next.
        ping: sends one to each of these.
    """

    def __init__(self, every: float, ping: Callable[[Sequence[Client]], None]) -> None:
        self._rota: Rota[Client] = Rota(every)
        self._ping = ping
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._rota)

    def welcome(self, client: Client) -> None:
        """``client`` has joined."""
        now = asyncio.get_running_loop().time()
        self._rota.had(client, now)
        self._arm(now)

    def forget(self, client: Client) -> None:
        """``client`` is gone, or never came."""
        self._rota.forget(client)

    def stop(self) -> None:
        """Ping nobody any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, earliest: float) -> None:
        deadline = self._rota.deadline
        if self._timer is None and deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(max(deadline, earliest), self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        if due := self._rota.due(now, _MOST):
            self._ping(due)
        self._arm(now + _PAUSE)
