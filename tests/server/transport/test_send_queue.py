"""The queue against a transport that takes as much as the test says."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from server.transport.send_queue import SendQueue


class Socket(asyncio.Transport):
    """Keeps what its kernel does not take, and says so as asyncio's transports do."""

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


def test_many_frames_are_one_write_and_one_touch() -> None:
    box, socket, touched = queue()
    socket.room = 100
    assert box.put(b"a") and box.put(b"b")
    assert touched == [box] and socket.sent == b""
    box.flush()
    assert socket.sent == b"ab"


def test_what_the_transport_still_holds_counts() -> None:
    box, _, _ = queue(limit=10)
    assert box.put(b"x" * 6)
    box.flush()
    assert box.put(b"y" * 4) and not box.put(b"z")


def test_a_busy_transport_gets_no_more_until_it_is_empty() -> None:
    box, socket, _ = queue()
    for frame in (b"one", b"two", b"three"):
        assert box.put(frame)
        box.flush()
    assert socket.held == b"one"
    socket.drain(100)
    assert socket.sent == b"onetwothree"


def test_the_last_words_follow_a_frame_that_is_half_sent() -> None:
    box, socket, _ = queue(limit=10)
    socket.room = 2
    box.put(b"12345678")
    box.flush()
    assert not box.put(b"more")
    box.finish(b"bye")
    socket.drain(100)
    assert socket.sent == b"12345678bye"


@given(st.lists(st.integers(0, 40) | st.just("flush"), max_size=60))
def test_what_was_put_arrives_in_order_and_never_more_waits_than_the_limit(steps: list[int | str]) -> None:
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
