"""State of a received stream: fresh buffers whenever it starts or stops being consumed."""

from __future__ import annotations

import asyncio

from peer.rtc.receive_stream import Codec, ReceiveStream
from peer.rtp.depacketizer import ParsedPayload


def _stream_with_a_gap() -> ReceiveStream:
    stream = ReceiveStream(7, Codec("vp8", 90_000, None))
    stream.start_consuming()
    for number in (1, 3):
        stream.nacks.add(number, 0.0)
        stream.assembler.add(number, number, False, ParsedPayload(b"x", True, False))
    assert stream.nacks.missing == 1 and stream.assembler.blocked
    return stream


def test_stream_that_stops_being_consumed_requests_nothing() -> None:
    stream = _stream_with_a_gap()
    stream.stop_consuming()
    assert not stream.consumed
    assert stream.nacks.missing == 0 and not stream.assembler.blocked


def test_stream_that_starts_being_consumed_is_fresh() -> None:
    stream = _stream_with_a_gap()
    stream.stop_consuming()
    stream.skipped_timestamp = 99
    stream.start_consuming()
    assert stream.consumed and stream.skipped_timestamp is None
    assert stream.nacks.add(50, 1.0) == [], "the first packet after a pause reveals no loss"


async def test_cancel_timer_stops_the_next_check() -> None:
    stream = ReceiveStream(7, Codec("vp8", 90_000, None))
    stream.cancel_timer()
    stream.timer = asyncio.get_running_loop().call_later(60, lambda: None)
    stream.cancel_timer()
    assert stream.timer.cancelled()
