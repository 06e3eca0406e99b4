"""Unwrapping of RTP sequence numbers (16 bits) and timestamps (32 bits). Pure."""

from __future__ import annotations

from typing import Final

MAX_DROPOUT: Final = 3_000
"""Maximum number of packets missing in a row. A larger step counts as a restart of the sender (RFC 3550 A.1)."""

MAX_MISORDER: Final = 1_000
"""Maximum number of packets by which one may be late. RFC 3550 A.1 suggests 100, but a retransmission or a burst at
6 Mbit/s is later."""

RESTART_GAP: Final = 0x10000
"""Minimum distance between the last extended number before a restart of the sender and the first one after it."""


class SequenceUnwrapper:
    """Extension of sequence numbers to monotonic integers, which detects a restart of the sender (RFC 3550 A.1)."""

    def __init__(self) -> None:
        self.base: int | None = None
        """The first extended number since the last restart."""
        self.highest = 0
        """The highest extended number so far."""
        self._restart_candidate: int | None = None  # the successor of an out-of-range number

    def unwrap(self, number: int) -> int | None:
        """Return the extended number, which may be lower than ``highest``. ``None``: out of range, to be dropped."""
        if self.base is None:
            self.base = self.highest = number + 0x10000  # room below, so that late packets are never negative
            return self.highest
        ahead = ((number - self.highest + 0x8000) & 0xFFFF) - 0x8000
        if -MAX_MISORDER < ahead <= MAX_DROPOUT:
            self._restart_candidate = None
            if ahead > 0:
                self.highest += ahead
                return self.highest
            return self.highest + ahead
        if number != self._restart_candidate:
            self._restart_candidate = (number + 1) & 0xFFFF
            return None
        self._restart_candidate = None  # two consecutive numbers: the sender has restarted
        self.highest += 2 * RESTART_GAP + ((number - self.highest) & 0xFFFF)
        self.base = self.highest
        return self.highest

    def peek(self, number: int) -> int:
        """Return the extended number nearest to ``highest``, without updating it. For RTX (RFC 4588 4)."""
        return self.highest + ((number - self.highest + 0x8000) & 0xFFFF) - 0x8000


class TimestampUnwrapper:
    """Extension of 32-bit RTP timestamps to integers that count from the first one."""

    def __init__(self) -> None:
        self.origin: int | None = None
        self._last = 0

    def unwrap(self, timestamp: int) -> int:
        """Return the extended timestamp nearest to the last one, and make it the last one."""
        if self.origin is None:
            self.origin = timestamp
        self._last = self._nearest(timestamp, self.origin)
        return self._last

    def peek(self, timestamp: int) -> int | None:
        """Return the extended timestamp nearest to the last one, without updating it. ``None`` before the first."""
        return None if self.origin is None else self._nearest(timestamp, self.origin)

    def _nearest(self, timestamp: int, origin: int) -> int:
        return self._last + ((timestamp - origin - self._last + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
