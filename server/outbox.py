"""What waits for one client: bounded (rule 7), and handed to the socket in one write for as much as there is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Outbox:
    """Whole frames on their way to a transport.

    Args:
        transport: it gets what ``flush`` finds; while it holds octets itself (``pause``), they count as waiting here.
            Its owner passes its ``pause_writing`` on, from the first octet that it holds.
        limit: octets that may wait.
        touched: told when there is something to flush.
    """

    __slots__ = ("_frames", "_limit", "_paused", "_touched", "_transport", "_waiting")

    @property
    def waiting(self) -> int:
        """Octets that wait, here and in the transport."""
        return self._waiting

    def __init__(self, transport: asyncio.Transport, limit: int, touched: Callable[[Outbox], None]) -> None:
        self._transport = transport
        self._limit = limit
        self._touched = touched
        self._frames: list[bytes] = []
        self._waiting = 0  # octets here, and in the transport while it is paused
        self._paused = False

    def put(self, frame: bytes) -> bool:
        """Add a frame. False: it does not fit, and everything that waited here is dropped."""
        waiting = self._waiting + len(frame)
        if waiting > self._limit:
            self._frames.clear()
            return False
        self._waiting = waiting
        self._frames.append(frame)
        if len(self._frames) == 1:
            self._touched(self)
        return True

    def flush(self) -> None:
        """Hand what waits to the socket, unless that is still busy with what it has."""
        frames = self._frames
        if frames and not self._paused:
            octets = frames[0] if len(frames) == 1 else b"".join(frames)
            frames.clear()
            self._transport.write(octets)
            if not self._paused:
                self._waiting = 0

    def finish(self, last: bytes) -> None:
        """Hand over everything and ``last``, busy or not: nothing more will come."""
        octets = b"".join(self._frames) + last
        self._frames.clear()
        if octets and not self._transport.is_closing():
            self._transport.write(octets)

    def pause(self) -> None:
        """The transport could not send all it was given."""
        self._paused = True

    def resume(self) -> None:
        """The transport is empty again."""
        self._paused = False
        self._waiting = sum(map(len, self._frames))
        self.flush()
