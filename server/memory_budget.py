"""What waits for slow clients, in both directions, counted for all of them together. PURE.

Counted is what stays: frames behind a socket that takes no more, and frames that have come in part. What goes through
within a turn of the loop is not. A frame that waits for several clients counts for each.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

MESSAGE_OVERHEAD: Final = 64
"""Octets that a frame which waits takes beside its own, so that many small ones count as what they are."""

H = TypeVar("H", bound=Hashable)


class Buffers(Generic[H]):
    """One account for all clients.

    Args:
        limit: octets; 0: any number.
        over: called when more are held than that, until no more are: it has to make somebody give back what he has.
    """

    __slots__ = ("_held", "_limit", "_over", "_relieving", "used")

    def __init__(self, limit: int, over: Callable[[], None]) -> None:
        self._limit = limit
        self._over = over
        self._held: dict[H, int] = {}
        self._relieving = False
        self.used = 0
        """Octets."""

    def hold(self, who: H, octets: int) -> None:
        """``who`` holds this many now."""
        before = self._held.pop(who, 0)
        if octets:
            self._held[who] = octets
        self.used += octets - before
        if self._limit and self.used > self._limit and not self._relieving:
            self._relieving = True  # what makes room may itself be something to send
            try:
                self._over()
            finally:
                self._relieving = False

    @property
    def excess(self) -> int:
        """Octets to give back, when it is too much: an eighth more, so that it is not too much again at once."""
        return max(0, self.used - self._limit * 7 // 8)

    def fullest(self) -> list[H]:
        """Who holds something, the most first."""
        return sorted(self._held, key=self._held.__getitem__, reverse=True)
