"""Memory budget shared by all clients: unsent outgoing data plus partially received messages. Pure.

Only data that stays is counted: messages behind a blocked socket, and messages that have arrived in part. Data that
passes through within one iteration of the event loop is not. A message to several clients counts once per client.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

MESSAGE_OVERHEAD: Final = 64
"""Memory for a queued message in addition to its text, in bytes. Bounds many small messages, too."""

H = TypeVar("H", bound=Hashable)


class MemoryBudget(Generic[H]):
    """The memory that each holder uses, and a limit for their sum.

    Args:
        limit: maximum sum, in bytes; 0: no limit.
        exceeded: called when the sum exceeds the limit. Has to make holders release memory until ``excess`` is 0.
    """

    __slots__ = ("_exceeded", "_held", "_limit", "_relieving", "used")

    def __init__(self, limit: int, exceeded: Callable[[], None]) -> None:
        self._limit = limit
        self._exceeded = exceeded
        self._held: dict[H, int] = {}
        self._relieving = False
        self.used = 0
        """The sum, in bytes."""

    def set_usage(self, holder: H, size: int) -> None:
        """Set the memory that ``holder`` uses to ``size`` bytes."""
        before = self._held.pop(holder, 0)
        if size:
            self._held[holder] = size
        self.used += size - before
        if self._limit and self.used > self._limit and not self._relieving:
            self._relieving = True  # relieving may itself queue data, such as a close frame
            try:
                self._exceeded()
            finally:
                self._relieving = False

    @property
    def excess(self) -> int:
        """Bytes to release: down to seven eighths of the limit, so that it is not exceeded again at once."""
        return max(0, self.used - self._limit * 7 // 8)

    def largest(self) -> list[H]:
        """Return the holders in descending order of their memory."""
        return sorted(self._held, key=self._held.__getitem__, reverse=True)
