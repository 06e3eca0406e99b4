"""One coding for all viewers: what comes out can be decoded by who reads it, and never ends."""

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

SIZE = (320, 180)
_CANVAS = Pattern(*SIZE, 30)


def picture(number: int, moment: float | None = None) -> av.VideoFrame:
    frame = _CANVAS.draw(number)
    frame.pts = round((media_time() if moment is None else moment) / VIDEO_TIME_BASE)
    return frame


class Viewer:
    """Decodes what it reads."""

    def __init__(self, reader: Reader[OutgoingFrame], codec: str = "vp8") -> None:
        self.reader = reader
        self._depayload = vp8_depayload if codec == "vp8" else h264_depayload
        decoder = av.CodecContext.create(codec, "r")
        assert isinstance(decoder, av.VideoCodecContext)
        self._decoder = decoder
        self.frames: list[OutgoingFrame] = []

    async def see(self) -> av.VideoFrame:
        """The next picture."""
        async with asyncio.timeout(10):
            frame = await self.reader.get()
        self.frames.append(frame)
        data = b"".join(self._depayload(payload) for payload in frame.payloads)
        [shown] = self._decoder.decode(av.Packet(data))
        return shown

    async def number(self) -> int | None:
        """The counter in the next picture; ``None`` for a card."""
        reading = read_pattern((await self.see()).to_ndarray(format="gray"))
        return reading.frame if reading is not None else None

    def close(self) -> None:
        self.reader.close()


@asynccontextmanager
async def encoder(
    source: Fanout[av.VideoFrame],
    codec: str = "vp8",
    rung: Callable[[int, int], Rung] = lambda width, height: ladder(width, height, 30)[0],
    newest: Callable[[], av.VideoFrame | None] = lambda: None,
    expected: Callable[[], bool] = lambda: False,
) -> AsyncIterator[VideoEncoding]:
    async with asyncio.TaskGroup() as tasks:
        made = VideoEncoding(tasks, source, codec, rung, size=SIZE, newest=newest, expected=expected)
        try:
            yield made
        finally:
            made._frames.close()


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_who_comes_first_gets_a_key_frame_and_then_all_pictures(codec: str) -> None:
    source: Fanout[av.VideoFrame] = Fanout()
    async with encoder(source, codec) as made:
        viewer = Viewer(made.read(), codec)
        for number in range(5):
            source.put(picture(number))
            assert await viewer.number() == number
        assert [frame.key for frame in viewer.frames] == [True, False, False, False, False]
        assert made.counters.frames == 5


async def test_a_picture_that_is_there_already_is_coded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_encoding, "FIRST_PICTURE", 60.0)
    async with encoder(Fanout(), newest=lambda: picture(1)) as made:
        assert await Viewer(made.read()).number() == 1


async def test_viewers_share_one_encoder_and_who_comes_between_sees_at_once() -> None:
    source: Fanout[av.VideoFrame] = Fanout()
    async with encoder(source) as made:
        one = Viewer(made.read())
        for number in range(3):
            source.put(picture(number))
            await one.see()
        other = Viewer(made.read())
        assert [await other.number() for _ in range(3)] == [0, 1, 2], "without waiting for a picture"
        source.put(picture(3))
        assert (await one.number(), await other.number()) == (3, 3)
        assert one.frames[-1] is other.frames[-1]
        assert [frame.key for frame in one.frames] == [True, False, False, False], "and without a key frame for it"


async def test_requests_for_key_frames_merge_and_are_met_without_a_new_picture() -> None:
    source: Fanout[av.VideoFrame] = Fanout()
    async with encoder(source) as made:
        viewer = Viewer(made.read())
        source.put(picture(1))
        assert await viewer.number() == 1
        began = media_time()
        for _ in range(20):
            made.request_key_frame()
        while not (await viewer.number() == 1 and viewer.frames[-1].key):
            pass
        assert media_time() - began >= video_encoding.KEY_INTERVAL - 0.1
        source.put(picture(2))
        assert await viewer.number() == 2
        assert not viewer.frames[-1].key


async def test_key_frames_are_at_most_two_a_second_whoever_asks() -> None:
    source: Fanout[av.VideoFrame] = Fanout()
    async with encoder(source) as made:
        viewer = Viewer(made.read())
        began = media_time()
        while media_time() - began < 1.3:
            source.put(picture(1))
            made.request_key_frame()
            await viewer.see()
        elapsed = media_time() - began
        keys = sum(frame.key for frame in viewer.frames)
        assert 1 <= keys <= elapsed / video_encoding.KEY_INTERVAL + 1


async def test_the_last_picture_is_repeated_then_a_card_of_its_size_then_the_source_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(video_encoding, "REPEAT", 0.05)
    monkeypatch.setattr(video_encoding, "HOLD", 0.3)
    source: Fanout[av.VideoFrame] = Fanout()
    async with encoder(source) as made:
        viewer = Viewer(made.read())
        source.put(picture(3))
        numbers = [await viewer.number()]
        while numbers[-1] is not None:
            numbers.append(await viewer.number())
        assert set(numbers[:-1]) == {3} and len(numbers) > 2
        assert {frame.size for frame in viewer.frames} == {SIZE}
        source.put(picture(4))
        while (number := await viewer.number()) is None:
            pass
        assert number == 4


async def test_a_card_is_sent_soon_when_the_source_gives_nothing() -> None:
    async with encoder(Fanout()) as made:
        viewer = Viewer(made.read())
        assert await viewer.number() is None
        assert viewer.frames[0].size == SIZE


