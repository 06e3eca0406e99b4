"""Keepalive pings: one per client and interval, sent in small groups.

A ping is a system call, and a message that arrives in the meantime waits for the whole group. The pings of ten
thousand clients that joined at the same time are spread over 1.6 s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from ..renewal_queue import RenewalQueue
from .connection import Client

_GROUP: Final = 32
"""Maximum number of pings per iteration of the event loop. They take 0.3 ms."""
_PAUSE: Final = 0.005
"""Time between two groups, in seconds: 6,400 pings per second, enough for 76,000 clients."""


class Keepalive:
    """The schedule of pings, with one timer for all clients.

    Args:
        interval: time from the join to the first ping, and between two pings, in seconds.
        ping: sends a ping to each of the given clients.
    """

    def __init__(self, interval: float, ping: Callable[[Sequence[Client]], None]) -> None:
        self._queue: RenewalQueue[Client] = RenewalQueue(interval)
        self._ping = ping
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, client: Client) -> None:
        """Start pinging ``client``, which has joined."""
        now = asyncio.get_running_loop().time()
        self._queue.schedule(client, now)
        self._set_timer(now)

    def remove(self, client: Client) -> None:
        """Stop pinging ``client``. Does nothing if it was not added."""
        self._queue.remove(client)

    def stop(self) -> None:
        """Send no more pings."""
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self, earliest: float) -> None:
        deadline = self._queue.deadline
        if self._timer is None and deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(max(deadline, earliest), self._ping_due)

    def _ping_due(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        if due := self._queue.take_due(now, _GROUP):
            self._ping(due)
        self._set_timer(now + _PAUSE)
