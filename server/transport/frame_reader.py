"""Where WebSocket frames begin and end (RFC 6455, section 5.2), so that websockets' protocol gets whole frames only.

Two reasons to look before websockets does:

- A frame over the limit must cost its sender that frame and not the connection (docs/protocol.md, rule 8), and us no
  memory; websockets' parser knows only close code 1009. Here its payload is thrown away as it arrives, and
  websockets is shown the same frame without payload, so that its own checks (masking, opcodes, the order of
  fragments) stay in step.
- Nearly every frame is one whole text message, and nothing about it needs a state machine: it is unmasked and
  handed out directly, which is most of what makes this relay cheap (docs/benchmarks/relay.md). Of who is only there
  it is a pong.
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
    """What ``FrameReader.pull`` found."""

    TEXT = "a whole text message, unmasked"
    PONG = "a pong; nobody asks what it holds"
    RAW = "any other frame, as it came: for websockets"
    HUGE = "a frame over the limit, as websockets is to see it: without its payload"


class FrameReader:
    """Cuts the octets of one client into frames. Holds at most one frame of ``limit`` octets and one read."""

    __slots__ = ("_fragments", "_need", "_pos", "_skip", "held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Octets of one frame's payload. May change between two calls of ``pull``."""
        self.held: bytes | bytearray = b""
        """A frame that is not all here, or that nobody has pulled yet; and what was before it."""
        self._pos = 0
        self._need = 2  # octets from _pos that the next step cannot do without
        self._skip = 0  # octets of a huge payload that are still to come
        self._fragments = False  # a message in fragments is under way

    def feed(self, data: bytes) -> None:
        """Add what was read from the socket; then ``pull`` until it returns None."""
        if self._pos == len(self.held):
            self.held, self._pos = data, 0
            return
        if not isinstance(self.held, bytearray):
            self.held = bytearray(self.held)
        del self.held[: self._pos]
        self.held += data
        self._pos = 0

    def pull(self) -> tuple[Kind, bytes] | None:
        """The next frame, or None when it is not here yet."""
        buffer, pos = self.held, self._pos
        have = len(buffer) - pos
        if self._skip:
            skipped = min(self._skip, have)
            self._skip -= skipped
            self._take(pos + skipped)
            return self.pull() if have > skipped else None
        if have < self._need:
            return None

        head = buffer[pos]
        second = buffer[pos + 1]
        if not second & 0x80 or head & 0x0F not in _OPCODES:  # websockets says so, and ends the connection
            self._take(len(buffer))
            return Kind.RAW, bytes((head, second))
        length = second & 0x7F
        start = pos + 2
        if length >= 126:
            start += 2 if length == 126 else 8
            if not self._reached(start):
                return None
            (length,) = _LENGTH16(buffer, pos + 2) if length == 126 else _LENGTH64(buffer, pos + 2)

        start += 4
        if head & 0x08 and length > 125:  # a control frame; websockets says how long it may be, as above
            self._take(len(buffer))
            return Kind.RAW, bytes((head,)) + _LONG_CONTROL
        if length > self.limit:
            if not self._reached(start):
                return None
            self._take(start)
            self._skip = length
            self._note(head)
            return Kind.HUGE, bytes((head, 0x80)) + _NO_MASK
        end = start + length
        if not self._reached(end):
            return None
        self._take(end)
        if head == 0x81 and not self._fragments:  # FIN, text
            return Kind.TEXT, apply_mask(buffer[start:end], buffer[start - 4 : start])
        if head == 0x8A:  # FIN, pong
            return Kind.PONG, b""
        self._note(head)
        return Kind.RAW, bytes(buffer[pos:end])

    def _reached(self, end: int) -> bool:
        """Whether the buffer goes to ``end``; if not, do not look again before it does."""
        if len(self.held) >= end:
            return True
        self._need = end - self._pos
        return False

    def _note(self, head: int) -> None:
        if not head & 0x08:
            self._fragments = not head & 0x80

    def _take(self, end: int) -> None:
        if end == len(self.held):
            self.held, end = b"", 0
        self._pos = end
        self._need = 2


def text_frame(text: bytes) -> bytes:
    """The WebSocket frame of a whole text message, server to client (unmasked)."""
    length = len(text)
    if length < 126:
        return bytes((0x81, length)) + text
    if length < 65536:
        return b"\x81\x7e" + length.to_bytes(2) + text
    return b"\x81\x7f" + length.to_bytes(8) + text
