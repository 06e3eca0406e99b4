"""Send queue of one client: bounded (rule 7), and written to the socket in few large writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ..memory_budget import MESSAGE_OVERHEAD

MAX_WRITE: Final = 64 * 1024
"""Maximum size of one write, in bytes, unless a single frame is larger.

The transport keeps what the socket does not accept, and that cannot be dropped when memory is needed.
"""


class SendQueue:
    """WebSocket frames on their way to a transport.

    Args:
        transport: receives the frames. Its owner passes on ``pause_writing`` and ``resume_writing``; while paused,
            bytes in the transport count as queued here.
        limit: maximum number of queued bytes.
        request_flush: called with this queue when the first frame is added.
        blocked_changed: called when the amount of data held back by a blocked socket changes.
    """

    __slots__ = ("_blocked_changed", "_frames", "_limit", "_paused", "_request_flush", "_size", "_transport")

    def __init__(
        self,
        transport: asyncio.Transport,
        limit: int,
        request_flush: Callable[[SendQueue], None],
        blocked_changed: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._limit = limit
        self._request_flush = request_flush
        self._blocked_changed = blocked_changed
        self._frames: list[bytes] = []
        self._size = 0  # bytes here, and in the transport while it is paused
        self._paused = False

    @property
    def size(self) -> int:
        """Bytes in the queue and in a paused transport."""
        return self._size

    @property
    def blocked(self) -> int:
        """Bytes held back because the socket accepts no more, with the overhead of each frame."""
        return self._size + MESSAGE_OVERHEAD * len(self._frames) if self._paused else 0

    def put(self, frame: bytes) -> bool:
        """Add a frame. ``False``: it does not fit, and all frames were dropped."""
        size = self._size + len(frame)
        if size > self._limit:
            self.drop()
            return False
        self._size = size
        self._frames.append(frame)
        if self._paused:
            self._blocked_changed()
        if len(self._frames) == 1:
            self._request_flush(self)
        return True

    def flush(self) -> None:
        """Write frames to the transport until it is paused."""
        frames = self._frames
        while frames and not self._paused:
            if len(frames) == 1 or self._size <= MAX_WRITE:
                data = frames[0] if len(frames) == 1 else b"".join(frames)
                frames.clear()
            else:
                data = self._take(MAX_WRITE)
            self._transport.write(data)
            if not self._paused:
                self._size -= len(data)

    def finish(self, last: bytes) -> None:
        """Write all frames and ``last``, even if the transport is paused. No frame may be added after this."""
        data = b"".join(self._frames) + last
        self._frames.clear()
        if data and not self._transport.is_closing():
            self._size += len(last)
            self._transport.write(data)
            if self._paused:
                self._blocked_changed()

    def drop(self) -> None:
        """Drop all frames that the transport does not have yet."""
        self._size -= sum(map(len, self._frames))
        self._frames.clear()
        if self._paused:
            self._blocked_changed()

    def pause(self) -> None:
        """Stop writing: the transport has not sent everything that was written."""
        self._paused = True
        self._blocked_changed()

    def resume(self) -> None:
        """Continue writing: the transport is empty again."""
        self._paused = False
        self._size = sum(map(len, self._frames))
        self._blocked_changed()
        self.flush()

    def close(self) -> None:
        """Drop everything, because the transport is closed.

        Also drops the callback: it refers to the owner, and the cycle would keep both until a garbage collection.
        """
        self._frames.clear()
        self._size = 0
        self._blocked_changed = _nothing

    def _take(self, limit: int) -> bytes:
        """Remove and return the first frames: at most ``limit`` bytes, but at least one frame."""
        size = count = 0
        for frame in self._frames:
            if count and size + len(frame) > limit:
                break
            size += len(frame)
            count += 1
        data = b"".join(self._frames[:count])
        del self._frames[:count]
        return data


def _nothing() -> None:
    pass
