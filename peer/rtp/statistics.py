"""Reception statistics of one stream, as in a receiver report (RFC 3550 6.4.1). Pure: time is an argument.

``StreamStatistics`` replaces the engine's class of the same name (``aiortc.rtcrtpreceiver``). The engine's report
task reads its properties by name.
"""

from __future__ import annotations

from typing import Final

from .sequence import SequenceUnwrapper

LOST_LIMIT: Final = 1 << 23
"""Limit of the cumulative number of packets lost, a signed number of 24 bits."""

MAX_TRANSIT_CHANGE: Final = 5.0
"""Maximum change of the transit time that counts as jitter, in seconds, as in libwebrtc. A larger one means that the
sender's clock was set, or that the network stalled."""


class StreamStatistics:
    """Packet statistics of one SSRC. ``clock_rate`` in Hz."""

    def __init__(self, clock_rate: int) -> None:
        self.clock_rate = clock_rate
        self.packets_received = 0
        self.sequence = SequenceUnwrapper()
        self._jitter = 0.0
        self._transit: float | None = None
        self._timestamp = 0
        self._expected_before_restart = 0
        self._base: int | None = None
        self._last_interval = (0, 0)  # packets expected and received when ``fraction_lost`` was read

    def add(self, sequence_number: int, timestamp: int, now: float) -> int | None:
        """Count a packet that arrived at ``now``, in seconds of any clock.

        Returns its extended sequence number, or ``None`` if it is out of range and not counted.
        """
        sequence = self.sequence
        highest = sequence.highest
        number = sequence.unwrap(sequence_number)
        if number is None:
            return None
        self.packets_received += 1
        if sequence.base != self._base:
            if self._base is not None:
                self._expected_before_restart += highest - self._base + 1
            self._base, self._transit = sequence.base, None
        elif number <= highest:
            return number  # a late packet does not measure the network's jitter (RFC 3550 A.8)
        if self._transit is None or timestamp != self._timestamp:  # the packets of a frame share a timestamp
            transit = now * self.clock_rate - timestamp
            if self._transit is not None:
                # Timestamps wrap at 2**32, and so do their differences.
                change = abs(((transit - self._transit + (1 << 31)) % (1 << 32)) - (1 << 31))
                if change < MAX_TRANSIT_CHANGE * self.clock_rate:
                    self._jitter += (change - self._jitter) / 16
            self._transit, self._timestamp = transit, timestamp
        return number

    @property
    def jitter(self) -> int:
        """Interarrival jitter in timestamp units."""
        return int(self._jitter)

    @property
    def jitter_seconds(self) -> float:
        """Interarrival jitter in seconds."""
        return self._jitter / self.clock_rate

    @property
    def max_seq(self) -> int:
        """The extended highest sequence number received, modulo 2**32."""
        return (self.sequence.highest - 0x10000) & 0xFFFFFFFF

    @property
    def packets_expected(self) -> int:
        """The number of packets sent as far as the sequence numbers show, including those before a restart."""
        base = self.sequence.base
        return self._expected_before_restart + (0 if base is None else self.sequence.highest - base + 1)

    @property
    def packets_lost(self) -> int:
        """The cumulative number of packets lost. Negative if more duplicates arrived than packets were lost."""
        lost = self.packets_expected - self.packets_received
        return max(-LOST_LIMIT, min(lost, LOST_LIMIT - 1))

    @property
    def fraction_lost(self) -> int:
        """Packets lost since this property was last read, in 1/256 of those expected. Reading starts an interval."""
        counts = (self.packets_expected, self.packets_received)
        expected, received = counts[0] - self._last_interval[0], counts[1] - self._last_interval[1]
        self._last_interval = counts
        lost = expected - received
        return 0 if expected <= 0 or lost <= 0 else min((lost << 8) // expected, 255)
