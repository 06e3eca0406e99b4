"""The handoff of captured frames from a thread to a busy event loop."""

from __future__ import annotations

import asyncio

from peer.media.frames import EncodedFrame
from peer.media.sources.handoff import Captured, Handoff
from peer.media.sources.passthrough import StreamInfo
from peer.media.test_pattern import Pattern


def _coded(number: int, key: bool) -> EncodedFrame:
    return EncodedFrame("video", "h264", b"x", number, 90_000, key, 0.0, None)


async def _delivered(frames: list[Captured]) -> tuple[list[Captured], int]:
    """Return what is delivered when ``frames`` are posted while the loop is busy."""
    out: list[Captured] = []
    done = asyncio.Event()
    handoff = Handoff(asyncio.get_running_loop(), out.append)
    for frame in frames:
        handoff.post(frame)
    asyncio.get_running_loop().call_soon(done.set)
    await done.wait()
    return out, handoff.dropped


async def test_handoff_encoded_frames_follow_stream_info_in_order() -> None:
    stream_info = StreamInfo("h264")
    frames: list[Captured] = [stream_info, *(_coded(n, n % 25 == 0) for n in range(60))]
    assert await _delivered(frames[:60]) == (frames[:60], 0)


async def test_handoff_overflow_drops_encoded_until_key_frame() -> None:
    out: list[Captured] = []
    handoff = Handoff(asyncio.get_running_loop(), out.append)
    for number in range(70):
        handoff.post(_coded(number, number % 25 == 0))
    await asyncio.sleep(0)
    for number in range(70, 110):
        handoff.post(_coded(number, number % 25 == 0))
    await asyncio.sleep(0)
    assert [frame.timestamp for frame in out] == [*range(60), *range(75, 110)]
    assert handoff.dropped == 15


async def test_handoff_video_does_not_displace_encoded() -> None:
    picture = Pattern(64, 64, 30).draw(0)
    out, dropped = await _delivered([_coded(0, True), picture, picture, picture, _coded(1, False)])
    assert [type(frame) for frame in out] == [EncodedFrame, EncodedFrame, type(picture), type(picture)]
    assert dropped == 1


def test_handoff_post_to_closed_loop_returns_false() -> None:
    """Otherwise a capture thread would read forever."""
    picture = Pattern(64, 64, 30).draw(0)
    loop = asyncio.new_event_loop()
    handoff = Handoff(loop, lambda frame: None)
    assert handoff.post(picture)
    loop.close()
    assert not handoff.post(picture)
    assert not Handoff(loop, lambda frame: None).post(picture)
