"""What waits for one client: bounded (rule 7), and handed to the socket in few large writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ..memory_budget import MESSAGE_OVERHEAD

WRITE: Final = 64 * 1024
"""Octets of a write, or one frame that is larger: the transport keeps what the socket does not take, and what it has
cannot be taken back when memory is needed."""


class Outbox:
    """Whole frames on their way to a transport.

    Args:
        transport: it gets what ``flush`` finds; while it holds octets itself (``pause``), they count as waiting here.
            Its owner passes its ``pause_writing`` on, from the first octet that it holds.
        limit: octets that may wait.
        touched: told when there is something to flush.
        stuck: told when what waits behind a busy socket has become more or less.
    """

    __slots__ = ("_frames", "_limit", "_paused", "_stuck", "_touched", "_transport", "_waiting")

    @property
    def waiting(self) -> int:
        """Octets that wait, here and in the transport."""
        return self._waiting

    @property
    def stuck(self) -> int:
        """What waits because the socket is busy, and what it takes to keep it."""
        return self._waiting + MESSAGE_OVERHEAD * len(self._frames) if self._paused else 0

    def __init__(
        self,
        transport: asyncio.Transport,
        limit: int,
        touched: Callable[[Outbox], None],
        stuck: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._limit = limit
        self._touched = touched
        self._stuck = stuck
        self._frames: list[bytes] = []
        self._waiting = 0  # octets here, and in the transport while it is paused
        self._paused = False

    def put(self, frame: bytes) -> bool:
        """Add a frame. False: it does not fit, and everything that waited here is dropped."""
        waiting = self._waiting + len(frame)
        if waiting > self._limit:
            self.drop()
            return False
        self._waiting = waiting
        self._frames.append(frame)
        if self._paused:
            self._stuck()
        if len(self._frames) == 1:
            self._touched(self)
        return True

    def flush(self) -> None:
        """Hand what waits to the socket, for as long as that takes it."""
        frames = self._frames
        while frames and not self._paused:
            if len(frames) == 1 or self._waiting <= WRITE:
                octets = frames[0] if len(frames) == 1 else b"".join(frames)
                frames.clear()
            else:
                octets = self._first(WRITE)
            self._transport.write(octets)
            if not self._paused:
                self._waiting -= len(octets)

    def finish(self, last: bytes) -> None:
        """Hand over everything and ``last``, busy or not: nothing more will come."""
        octets = b"".join(self._frames) + last
        self._frames.clear()
        if octets and not self._transport.is_closing():
            self._waiting += len(last)
            self._transport.write(octets)
            if self._paused:
                self._stuck()

    def drop(self) -> None:
        """Forget what waits here; what the transport has already is on its way."""
        self._waiting -= sum(map(len, self._frames))
        self._frames.clear()
        if self._paused:
            self._stuck()

    def pause(self) -> None:
        """The transport could not send all it was given."""
        self._paused = True
        self._stuck()

    def resume(self) -> None:
        """The transport is empty again."""
        self._paused = False
        self._waiting = sum(map(len, self._frames))
        self._stuck()
        self.flush()

    def end(self) -> None:
        """The transport is gone, and what waits with it. Nobody is told any more: who asked to be refers to this
        outbox, and would wait with it for the garbage collector."""
        self._frames.clear()
        self._waiting = 0
        self._stuck = _nothing

    def _first(self, most: int) -> bytes:
        """The first frames, ``most`` octets at most but one frame at least."""
        size = count = 0
        for frame in self._frames:
            if count and size + len(frame) > most:
                break
            size += len(frame)
            count += 1
        octets = b"".join(self._frames[:count])
        del self._frames[:count]
        return octets


def _nothing() -> None:
    pass
