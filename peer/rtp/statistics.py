"""What a receiver report says of one stream (RFC 3550 6.4.1). PURE: time is an argument.

It stands in for the engine's own (``aiortc.rtcrtpreceiver.StreamStatistics``), whose report task reads these names.
"""

from __future__ import annotations

from typing import Final

from .sequence import Sequence

LOST_LIMIT: Final = 1 << 23
"""The cumulative number of packets lost is a signed number of 24 bits."""

LEAP: Final = 5.0
"""Seconds of lateness that are no jitter: the sender's clock was set, or the network stood still. As in libwebrtc."""


class StreamStatistics:
    """Counts the packets of one SSRC. ``clock_rate`` in Hz."""

    def __init__(self, clock_rate: int) -> None:
        self.clock_rate = clock_rate
        self.packets_received = 0
        self.sequence = Sequence()
        self._jitter = 0.0
        self._transit: float | None = None
        self._timestamp = 0
        self._expected_before = 0  # a sender that starts anew starts a new count; what was lost stays lost
        self._first: int | None = None
        self._prior = (0, 0)

    def add(self, sequence_number: int, timestamp: int, now: float) -> int | None:
        """A packet came at ``now`` seconds of any clock. Its extended number; ``None``: from nowhere, not counted."""
        sequence = self.sequence
        last = sequence.last
        number = sequence.extend(sequence_number)
        if number is None:
            return None
        self.packets_received += 1
        if sequence.first != self._first:
            if self._first is not None:
                self._expected_before += last - self._first + 1
            self._first, self._transit = sequence.first, None
        elif number <= last:
            return number  # late: it says nothing of the network's jitter (A.8 takes packets in order)
        if self._transit is None or timestamp != self._timestamp:
            transit = now * self.clock_rate - timestamp
            if self._transit is not None:
                # Modulo 2**32, as timestamps are; the packets of one picture share a timestamp and are counted once.
                late = abs(((transit - self._transit + (1 << 31)) % (1 << 32)) - (1 << 31))
                if late < LEAP * self.clock_rate:
                    self._jitter += (late - self._jitter) / 16
            self._transit, self._timestamp = transit, timestamp
        return number

    @property
    def jitter(self) -> int:
        """Interarrival jitter in timestamp units."""
        return int(self._jitter)

    @property
    def jitter_seconds(self) -> float:
        return self._jitter / self.clock_rate

    @property
    def max_seq(self) -> int:
        """The extended highest sequence number received, in its 32 bits."""
        return (self.sequence.last - 0x10000) & 0xFFFFFFFF

    @property
    def packets_expected(self) -> int:
        first = self.sequence.first
        return self._expected_before + (0 if first is None else self.sequence.last - first + 1)

    @property
    def packets_lost(self) -> int:
        """Since the beginning; below zero when packets came twice."""
        lost = self.packets_expected - self.packets_received
        return max(-LOST_LIMIT, min(lost, LOST_LIMIT - 1))

    @property
    def fraction_lost(self) -> int:
        """Of the packets since the last look, in 1/256. Looking begins a new interval."""
        now = (self.packets_expected, self.packets_received)
        expected, received = now[0] - self._prior[0], now[1] - self._prior[1]
        self._prior = now
        lost = expected - received
        return 0 if expected <= 0 or lost <= 0 else min((lost << 8) // expected, 255)
