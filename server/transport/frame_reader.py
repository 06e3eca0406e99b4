"""Boundaries of WebSocket frames (RFC 6455, section 5.2), so that websockets' protocol receives whole frames only.

There are two reasons to cut frames before websockets does:

- A frame over the limit must cost its sender only that frame, not the connection (docs/protocol.md, rule 8), and the
  relay no memory. websockets' parser would close with 1009. Here the payload is discarded as it arrives, and
  websockets receives the same frame without payload, so that its own checks (masking, opcodes, order of fragments)
  remain correct.
- Nearly every frame is a whole text message and needs no state machine. It is unmasked and returned directly, which
  is the main reason why this relay is cheap (docs/benchmarks/relay.md). For an idle client it is a pong.
"""

from __future__ import annotations

from enum import Enum
from struct import Struct
from typing import Final

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without the C extension
    from websockets.utils import apply_mask

_LENGTH16: Final = Struct("!H").unpack_from
_LENGTH64: Final = Struct("!Q").unpack_from
_OPCODES: Final = frozenset((0, 1, 2, 8, 9, 10))
_NO_MASK: Final = bytes(4)
_LONG_CONTROL: Final = bytes((0xFE, 0, 126)) + bytes(4 + 126)


class Kind(Enum):
    """Kind of a frame that ``FrameReader.pull`` returns."""

    TEXT = "a whole text message, unmasked"
    PONG = "a pong; its payload is not used"
    RAW = "any other frame, unchanged, for websockets"
    TOO_LARGE = "a frame over the limit, without its payload, for websockets"
    ILLEGAL = "a length that RFC 6455 5.2 forbids; nothing after it is read"


class FrameReader:
    """The data of one client, cut into frames. Holds at most one frame of ``limit`` bytes and one read."""

    __slots__ = ("_fragments", "_need", "_pos", "_skip", "buffer", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Maximum size of one frame's payload, in bytes. May change between two calls of ``pull``."""
        self.buffer: bytes | bytearray = b""
        """Frames that are incomplete or were not pulled yet, and frames already pulled from the same read."""
        self._pos = 0
        self._need = 2  # bytes from _pos that the next step needs
        self._skip = 0  # bytes still to come of a payload that is too large
        self._fragments = False  # whether a fragmented message is incomplete

    def feed(self, data: bytes) -> None:
        """Add data from the socket. Call ``pull`` until it returns ``None`` before the next call."""
        if self._pos == len(self.buffer):
            self.buffer, self._pos = data, 0
            return
        if not isinstance(self.buffer, bytearray):
            self.buffer = bytearray(self.buffer)
        del self.buffer[: self._pos]
        self.buffer += data
        self._pos = 0

    def pull(self) -> tuple[Kind, bytes] | None:
        """Return the next frame, or ``None`` if it is not complete."""
        data, pos = self.buffer, self._pos
        have = len(data) - pos
        if self._skip:
            skipped = min(self._skip, have)
            self._skip -= skipped
            self._take(pos + skipped)
            return self.pull() if have > skipped else None
        if have < self._need:
            return None

        head = data[pos]
        second = data[pos + 1]
        if not second & 0x80 or head & 0x0F not in _OPCODES:  # websockets rejects it, and ends the connection
            self._take(len(data))
            return Kind.RAW, bytes((head, second))
        length = second & 0x7F
        start = pos + 2
        if length >= 126:
            start += 2 if length == 126 else 8
            if not self._reached(start):
                return None
            (length,) = _LENGTH16(data, pos + 2) if length == 126 else _LENGTH64(data, pos + 2)

        if length >> 63:  # the most significant bit must be 0; websockets does not check it
            self._take(len(data))
            return Kind.ILLEGAL, b""
        start += 4
        if head & 0x08 and length > 125:  # a control frame that is too long: as above
            self._take(len(data))
            return Kind.RAW, bytes((head,)) + _LONG_CONTROL
        if length > self.limit:
            if not self._reached(start):
                return None
            self._take(start)
            self._skip = length
            self._note(head)
            return Kind.TOO_LARGE, bytes((head, 0x80)) + _NO_MASK
        end = start + length
        if not self._reached(end):
            return None
        self._take(end)
        if head == 0x81 and not self._fragments:  # FIN, text
            return Kind.TEXT, apply_mask(data[start:end], data[start - 4 : start])
        if head == 0x8A:  # FIN, pong
            return Kind.PONG, b""
        self._note(head)
        return Kind.RAW, bytes(data[pos:end])

    def _reached(self, end: int) -> bool:
        """Whether the buffer reaches up to ``end``. If not, ``pull`` returns ``None`` until it does."""
        if len(self.buffer) >= end:
            return True
        self._need = end - self._pos
        return False

    def _note(self, head: int) -> None:
        if not head & 0x08:
            self._fragments = not head & 0x80

    def _take(self, end: int) -> None:
        if end == len(self.buffer):
            self.buffer, end = b"", 0
        self._pos = end
        self._need = 2


def text_frame(text: bytes) -> bytes:
    """Return the WebSocket frame of a text message from server to client, which is not masked."""
    length = len(text)
    if length < 126:
        return bytes((0x81, length)) + text
    if length < 65536:
        return b"\x81\x7e" + length.to_bytes(2) + text
    return b"\x81\x7f" + length.to_bytes(8) + text