async def test_a_picture_that_is_expected_is_waited_for_and_no_card_is_sent_before_it() -> None:
    source: Fanout[av.VideoFrame] = Fanout()
    asked = asyncio.Event()

    def expected() -> bool:
        asked.set()
        return True

    async with encoder(source, expected=expected) as made:
        viewer = Viewer(made.read())
        async with asyncio.timeout(10):
            await asked.wait()
        source.put(picture(7))
        assert await viewer.number() == 7


async def test_a_source_that_failed_while_it_was_waited_for_gets_its_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_encoding, "OPENING", 60.0)
    answers = iter((True, True))
    async with encoder(Fanout(), expected=lambda: next(answers, False)) as made:
        assert await Viewer(made.read()).number() is None


async def test_who_opens_for_too_long_gets_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_encoding, "OPENING", 0.2)
    async with encoder(Fanout(), expected=lambda: True) as made:
        assert await Viewer(made.read()).number() is None


async def test_stamps_are_those_of_the_capture_and_strictly_increase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_encoding, "REPEAT", 0.01)
    source: Fanout[av.VideoFrame] = Fanout()
    async with encoder(source) as made:
        viewer = Viewer(made.read())
        captured = picture(1, media_time() - 0.05)
        source.put(captured)
        await viewer.see()
        await viewer.see()
        source.put(picture(2, media_time() - 0.5))
        while await viewer.number() != 2:
            pass
    stamps = [frame.timestamp for frame in viewer.frames]
    assert stamps[0] == captured.pts
    assert stamps == sorted(set(stamps))


async def test_a_picture_in_a_fan_out_is_not_written_to() -> None:
    source: Fanout[av.VideoFrame] = Fanout()
    async with encoder(source) as made:
        viewer, shown = Viewer(made.read()), picture(1)
        before = (shown.pts, shown.pict_type, bytes(shown.planes[0]))
        source.put(shown)
        await viewer.see()
        assert viewer.frames[0].key
        assert (shown.pts, shown.pict_type, bytes(shown.planes[0])) == before


async def test_a_rung_scales_and_thins() -> None:
    source: Fanout[av.VideoFrame] = Fanout()

    def third(width: int, height: int) -> Rung:
        return ladder(width, height, 30)[0] if width < 640 else ladder(width, height, 30)[-1]

    canvas = Pattern(1280, 720, 30)
    async with encoder(source, rung=third) as made:
        viewer = Viewer(made.read())
        for number in range(8):
            frame = canvas.draw(number)
            frame.pts = number * 3000 + round(media_time() / VIDEO_TIME_BASE)
            source.put(frame)
            if number % 2 == 0:
                shown = await viewer.see()
                assert (shown.width, shown.height) == (426, 240)
        assert made.counters.frames == 4


async def test_a_new_size_of_picture_is_a_new_encoder() -> None:
    source: Fanout[av.VideoFrame] = Fanout()
    async with encoder(source) as made:
        viewer = Viewer(made.read())
        source.put(picture(1))
        await viewer.see()
        larger = Pattern(640, 360, 30).draw(2)
        larger.pts = round(media_time() / VIDEO_TIME_BASE)
        source.put(larger)
        shown = await viewer.see()
        while (shown.width, shown.height) == SIZE:
            shown = await viewer.see()
        assert (shown.width, shown.height) == (640, 360)
        assert viewer.frames[-1].key and viewer.frames[-1].size == (640, 360)


async def test_an_encoder_that_fails_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(video_encoding, "RETRY", 0.01)
    source: Fanout[av.VideoFrame] = Fanout()
    async with encoder(source, "h264") as made:
        viewer = Viewer(made.read(), "h264")
        source.put(picture(1))
        await viewer.see()
        monkeypatch.setattr(VideoEncoder, "encode", _fails_once(VideoEncoder.encode))
        source.put(picture(2))
        while not viewer.frames[-1].key or len(viewer.frames) < 2:
            source.put(picture(3))
            await viewer.see()
        assert "made anew" in caplog.text


def _fails_once(encode: Callable[..., object]) -> Callable[..., object]:
    left = [1]

    def failing(*args: object, **kwargs: object) -> object:
        if left:
            left.pop()
            raise av.error.ExternalError(1, "broken")
        return encode(*args, **kwargs)

    return failing


async def test_the_first_reader_opens_and_the_last_one_closes_the_source() -> None:
    calls: list[str] = []
    source: Fanout[av.VideoFrame] = Fanout(lambda: calls.append("open"), lambda: calls.append("close"))
    async with encoder(source) as made:
        assert calls == []
        one, other = Viewer(made.read()), Viewer(made.read())
        await one.see()
        await other.see()
        one.close()
        assert calls == ["open"]
        other.close()
        async with asyncio.timeout(5):
            while calls != ["open", "close"]:
                await asyncio.sleep(0)
        again = Viewer(made.read())
        await again.see()
        assert again.frames[0].key


async def test_a_source_with_more_pictures_than_was_thought_gets_no_more_bitrate() -> None:
    source: Fanout[av.VideoFrame] = Fanout()
    rough = np.random.default_rng(1).integers(0, 255, (22, 40), np.uint8).repeat(8, 0).repeat(8, 1)
    begin = media_time()
    async with encoder(source, "h264", lambda width, height: Rung(width, height, 30, 200_000)) as made:
        reader, octets = made.read(), 0
        for number in range(300):
            image = np.ascontiguousarray(np.roll(rough, number * 7, axis=1))
            frame = av.VideoFrame.from_ndarray(image, format="gray").reformat(format="yuv420p")
            source.put(stamp(frame, begin + number / 60))
            async with asyncio.timeout(10):
                coded = await reader.get()
            if number >= 180:
                octets += coded.byte_count
        assert 100_000 < octets * 8 / 2 < 240_000
        reader.close()
