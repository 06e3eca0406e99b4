"""Captured frames on their way from a thread into a busy event loop."""

from __future__ import annotations

import asyncio

from peer.media.frames import EncodedFrame
from peer.media.sources.handoff import Captured, Handoff
from peer.media.sources.passthrough import StreamInfo
from peer.media.test_pattern import Pattern


def _coded(number: int, key: bool) -> EncodedFrame:
    return EncodedFrame("video", "h264", b"x", number, 90_000, key, 0.0, None)


async def _delivered(frames: list[Captured]) -> tuple[list[Captured], int]:
    """What comes out when ``frames`` are posted while the loop is busy."""
    out: list[Captured] = []
    done = asyncio.Event()
    mailbox = Handoff(asyncio.get_running_loop(), out.append)
    for frame in frames:
        mailbox.post(frame)
    asyncio.get_running_loop().call_soon(done.set)
    await done.wait()
    return out, mailbox.dropped


async def test_packets_come_out_whole_and_in_order_behind_what_is_known_of_them() -> None:
    stream_info = StreamInfo("h264")
    frames: list[Captured] = [stream_info, *(_coded(n, n % 25 == 0) for n in range(60))]
    assert await _delivered(frames[:60]) == (frames[:60], 0)


async def test_a_busy_loop_loses_packets_up_to_the_next_key_frame_it_has_room_for() -> None:
    out: list[Captured] = []
    mailbox = Handoff(asyncio.get_running_loop(), out.append)
    for number in range(70):
        mailbox.post(_coded(number, number % 25 == 0))
    await asyncio.sleep(0)
    for number in range(70, 110):
        mailbox.post(_coded(number, number % 25 == 0))
    await asyncio.sleep(0)
    assert [frame.timestamp for frame in out] == [*range(60), *range(75, 110)]
    assert mailbox.dropped == 15


async def test_pictures_do_not_push_packets_out() -> None:
    picture = Pattern(64, 64, 30).draw(0)
    out, dropped = await _delivered([_coded(0, True), picture, picture, picture, _coded(1, False)])
    assert [type(frame) for frame in out] == [EncodedFrame, EncodedFrame, type(picture), type(picture)]
    assert dropped == 1


def test_a_loop_that_closes_before_it_takes_a_frame_wants_no_more_of_them() -> None:
    """A reader that is told otherwise reads for ever."""
    picture = Pattern(64, 64, 30).draw(0)
    loop = asyncio.new_event_loop()
    mailbox = Handoff(loop, lambda frame: None)
    assert mailbox.post(picture)
    loop.close()
    assert not mailbox.post(picture)
    assert not Handoff(loop, lambda frame: None).post(picture)
