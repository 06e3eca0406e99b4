"""Packets put together to pictures, each handed out with its last packet. PURE.

The law:

- A picture is whole when all its packets are there, and its last one is told by the marker bit (RFC 6184 5.1, RFC
  7741 4.1), or by the timestamp of the packet after it, for senders that set none.
- Pictures come out in order and never twice. What is missing holds up what comes after it, until it comes, or is
  given up by ``skip``, or a whole key frame stands behind it: nobody needs what lies before that.
- Of the picture that a gap tore, nothing comes out; the next one begins where a packet says so, or where the
  timestamp changes.

Each packet is looked at once, whatever the size of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .depacketizer import Piece

CAPACITY: Final = 1024
"""Packets, one of which is missing: 1.5 s at 6 Mbit/s. Far more than any answer to a request takes."""

MAX_OCTETS: Final = 8 << 20
"""Of one picture; a key frame of 4K has one or two million. A sender that ends none would fill the memory."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One coded picture. ``timestamp`` as it came, modulo 2**32."""

    data: bytes
    timestamp: int
    key: bool
    gap: bool
    """Whether pictures before it were lost, or not seen: a decoder should wait for a key frame."""


class Pictures:
    """Puts the packets of one stream together. ``torn`` counts what was given up, one at least for each gap."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.torn = 0
        self._waiting: dict[int, tuple[int, bool, Piece]] = {}  # number -> timestamp, marker, piece
        self._next: int | None = None  # the number that is looked at next: all before it is done with
        self._parts: list[bytes] = []
        self._octets = 0
        self._timestamp = 0
        self._key = False
        self._gap = True  # we did not see what was before
        self._torn: int | None = None  # the timestamp of a picture whose beginning is lost

    @property
    def next(self) -> int | None:
        """The number that is waited for: below it nothing is missing any more."""
        return self._next

    @property
    def blocked(self) -> bool:
        """Whether packets wait behind one that is missing."""
        return bool(self._waiting)

    def add(self, number: int, timestamp: int, marker: bool, piece: Piece) -> list[Picture]:
        """A packet came; ``number`` is its extended sequence number. What is whole now, mostly nothing or one."""
        if self._next is None:
            self._next, self._torn = number, None if piece.starts else timestamp
        if number < self._next or number in self._waiting:
            return []  # twice, or too late
        if number - self._next >= self.capacity:
            return self._restart(number, timestamp, marker, piece)
        done: list[Picture] = []
        if number == self._next:
            self._look(timestamp, marker, piece, done)
            if not self._waiting:
                return done
        else:
            self._waiting[number] = (timestamp, marker, piece)
            self._jump_to_key(number, timestamp)
        self._advance(done)
        return done

    def skip(self) -> list[Picture]:
        """Give up what is missing first, and the picture it belongs to. What is whole behind it."""
        done: list[Picture] = []
        if self._waiting:
            self._leave_to(min(self._waiting))
            self._advance(done)
        return done

    def _restart(self, number: int, timestamp: int, marker: bool, piece: Piece) -> list[Picture]:
        """What is missing will not come any more."""
        self._waiting.clear()
        self._leave_to(number, (timestamp, marker, piece))
        return self.add(number, timestamp, marker, piece)

    def _leave_to(self, number: int, packet: tuple[int, bool, Piece] | None = None) -> None:
        """Go on at ``number``, which is there. Its picture is torn if we cannot be sure that it begins with it."""
        timestamp, _, piece = packet or self._waiting[number]
        self._next = number
        self._tear(None if piece.starts else timestamp)

    def _tear(self, timestamp: int | None) -> None:
        """Nothing comes out of the picture that was put together, nor of the one of ``timestamp``."""
        self._parts, self._octets, self._key = [], 0, False
        self._gap, self._torn = True, timestamp
        self.torn += 1

    def _advance(self, done: list[Picture]) -> None:
        assert self._next is not None
        while (packet := self._waiting.pop(self._next, None)) is not None:
            self._look(*packet, done)

    def _look(self, timestamp: int, marker: bool, piece: Piece, done: list[Picture]) -> None:
        """The packet that was waited for."""
        assert self._next is not None
        self._next += 1
        if self._torn is not None:
            if timestamp == self._torn and not piece.starts:
                if marker:
                    self._torn = None
                return
            self._torn = None
        if self._parts and timestamp != self._timestamp:
            self._finish(done)
        if piece.data:
            self._octets += len(piece.data)
            if self._octets > MAX_OCTETS:
                self._tear(timestamp)
                return
            self._parts.append(piece.data)
            self._timestamp = timestamp
            self._key = self._key or piece.key
        if marker and self._parts:
            self._finish(done)

    def _finish(self, done: list[Picture]) -> None:
        done.append(Picture(b"".join(self._parts), self._timestamp, self._key, self._gap))
        self._parts, self._octets, self._key, self._gap = [], 0, False, False

    def _jump_to_key(self, number: int, timestamp: int) -> None:
        """If ``number`` completes a key frame, leave all that is missing before it."""
        waiting, last, first = self._waiting, number, number
        while not waiting[last][1]:  # to its marker
            last += 1
            if last not in waiting or waiting[last][0] != timestamp:
                return
        while not waiting[first][2].starts:  # and back to its beginning
            first -= 1
            if first not in waiting or waiting[first][0] != timestamp:
                return
        if any(waiting[at][2].key for at in range(first, last + 1)):
            for at in [at for at in waiting if at < first]:
                del waiting[at]
            self._leave_to(first)
