"""The send queue with a transport that accepts as much as the test allows."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from server.transport.send_queue import SendQueue


class Socket(asyncio.Transport):
    """A transport that keeps what its kernel does not accept, and pauses as asyncio's do."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: SendQueue
        self.room = 0
        self.held = b""
        self.sent = b""

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        was_empty = not self.held
        self.held += bytes(data)
        self._send()
        if was_empty and self.held:
            self.queue.pause()

    def drain(self, room: int) -> None:
        self.room += room
        if self.held:
            self._send()
            if not self.held:
                self.queue.resume()

    def _send(self) -> None:
        self.sent += self.held[: self.room]
        taken = min(self.room, len(self.held))
        self.held, self.room = self.held[taken:], self.room - taken


def queue(limit: int = 100) -> tuple[SendQueue, Socket, list[SendQueue]]:
    touched: list[SendQueue] = []
    socket = Socket()
    socket.queue = SendQueue(socket, limit, touched.append, lambda: None)
    return socket.queue, socket, touched


def test_many_frames_make_one_write_and_one_flush_request() -> None:
    box, socket, touched = queue()
    socket.room = 100
    assert box.put(b"a") and box.put(b"b")
    assert touched == [box] and socket.sent == b""
    box.flush()
    assert socket.sent == b"ab"


def test_bytes_in_a_paused_transport_count() -> None:
    box, _, _ = queue(limit=10)
    assert box.put(b"x" * 6)
    box.flush()
    assert box.put(b"y" * 4) and not box.put(b"z")


def test_paused_transport_gets_no_frames() -> None:
    box, socket, _ = queue()
    for frame in (b"one", b"two", b"three"):
        assert box.put(frame)
        box.flush()
    assert socket.held == b"one"
    socket.drain(100)
    assert socket.sent == b"onetwothree"


def test_finish_writes_after_a_partly_sent_frame() -> None:
    box, socket, _ = queue(limit=10)
    socket.room = 2
    box.put(b"12345678")
    box.flush()
    assert not box.put(b"more")
    box.finish(b"bye")
    socket.drain(100)
    assert socket.sent == b"12345678bye"


@given(st.lists(st.integers(0, 40) | st.just("flush"), max_size=60))
def test_frames_arrive_in_order_within_the_limit(steps: list[int | str]) -> None:
    box, socket, touched = queue(limit=50)
    expected, count = b"", 0
    for step in steps:
        if step == "flush":
            for each in touched:
                each.flush()
            touched.clear()
        elif isinstance(step, int) and step % 2:
            socket.drain(step)
        else:
            count += 1
            frame = bytes([count]) * int(step)
            if not box.put(frame):
                break
            expected += frame
        assert len(expected) - len(socket.sent) <= 50
    else:
        socket.drain(10_000)
        box.flush()
        assert socket.sent == expected
