"""An in-memory socket: asyncio's transport contract without system calls, fast enough for a thousand runs per second.

Only ``frames`` and ``handshake`` use it; tests/server uses real sockets.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

RESET: Final = "reset"
END: Final = "end"


class MemoryTransport(asyncio.Transport):
    """The relay's end of one connection. ``written`` collects its output."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BufferedProtocol, address: str) -> None:
        super().__init__({"peername": (address, 40_000)})
        self._loop = loop
        self._protocol = protocol
        self.written = bytearray()
        self.fed = bytearray()
        """Bytes passed to the protocol."""
        self.lost = False
        """Whether ``connection_lost`` was scheduled."""
        self.half_closed = False
        self._inbox: deque[bytes | str] = deque()
        self._corked: bytearray | None = None
        self._reading = True
        self._closing = False
        self._stalled = False
        self._held = 0
        self._high = 65_536
        self._paused = False
        protocol.connection_made(self)

    # --- the client's side --------------------------------------------------------------------------------------

    def feed(self, data: bytes | str) -> None:
        """Send bytes, ``END`` or ``RESET``; they are queued while the protocol does not read."""
        if self._corked is not None:
            if isinstance(data, bytes):
                self._corked += data
                return
            self.cork()
        self._inbox.append(data)
        self._deliver()

    def cork(self) -> None:
        """Hold back all further data; the second call delivers it in one piece."""
        corked, self._corked = self._corked, bytearray() if self._corked is None else None
        if corked:
            self.feed(bytes(corked))

    @property
    def unread(self) -> bool:
        """Whether data is queued because the protocol does not read."""
        return bool(self._inbox) and not self._closing

    def stall(self) -> None:
        """Let the client stop reading."""
        self._stalled = True

    def resume(self) -> None:
        """Let the client read everything."""
        self._stalled, self._held = False, 0
        if self._paused:
            self._paused = False
            self._protocol.resume_writing()
        if self._closing:
            self._lose(None)

    def _deliver(self) -> None:
        while self._inbox and self._reading and not self._closing:
            data = self._inbox.popleft()
            if data == RESET:
                self._closing = True
                self._lose(ConnectionResetError())
            elif data == END:
                if not self._protocol.eof_received():
                    self.close()
            else:
                assert isinstance(data, bytes)
                buffer = memoryview(self._protocol.get_buffer(-1))
                count = min(len(buffer), len(data))
                buffer[:count] = data[:count]
                if count < len(data):
                    self._inbox.appendleft(data[count:])
                self.fed += data[:count]
                self._protocol.buffer_updated(count)

    def _lose(self, exc: Exception | None) -> None:
        if not self.lost:
            self.lost = True
            self._loop.call_soon(self._protocol.connection_lost, exc)

    # --- asyncio.Transport --------------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        assert not self.half_closed, "asyncio: Cannot call write() after write_eof()"
        assert data, "write() without data"
        if self.lost:
            return
        self.written += data
        if self._stalled:
            self._held += len(data)
            if self._held > self._high and not self._paused:
                self._paused = True
                self._protocol.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self._high = high

    def write_eof(self) -> None:
        self.half_closed = True

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._closing and not self._reading:
            self._reading = True
            self._loop.call_soon(self._deliver)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        if not self._held:
            self._lose(None)

    def abort(self) -> None:
        self._closing, self._held = True, 0
        self._lose(None)
