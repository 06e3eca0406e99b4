"""One encoding for all viewers: each of them can decode it, and it does not end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import av
import numpy as np
import pytest
from aiortc.codecs.h264 import h264_depayload
from aiortc.codecs.vpx import vp8_depayload

from peer.media.fanout import Fanout, Reader
from peer.media.frames import VIDEO_TIME_BASE, OutgoingFrame, media_time
from peer.media.outgoing import video_encoding
from peer.media.outgoing.encoder import VideoEncoder
from peer.media.outgoing.quality_ladder import Rung, ladder
from peer.media.outgoing.video_encoding import VideoEncoding
from peer.media.picture import stamp
from peer.media.test_pattern import Pattern, read_pattern
from peer.rtp.packetizer import MAX_PAYLOAD

SIZE = (320, 180)
_CANVAS = Pattern(*SIZE, 30)


def numbered_frame(number: int, captured: float | None = None) -> av.VideoFrame:
    frame = _CANVAS.draw(number)
    frame.pts = round((media_time() if captured is None else captured) / VIDEO_TIME_BASE)
    return frame


class Viewer:
    """A viewer that decodes what it reads."""

    def __init__(self, reader: Reader[OutgoingFrame], codec: str = "vp8") -> None:
        self.reader = reader
        self._depayload = vp8_depayload if codec == "vp8" else h264_depayload
        decoder = av.CodecContext.create(codec, "r")
        assert isinstance(decoder, av.VideoCodecContext)
        self._decoder = decoder
        self.frames: list[OutgoingFrame] = []

    async def decode_next(self) -> av.VideoFrame:
        """Return the next frame."""
        async with asyncio.timeout(10):
            frame = await self.reader.get()
        self.frames.append(frame)
        data = b"".join(self._depayload(payload) for payload in frame.payloads)
        [decoded] = self._decoder.decode(av.Packet(data))
        return decoded

    async def next_number(self) -> int | None:
        """Return the number in the next frame; ``None`` for the card."""
        reading = read_pattern((await self.decode_next()).to_ndarray(format="gray"))
        return reading.frame if reading is not None else None

    def close(self) -> None:
        self.reader.close()


@asynccontextmanager
async def encoding(
    source: Fanout[av.VideoFrame],
    codec: str = "vp8",
    rung_for_size: Callable[[int, int], Rung] = lambda width, height: ladder(width, height, 30)[0],
    newest: Callable[[], av.VideoFrame | None] = lambda: None,
    expected: Callable[[], bool] = lambda: False,
    packetization_mode: int = 1,
) -> AsyncIterator[VideoEncoding]:
    async with asyncio.TaskGroup() as tasks:
        made = VideoEncoding(
            tasks,
            source,
            codec,
            rung_for_size,
            size=SIZE,
            newest=newest,
            expected=expected,
            packetization_mode=packetization_mode,
        )
        try:
            yield made
        finally:
            made._encoded.close()


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_first_viewer_gets_a_key_frame_and_all_that_follow(codec: str) -> None:
    source: Fanout[av.VideoFrame] = Fanout()
    async with encoding(source, codec) as made:
        viewer = Viewer(made.read(), codec)
        for number in range(5):
            source.put(numbered_frame(number))
            assert await viewer.next_number() == number
        assert [frame.key for frame in viewer.frames] == [True, False, False, False, False]
        assert made.counters.frames == 5


async def test_mode_0_is_sent_as_single_nal_units() -> None:
    source: Fanout[av.VideoFrame] = Fanout()
    async with encoding(source, "h264", packetization_mode=0) as made:
        viewer = Viewer(made.read(), "h264")
        for number in range(5):
            source.put(numbered_frame(number))
            assert await viewer.next_number() == number
        assert len(viewer.frames[0].payloads) > 4, "parameter sets and several slices"
        for frame in viewer.frames:
            assert frame.packetization_mode == 0
            assert all(payload[0] & 0x1F < 24 and len(payload) <= MAX_PAYLOAD for payload in frame.payloads)


async def test_newest_frame_is_encoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_encoding, "FIRST_FRAME_TIMEOUT", 60.0)
    async with encoding(Fanout(), newest=lambda: numbered_frame(1)) as made:
        assert await Viewer(made.read()).next_number() == 1


async def test_viewers_share_an_encoding_and_see_video_at_once() -> None:
    source: Fanout[av.VideoFrame] = Fanout()
    async with encoding(source) as made:
        one = Viewer(made.read())
        for number in range(3):
            source.put(numbered_frame(number))
            await one.decode_next()
        other = Viewer(made.read())
        assert [await other.next_number() for _ in range(3)] == [0, 1, 2], "without waiting for a new frame"
        source.put(numbered_frame(3))
        assert (await one.next_number(), await other.next_number()) == (3, 3)
        assert one.frames[-1] is other.frames[-1]
        assert [frame.key for frame in one.frames] == [True, False, False, False], "none for the second viewer"


async def test_key_frame_requests_merge_and_need_no_new_frame() -> None:
    source: Fanout[av.VideoFrame] = Fanout()
    async with encoding(source) as made:
        viewer = Viewer(made.read())
        source.put(numbered_frame(1))
        assert await viewer.next_number() == 1
        started = media_time()
        for _ in range(20):
            made.request_key_frame()
        while not (await viewer.next_number() == 1 and viewer.frames[-1].key):
            pass
        assert media_time() - started >= video_encoding.MIN_KEY_FRAME_INTERVAL - 0.1
        source.put(numbered_frame(2))
        assert await viewer.next_number() == 2
        assert not viewer.frames[-1].key


async def test_key_frames_are_at_most_two_per_second() -> None:
    source: Fanout[av.VideoFrame] = Fanout()
    async with encoding(source) as made:
        viewer = Viewer(made.read())
        started = media_time()
        while media_time() - started < 1.3:
            source.put(numbered_frame(1))
            made.request_key_frame()
            await viewer.decode_next()
        elapsed = media_time() - started
        keys = sum(frame.key for frame in viewer.frames)
        assert 1 <= keys <= elapsed / video_encoding.MIN_KEY_FRAME_INTERVAL + 1


async def test_silent_source_repeats_its_last_frame_then_the_card(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(video_encoding, "REPEAT_INTERVAL", 0.05)
    monkeypatch.setattr(video_encoding, "CARD_AFTER", 0.3)
    source: Fanout[av.VideoFrame] = Fanout()
    async with encoding(source) as made:
        viewer = Viewer(made.read())
        source.put(numbered_frame(3))
        numbers = [await viewer.next_number()]
        while numbers[-1] is not None:
            numbers.append(await viewer.next_number())
        assert set(numbers[:-1]) == {3} and len(numbers) > 2
        assert {frame.size for frame in viewer.frames} == {SIZE}
        source.put(numbered_frame(4))
        while (number := await viewer.next_number()) is None:
            pass
        assert number == 4


async def test_source_without_frames_gets_the_card_soon() -> None:
    async with encoding(Fanout()) as made:
        viewer = Viewer(made.read())
        assert await viewer.next_number() is None
        assert viewer.frames[0].size == SIZE


async def test_expected_frame_is_awaited_without_a_card() -> None:
    source: Fanout[av.VideoFrame] = Fanout()
    asked = asyncio.Event()

    def expected() -> bool:
        asked.set()
        return True

    async with encoding(source, expected=expected) as made:
        viewer = Viewer(made.read())
        async with asyncio.timeout(10):
            await asked.wait()
        source.put(numbered_frame(7))
        assert await viewer.next_number() == 7


async def test_source_that_fails_while_awaited_gets_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_encoding, "EXPECTED_FRAME_TIMEOUT", 60.0)
    answers = iter((True, True))
    async with encoding(Fanout(), expected=lambda: next(answers, False)) as made:
        assert await Viewer(made.read()).next_number() is None


async def test_source_that_takes_too_long_gets_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_encoding, "EXPECTED_FRAME_TIMEOUT", 0.2)
    async with encoding(Fanout(), expected=lambda: True) as made:
        assert await Viewer(made.read()).next_number() is None


async def test_timestamps_are_capture_times_and_increase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_encoding, "REPEAT_INTERVAL", 0.01)
    source: Fanout[av.VideoFrame] = Fanout()
    async with encoding(source) as made:
        viewer = Viewer(made.read())
        captured = numbered_frame(1, media_time() - 0.05)
        source.put(captured)
        await viewer.decode_next()
        await viewer.decode_next()
        source.put(numbered_frame(2, media_time() - 0.5))
        while await viewer.next_number() != 2:
            pass
    timestamps = [frame.timestamp for frame in viewer.frames]
    assert timestamps[0] == captured.pts
    assert timestamps == sorted(set(timestamps))


async def test_frame_of_the_source_is_not_modified() -> None:
    source: Fanout[av.VideoFrame] = Fanout()
    async with encoding(source) as made:
        viewer, frame = Viewer(made.read()), numbered_frame(1)
        before = (frame.pts, frame.pict_type, bytes(frame.planes[0]))
        source.put(frame)
        await viewer.decode_next()
        assert viewer.frames[0].key
        assert (frame.pts, frame.pict_type, bytes(frame.planes[0])) == before


async def test_rung_scales_frames_and_limits_the_frame_rate() -> None:
    source: Fanout[av.VideoFrame] = Fanout()

    def lowest_rung(width: int, height: int) -> Rung:
        return ladder(width, height, 30)[0] if width < 640 else ladder(width, height, 30)[-1]

    canvas = Pattern(1280, 720, 30)
    async with encoding(source, rung_for_size=lowest_rung) as made:
        viewer = Viewer(made.read())
        for number in range(8):
            frame = canvas.draw(number)
            frame.pts = number * 3000 + round(media_time() / VIDEO_TIME_BASE)
            source.put(frame)
            if number % 2 == 0:
                frame = await viewer.decode_next()
                assert (frame.width, frame.height) == (426, 240)
        assert made.counters.frames == 4


async def test_new_frame_size_starts_a_new_encoder() -> None:
    source: Fanout[av.VideoFrame] = Fanout()
    async with encoding(source) as made:
        viewer = Viewer(made.read())
        source.put(numbered_frame(1))
        await viewer.decode_next()
        larger = Pattern(640, 360, 30).draw(2)
        larger.pts = round(media_time() / VIDEO_TIME_BASE)
        source.put(larger)
        frame = await viewer.decode_next()
        while (frame.width, frame.height) == SIZE:
            frame = await viewer.decode_next()
        assert (frame.width, frame.height) == (640, 360)
        assert viewer.frames[-1].key and viewer.frames[-1].size == (640, 360)


async def test_failed_encoder_is_restarted(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(video_encoding, "RESTART_DELAY", 0.01)
    source: Fanout[av.VideoFrame] = Fanout()
    async with encoding(source, "h264") as made:
        viewer = Viewer(made.read(), "h264")
        source.put(numbered_frame(1))
        await viewer.decode_next()
        monkeypatch.setattr(VideoEncoder, "encode", _failing_once(VideoEncoder.encode))
        source.put(numbered_frame(2))
        while not viewer.frames[-1].key or len(viewer.frames) < 2:
            source.put(numbered_frame(3))
            await viewer.decode_next()
        assert "is restarted" in caplog.text


def _failing_once(encode: Callable[..., object]) -> Callable[..., object]:
    left = [1]

    def failing(*args: object, **kwargs: object) -> object:
        if left:
            left.pop()
            raise av.error.ExternalError(1, "broken")
        return encode(*args, **kwargs)

    return failing


async def test_first_reader_opens_and_last_reader_closes_the_source() -> None:
    calls: list[str] = []
    source: Fanout[av.VideoFrame] = Fanout(lambda: calls.append("open"), lambda: calls.append("close"))
    async with encoding(source) as made:
        assert calls == []
        one, other = Viewer(made.read()), Viewer(made.read())
        await one.decode_next()
        await other.decode_next()
        one.close()
        assert calls == ["open"]
        other.close()
        async with asyncio.timeout(5):
            while calls != ["open", "close"]:
                await asyncio.sleep(0)
        again = Viewer(made.read())
        await again.decode_next()
        assert again.frames[0].key


async def test_source_with_a_high_frame_rate_keeps_the_bitrate() -> None:
    source: Fanout[av.VideoFrame] = Fanout()
    noise = np.random.default_rng(1).integers(0, 255, (22, 40), np.uint8).repeat(8, 0).repeat(8, 1)
    started = media_time()
    async with encoding(source, "h264", lambda width, height: Rung(width, height, 30, 200_000)) as made:
        reader, byte_count = made.read(), 0
        for number in range(300):
            image = np.ascontiguousarray(np.roll(noise, number * 7, axis=1))
            frame = av.VideoFrame.from_ndarray(image, format="gray").reformat(format="yuv420p")
            source.put(stamp(frame, started + number / 60))
            async with asyncio.timeout(10):
                encoded = await reader.get()
            if number >= 180:
                byte_count += encoded.byte_count
        assert 100_000 < byte_count * 8 / 2 < 240_000
        reader.close()
