"""Received media: decoded only while it has readers, from a key frame on, across connections."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator

import pytest

from peer.media.frames import EncodedFrame
from peer.media.incoming.track import FirstFrame, IncomingMedia
from tests.media import encoded_frames
from tests.waiting import until


class Remote:
    """Incoming media, and the key frame requests sent to the remote."""

    def __init__(self) -> None:
        self.first_frames: list[FirstFrame] = []
        self.requests = 0
        self.media = IncomingMedia(self.first_frames.append)
        self.media.video.attach(self.request_key_frame)
        self.media.audio.attach(self.request_key_frame)

    def request_key_frame(self) -> None:
        self.requests += 1

    @property
    def counters(self) -> tuple[int, int]:
        return self.media.video.counters.decoded, self.media.video.counters.skipped


@pytest.fixture
async def remote() -> AsyncIterator[Remote]:
    remote = Remote()
    yield remote
    remote.media.close()
    await until(lambda: not threads("video") + threads("audio"))


@pytest.fixture(scope="module")
def frames() -> list[EncodedFrame]:
    return encoded_frames.video_frames("vp8", 20)


def threads(kind: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"{kind}-decoder"]


async def decode_first_frame(remote: Remote, frames: list[EncodedFrame]) -> None:
    remote.media.video.put(frames[0])
    await until(lambda: remote.first_frames)


async def test_first_frame_is_decoded_without_readers(remote: Remote, frames: list[EncodedFrame]) -> None:
    assert remote.media.video.needed
    await decode_first_frame(remote, frames)
    assert remote.first_frames == [FirstFrame(160, 120, "vp8")]
    assert not remote.media.video.needed
    await until(lambda: not threads("video"))
    for frame in frames[1:]:
        remote.media.video.put(frame)
    assert remote.counters == (1, 0)
    assert not threads("video")
    assert remote.media.video.counters.frames == 20


async def test_audio_is_decoded_only_with_a_reader(remote: Remote) -> None:
    packets = encoded_frames.audio_frames("opus", 10)
    assert not remote.media.audio.needed
    for packet in packets[:5]:
        remote.media.audio.put(packet)
    assert not threads("audio")
    with remote.media.audio.frames.read(10) as reader:
        for packet in packets[5:]:
            remote.media.audio.put(packet)
        async with asyncio.timeout(10):
            decoded = [await reader.get() for _ in packets[5:]]
    assert [frame.pts for frame in decoded] == [packet.timestamp for packet in packets[5:]]
    await until(lambda: not threads("audio"))
    assert remote.requests == 0


async def test_reader_starts_at_a_requested_key_frame(remote: Remote, frames: list[EncodedFrame]) -> None:
    await decode_first_frame(remote, frames)
    with remote.media.video.frames.read() as reader:
        remote.media.video.put(frames[1])
        assert (remote.counters, remote.requests) == ((1, 1), 1)
        remote.media.video.put(frames[2])
        assert remote.requests == 1, "requests are limited"
        remote.media.video.put(frames[0])
        async with asyncio.timeout(10):
            assert (await reader.get()).width == 160


async def test_new_reader_of_a_started_stream_requests_a_key_frame(
    remote: Remote, frames: list[EncodedFrame]
) -> None:
    with remote.media.video.frames.read():
        assert remote.requests == 0, "a stream starts with a key frame"
    await decode_first_frame(remote, frames)
    with remote.media.video.frames.read():
        assert remote.requests == 1, "static video has at most one frame per second, which is too late to ask"


async def test_gap_stops_decoding_until_the_next_key_frame(remote: Remote, frames: list[EncodedFrame]) -> None:
    with remote.media.video.frames.read(10):
        remote.media.video.put(frames[0])
        remote.media.video.put(dataclasses.replace(frames[2], gap=True))
        remote.media.video.put(frames[3])
        assert remote.media.video.counters.skipped == 2
        remote.media.video.put(dataclasses.replace(frames[0], gap=True))
        await until(lambda: remote.counters == (2, 2))


async def test_video_loss_requests_a_key_frame_at_once(remote: Remote, frames: list[EncodedFrame]) -> None:
    with remote.media.video.frames.read():
        remote.media.video.report_loss(1)
        assert (remote.requests, remote.media.video.counters.lost) == (1, 1)
    remote.media.audio.report_loss(3)
    assert (remote.requests, remote.media.audio.counters.lost) == (1, 3), "audio has no key frames"


async def test_undecodable_frame_requests_a_key_frame(remote: Remote) -> None:
    broken = EncodedFrame("video", "nothing", b"x", 0, 90_000, True, 0.0, None)
    with remote.media.video.frames.read():
        remote.media.video.put(broken)
        await until(lambda: remote.media.video.counters.decoder_dropped == 1)
        assert remote.requests == 1


async def test_slow_decoder_requests_a_key_frame(remote: Remote) -> None:
    (key, *_) = encoded_frames.video_frames("vp8", 1, (1280, 720))
    with remote.media.video.frames.read():
        for _ in range(400):
            remote.media.video.put(key)
        assert remote.media.video.counters.decoder_dropped > 0
        assert remote.requests == 1


async def test_readers_outlive_a_replaced_connection(remote: Remote, frames: list[EncodedFrame]) -> None:
    requests: list[str] = []

    def request_key_frame() -> None:
        requests.append("new connection")

    with remote.media.video.frames.read() as reader:
        remote.media.video.put(frames[0])
        await until(lambda: remote.counters[0] == 1)
        remote.media.video.attach(request_key_frame)
        remote.media.video.detach(remote.request_key_frame)  # the old connection ends after the new one has attached
        remote.media.video.put(frames[1])
        assert requests == ["new connection"]
        remote.media.video.put(frames[0])
        await until(lambda: remote.counters[0] == 2)
        assert not reader.closed
        remote.media.video.detach(request_key_frame)
        await until(lambda: not threads("video"))


async def test_recorded_media_is_needed_but_not_decoded(remote: Remote, frames: list[EncodedFrame]) -> None:
    await decode_first_frame(remote, frames)
    with remote.media.encoded.read(50) as reader:
        assert remote.media.video.needed and remote.media.audio.needed
        remote.media.video.put(frames[1])
        assert reader.get_nowait() is frames[1]
        assert remote.counters == (1, 0)


async def test_close_ends_all_readers(remote: Remote, frames: list[EncodedFrame]) -> None:
    readers = [remote.media.video.frames.read(), remote.media.audio.frames.read(), remote.media.encoded.read()]
    remote.media.video.put(frames[0])
    remote.media.close()
    assert all(reader.closed for reader in readers)
    remote.media.video.put(frames[0])  # the connection ends after the call
    await until(lambda: not threads("video"))
    assert not remote.media.video.needed
