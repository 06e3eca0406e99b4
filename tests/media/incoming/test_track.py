"""What a remote sends: decoded only while somebody looks, from a key frame on, over any number of connections."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator

import pytest

from peer.media.frames import EncodedFrame
from peer.media.incoming.track import FirstPicture, IncomingMedia
from tests.media import coded
from tests.waiting import until


class Remote:
    """Incoming media, and what was asked of the other side."""

    def __init__(self) -> None:
        self.firsts: list[FirstPicture] = []
        self.asked = 0
        self.media = IncomingMedia(self.firsts.append)
        self.media.video.attach(self.ask)
        self.media.audio.attach(self.ask)

    def ask(self) -> None:
        self.asked += 1

    @property
    def counters(self) -> tuple[int, int]:
        return self.media.video.counters.decoded, self.media.video.counters.skipped


@pytest.fixture
async def remote() -> AsyncIterator[Remote]:
    made = Remote()
    yield made
    made.media.close()
    await until(lambda: not threads("video") + threads("audio"))


@pytest.fixture(scope="module")
def frames() -> list[EncodedFrame]:
    return coded.pictures("vp8", 20)


def threads(kind: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"{kind}-decoder"]


async def first_picture(remote: Remote, frames: list[EncodedFrame]) -> None:
    remote.media.video.feed(frames[0])
    await until(lambda: remote.firsts)


async def test_the_first_picture_is_decoded_though_nobody_looks(remote: Remote, frames: list[EncodedFrame]) -> None:
    assert remote.media.video.wanted
    await first_picture(remote, frames)
    assert remote.firsts == [FirstPicture(160, 120, "vp8")]
    assert not remote.media.video.wanted
    await until(lambda: not threads("video"))
    for frame in frames[1:]:
        remote.media.video.feed(frame)
    assert remote.counters == (1, 0)
    assert not threads("video")
    assert remote.media.video.counters.frames == 20


async def test_sound_is_decoded_only_while_somebody_listens(remote: Remote) -> None:
    packets = coded.sounds("opus", 10)
    assert not remote.media.audio.wanted
    for packet in packets[:5]:
        remote.media.audio.feed(packet)
    assert not threads("audio")
    with remote.media.audio.frames.read(10) as reader:
        for packet in packets[5:]:
            remote.media.audio.feed(packet)
        async with asyncio.timeout(10):
            heard = [await reader.get() for _ in packets[5:]]
    assert [frame.pts for frame in heard] == [packet.timestamp for packet in packets[5:]]
    await until(lambda: not threads("audio"))
    assert remote.asked == 0


async def test_a_reader_begins_at_a_key_frame_that_is_asked_for(remote: Remote, frames: list[EncodedFrame]) -> None:
    await first_picture(remote, frames)
    with remote.media.video.frames.read() as reader:
        remote.media.video.feed(frames[1])
        assert (remote.counters, remote.asked) == ((1, 1), 1)
        remote.media.video.feed(frames[2])
        assert remote.asked == 1, "not with each picture"
        remote.media.video.feed(frames[0])
        async with asyncio.timeout(10):
            assert (await reader.get()).width == 160


async def test_a_reader_asks_for_a_key_frame_when_it_comes_if_anything_ever_came(
    remote: Remote, frames: list[EncodedFrame]
) -> None:
    with remote.media.video.frames.read():
        assert remote.asked == 0, "a stream begins with one"
    await first_picture(remote, frames)
    with remote.media.video.frames.read():
        assert remote.asked == 1, "a picture that stands still comes once a second at most"


async def test_after_a_gap_nothing_is_decoded_until_the_next_key_frame(
    remote: Remote, frames: list[EncodedFrame]
) -> None:
    with remote.media.video.frames.read(10):
        remote.media.video.feed(frames[0])
        remote.media.video.feed(dataclasses.replace(frames[2], gap=True))
        remote.media.video.feed(frames[3])
        assert remote.media.video.counters.skipped == 2
        remote.media.video.feed(dataclasses.replace(frames[0], gap=True))
        await until(lambda: remote.counters == (2, 2))


async def test_a_loss_asks_for_a_key_frame_at_once(remote: Remote, frames: list[EncodedFrame]) -> None:
    with remote.media.video.frames.read():
        remote.media.video.lost(1)
        assert (remote.asked, remote.media.video.counters.torn) == (1, 1)
    remote.media.audio.lost(3)
    assert (remote.asked, remote.media.audio.counters.torn) == (1, 3), "sound has no key frames"


async def test_a_picture_that_cannot_be_decoded_is_followed_by_a_key_frame(remote: Remote) -> None:
    broken = EncodedFrame("video", "nothing", b"x", 0, 90_000, True, 0.0, None)
    with remote.media.video.frames.read():
        remote.media.video.feed(broken)
        await until(lambda: remote.media.video.counters.overrun == 1)
        assert remote.asked == 1


async def test_a_decoder_that_is_too_slow_goes_on_at_a_key_frame(remote: Remote) -> None:
    (key, *_) = coded.pictures("vp8", 1, (1280, 720))
    with remote.media.video.frames.read():
        for _ in range(400):
            remote.media.video.feed(key)
        assert remote.media.video.counters.overrun > 0
        assert remote.asked == 1


async def test_readers_outlive_a_connection_and_its_end_stops_the_decoder(
    remote: Remote, frames: list[EncodedFrame]
) -> None:
    asked: list[str] = []

    def ask() -> None:
        asked.append("another")

    with remote.media.video.frames.read() as reader:
        remote.media.video.feed(frames[0])
        await until(lambda: remote.counters[0] == 1)
        remote.media.video.attach(ask)
        remote.media.video.detach(remote.ask)  # the old one ends later, and must not end the new one's
        remote.media.video.feed(frames[1])
        assert asked == ["another"]
        remote.media.video.feed(frames[0])
        await until(lambda: remote.counters[0] == 2)
        assert not reader.closed
        remote.media.video.detach(ask)
        await until(lambda: not threads("video"))


async def test_what_is_recorded_is_wanted_and_not_decoded(remote: Remote, frames: list[EncodedFrame]) -> None:
    await first_picture(remote, frames)
    with remote.media.encoded.read(50) as reader:
        assert remote.media.video.wanted and remote.media.audio.wanted
        remote.media.video.feed(frames[1])
        assert reader.get_nowait() is frames[1]
        assert remote.counters == (1, 0)


async def test_the_end_of_a_call_ends_all_readers(remote: Remote, frames: list[EncodedFrame]) -> None:
    readers = [remote.media.video.frames.read(), remote.media.audio.frames.read(), remote.media.encoded.read()]
    remote.media.video.feed(frames[0])
    remote.media.close()
    assert all(reader.closed for reader in readers)
    remote.media.video.feed(frames[0])  # the connection ends later
    await until(lambda: not threads("video"))
    assert not remote.media.video.wanted
