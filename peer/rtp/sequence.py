"""Numbers that wrap, unwrapped: RTP sequence numbers (16 bits) and timestamps (32 bits). PURE."""

from __future__ import annotations

from typing import Final

MAX_DROPOUT: Final = 3_000
"""Packets that may be missing in a row before a number counts as a new beginning (RFC 3550 A.1)."""

MAX_MISORDER: Final = 1_000
"""Packets by which one may be late. RFC 3550 A.1 says 100; a retransmission or a burst at 6 Mbit/s is later."""

NEW_BEGINNING: Final = 0x10000
"""Extended numbers that are further apart than this lie on both sides of a new beginning."""


class Sequence:
    """Extends sequence numbers, so that they only grow, and tells a sender that started anew (RFC 3550 A.1)."""

    def __init__(self) -> None:
        self.first: int | None = None
        """The first extended number since the last beginning."""
        self.last = 0
        """The highest extended number so far."""
        self._suspect: int | None = None  # what would follow a packet that came from nowhere

    def extend(self, number: int) -> int | None:
        """The extended number, which may be lower than the last one; ``None``: from nowhere, to be left out."""
        if self.first is None:
            self.first = self.last = number + 0x10000  # late ones are lower, and never below zero
            return self.last
        ahead = ((number - self.last + 0x8000) & 0xFFFF) - 0x8000
        if -MAX_MISORDER < ahead <= MAX_DROPOUT:
            self._suspect = None
            if ahead > 0:
                self.last += ahead
                return self.last
            return self.last + ahead
        if number != self._suspect:
            self._suspect = (number + 1) & 0xFFFF
            return None
        self._suspect = None  # two in a row: the sender has started anew
        self.last += 2 * NEW_BEGINNING + ((number - self.last) & 0xFFFF)
        self.first = self.last
        return self.last

    def near(self, number: int) -> int:
        """Where ``number`` lies, near the last one, which it does not move: that of a retransmission (RFC 4588 4)."""
        return self.last + ((number - self.last + 0x8000) & 0xFFFF) - 0x8000


class Timestamps:
    """Unwraps 32-bit RTP timestamps; they count from the first one."""

    def __init__(self) -> None:
        self.origin: int | None = None
        self._last = 0

    def map(self, timestamp: int) -> int:
        """Where ``timestamp`` lies, near the last one; it is the last one from now on."""
        if self.origin is None:
            self.origin = timestamp
        self._last = self._near(timestamp, self.origin)
        return self._last

    def relative(self, timestamp: int) -> int | None:
        """Where ``timestamp`` lies, near the last one, which it does not move; ``None`` before the first."""
        return None if self.origin is None else self._near(timestamp, self.origin)

    def _near(self, timestamp: int, origin: int) -> int:
        return self._last + ((timestamp - origin - self._last + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
