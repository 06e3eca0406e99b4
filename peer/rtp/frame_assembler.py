"""Assembly of video frames from packets; each frame is delivered with its last packet. Pure.

Rules:

- A frame is complete when all its packets have arrived. Its last packet has the marker bit (RFC 6184 5.1, RFC 7741
  4.1); where the sender sets none, the next packet's timestamp shows the end.
- Frames are delivered in order and once. A missing packet delays all later frames until it arrives, is given up by
  ``skip_missing``, or a complete key frame has arrived behind it, which decodes without earlier frames.
- A frame with a lost packet is not delivered. The next frame begins at a packet that certainly starts one, or where
  the timestamp changes.

Each packet is processed once, whatever the size of the frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .depacketizer import ParsedPayload

CAPACITY: Final = 1024
"""Maximum span of buffered packets, in sequence numbers. At 6 Mbit/s it is 1.5 s, and a retransmission takes much
less."""

MAX_BYTES: Final = 8 << 20
"""Maximum memory of one stream, in bytes: buffered packets and the frame that is being assembled. A 4K key frame has
one to two million bytes. A sender that never ends a frame, or omits one packet, would fill the memory."""

PACKET_OVERHEAD: Final = 320
"""Memory of a buffered packet besides its payload, in bytes, 264 measured with CPython 3.11, and a
reserve. Without it, packets of one byte would take 264 times ``MAX_BYTES``."""


@dataclass(frozen=True, slots=True)
class AssembledFrame:
    """One encoded video frame. ``timestamp`` as received, modulo 2**32."""

    data: bytes
    timestamp: int
    key: bool
    gap: bool
    """Whether frames before it were lost, or not received. The decoder should wait for a key frame."""


class FrameAssembler:
    """The frame assembler of one stream."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.incomplete = 0
        """The number of frames given up, at least one per gap."""
        self._buffered: dict[int, tuple[int, bool, ParsedPayload]] = {}  # number -> timestamp, marker, payload
        self._next: int | None = None
        self._parts: list[bytes] = []
        self._size = 0  # memory of _parts
        self._buffered_size = 0  # memory of _buffered
        self._timestamp = 0
        self._key = False
        self._gap = True  # nothing is known about frames before the first packet
        self._discarding: int | None = None  # timestamp of a frame whose first packets are lost

    @property
    def next_number(self) -> int | None:
        """The extended sequence number of the next packet to process. Packets below it are no longer needed."""
        return self._next

    @property
    def blocked(self) -> bool:
        """Whether packets are buffered behind a missing one."""
        return bool(self._buffered)

    def add(self, number: int, timestamp: int, marker: bool, payload: ParsedPayload) -> list[AssembledFrame]:
        """Add a packet by its extended sequence number. Return the frames that it completes, mostly none or one."""
        if self._next is None:
            self._next, self._discarding = number, None if payload.starts_frame else timestamp
        if number < self._next or number in self._buffered:
            return []  # a duplicate, or too late
        overtakes = number != self._next
        if number - self._next >= self.capacity or (overtakes and not self._has_room(payload)):
            self._buffered.clear()
            self._buffered_size = 0
            self._continue_at(number, timestamp, payload)
        frames: list[AssembledFrame] = []
        if number == self._next:
            self._process(timestamp, marker, payload, frames)
            if not self._buffered:
                return frames
        else:
            self._buffered[number] = (timestamp, marker, payload)
            self._buffered_size += _memory(payload)
            self._skip_to_key_frame(number, timestamp)
        self._process_buffered(frames)
        return frames

    def skip_missing(self) -> list[AssembledFrame]:
        """Give up the first missing packets and their frame. Return the frames that are complete behind them."""
        frames: list[AssembledFrame] = []
        if self._buffered:
            number = min(self._buffered)
            timestamp, _, payload = self._buffered[number]
            self._continue_at(number, timestamp, payload)
            self._process_buffered(frames)
        return frames

    def _has_room(self, payload: ParsedPayload) -> bool:
        return self._size + self._buffered_size + _memory(payload) <= MAX_BYTES

    def _continue_at(self, number: int, timestamp: int, payload: ParsedPayload) -> None:
        """Give up all packets before this one, and its frame too unless that certainly starts here."""
        self._next = number
        self._discard(None if payload.starts_frame else timestamp)

    def _discard(self, timestamp: int | None) -> None:
        """Drop the frame that is being assembled, and further packets of the frame with ``timestamp``."""
        self._parts, self._size, self._key = [], 0, False
        self._gap, self._discarding = True, timestamp
        self.incomplete += 1

    def _process_buffered(self, frames: list[AssembledFrame]) -> None:
        assert self._next is not None
        while (packet := self._buffered.pop(self._next, None)) is not None:
            self._buffered_size -= _memory(packet[2])
            self._process(*packet, frames)

    def _process(self, timestamp: int, marker: bool, payload: ParsedPayload, frames: list[AssembledFrame]) -> None:
        assert self._next is not None
        self._next += 1
        if self._discarding is not None:
            if timestamp == self._discarding and not payload.starts_frame:
                if marker:
                    self._discarding = None
                return
            self._discarding = None
        if self._parts and timestamp != self._timestamp:
            self._deliver(frames)
        if payload.data:
            if not self._has_room(payload):
                self._discard(timestamp)
                return
            self._size += _memory(payload)
            self._parts.append(payload.data)
            self._timestamp = timestamp
            self._key = self._key or payload.key_frame
        if marker and self._parts:
            self._deliver(frames)

    def _deliver(self, frames: list[AssembledFrame]) -> None:
        frames.append(AssembledFrame(b"".join(self._parts), self._timestamp, self._key, self._gap))
        self._parts, self._size, self._key, self._gap = [], 0, False, False

    def _skip_to_key_frame(self, number: int, timestamp: int) -> None:
        """If packet ``number`` completes a key frame, give up all packets before that frame."""
        buffered, first, last = self._buffered, number, number
        while not buffered[last][1]:  # forward to its marker
            last += 1
            if last not in buffered or buffered[last][0] != timestamp:
                return
        while not buffered[first][2].starts_frame:  # back to its first packet
            first -= 1
            if first not in buffered or buffered[first][0] != timestamp:
                return
        if any(buffered[at][2].key_frame for at in range(first, last + 1)):
            for at in [at for at in buffered if at < first]:
                self._buffered_size -= _memory(buffered.pop(at)[2])
            self._continue_at(first, timestamp, buffered[first][2])


def _memory(payload: ParsedPayload) -> int:
    return len(payload.data) + PACKET_OVERHEAD
