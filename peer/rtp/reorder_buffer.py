"""Reordering of audio packets. A packet in order is delivered at once; only one that overtook others waits. Pure.

This is not a jitter buffer, which belongs to playout (``peer.media.audio``). In front of a recorder, a level meter or
lip sync, a jitter buffer would only add latency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .sequence import RESTART_GAP

MAX_WAIT: Final = 0.06
"""Maximum time to wait for a missing packet, in seconds. Audio is not retransmitted, so it is late or lost."""

CAPACITY: Final = 3
"""Maximum number of waiting packets. If more have overtaken a packet, it is lost."""


@dataclass(frozen=True, slots=True)
class AudioPacket:
    """One audio packet. ``timestamp`` as received, modulo 2**32."""

    data: bytes
    timestamp: int
    gap: bool
    """Whether packets before it were lost."""
    key: bool = True
    """Decoding can start at any audio packet."""


class ReorderBuffer:
    """The packets of one stream, put in order."""

    def __init__(self) -> None:
        self.lost = 0
        """The number of packets that did not arrive in time."""
        self._next: int | None = None
        self._waiting: dict[int, tuple[AudioPacket, float]] = {}  # with the time of arrival

    def add(self, number: int, timestamp: int, data: bytes, now: float) -> list[AudioPacket]:
        """Add a packet that arrived at ``now``, in seconds, by its extended sequence number.

        Returns the packets that can be delivered now.
        """
        if self._next is None:
            self._next = number
        if number < self._next or number in self._waiting:
            return []  # a duplicate, or too late
        self._waiting[number] = (AudioPacket(data, timestamp, False), now)
        packets = self._deliver()
        while self._waiting and (
            len(self._waiting) > CAPACITY or now - min(since for _, since in self._waiting.values()) >= MAX_WAIT
        ):
            first = min(self._waiting)
            if first - self._next < RESTART_GAP:  # a restart of the sender loses nothing
                self.lost += first - self._next
            self._next = first
            packet, since = self._waiting[first]
            self._waiting[first] = (AudioPacket(packet.data, packet.timestamp, True), since)
            packets += self._deliver()
        return packets

    def _deliver(self) -> list[AudioPacket]:
        assert self._next is not None
        packets = []
        while (waiting := self._waiting.pop(self._next, None)) is not None:
            self._next += 1
            if waiting[0].data:  # empty: padding
                packets.append(waiting[0])
        return packets
