"""What --video and --audio open: shared inputs, an error for what was named, a notice for what was not."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator
from pathlib import Path

import av
import pytest

from peer.errors import MediaError
from peer.media.fanout import Fanout
from peer.media.frames import EncodedFrame, media_time
from peer.media.sources import capture, devices
from peer.media.sources import source as source_module
from peer.media.sources.handoff import Captured, Media
from peer.media.sources.local_media import LocalMedia, open_sources
from peer.media.sources.passthrough import PassthroughCheck, StreamInfo
from peer.media.sources.source import Input, Source, SourceBack, SourceLost
from peer.media.sources.spec import parse_audio, parse_video
from peer.media.test_pattern import Pattern, read_pattern
from tests.media.clips import write_clip, write_h264

DEADLINE = 20.0
"""Seconds for what a busy machine does in one or two."""

_PICTURE = Pattern(64, 64, 30).draw(0)


def _threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"capture {name}"]


async def _open(video: str, audio: str) -> LocalMedia:
    return await open_sources(parse_video(video), parse_audio(audio), size=(320, 180), fps=30)


async def _gone(name: str) -> None:
    for thread in _threads(name):
        await asyncio.to_thread(thread.join, DEADLINE)
        assert not thread.is_alive()


async def test_the_test_source_gives_both_kinds_from_one_thread() -> None:
    media = await _open("test", "test")
    assert media.video is not None
    assert media.audio is not None
    with media.video.read() as pictures, media.audio.read(8) as sound:
        async with asyncio.timeout(DEADLINE):
            picture, piece = await pictures.get(), await sound.get()
        assert read_pattern(picture.to_ndarray(format="gray")) is not None
        assert (picture.width, picture.height) == (320, 180)
        assert abs(picture.time - piece.time) < 0.1
        assert len(_threads("test")) == 1
    await media.close()
    assert _threads("test") == []
    assert media.notices == ()


async def test_none_is_none_and_says_nothing() -> None:
    media = await _open("none", "none")
    assert (media.video, media.audio, media.notices, media.sources) == (None, None, (), ())
    await media.close()


async def test_a_machine_without_devices_only_receives_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "list_cameras", list)
    monkeypatch.setattr(devices, "list_microphones", list)
    media = await _open("auto", "auto")
    assert (media.video, media.audio) == (None, None)
    assert media.notices == ("no camera found: receiving only", "no microphone found: receiving only")


async def test_auto_with_a_device_that_does_not_work_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "list_cameras", lambda: [devices.Camera("/dev/null", "Broken", ())])
    media = await _open("auto", "none")
    assert media.video is None
    assert "no camera works (/dev/null: it is not a capture device" in media.notices[0]


@pytest.mark.parametrize(
    ("video", "cause"),
    [
        ("/dev/null", "not a capture device"),
        ("/dev/video-nowhere", "no such file or device"),
        ("/nowhere/clip.mp4", "no such file"),
        ("/", "folder"),
        ("rtsp://127.0.0.1:9/door", "nothing listens"),
    ],
)
async def test_what_is_named_and_missing_is_an_error(video: str, cause: str) -> None:
    with pytest.raises(MediaError, match=cause):
        await _open(video, "none")


async def test_an_error_closes_what_was_opened_before(tmp_path: Path) -> None:
    with pytest.raises(MediaError):
        await _open("test", "/nowhere/talk.wav")
    assert _threads("test") == []


async def test_a_file_for_both_is_opened_once(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip.mkv", seconds=0.5))
    media = await _open(clip, clip)
    assert len(media.sources) == 1
    assert media.video is not None
    assert media.audio is not None
    with media.audio.read(8) as sound, media.video.read(8) as pictures:
        async with asyncio.timeout(DEADLINE):
            assert abs((await sound.get()).time - (await pictures.get()).time) < 0.5
    await media.close()
    await asyncio.gather(_gone(clip))


async def test_a_file_starts_with_its_first_reader_and_stays_open_at_its_end(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip.mkv", seconds=0.3, audio=False))
    media = await _open(clip, "none")
    assert media.video is not None
    assert _threads(clip) == []
    began = media_time()
    with media.video.read(30) as pictures:
        picture = await asyncio.wait_for(pictures.get(), DEADLINE)  # a busy machine skips some, the first one too
        reading = read_pattern(picture.to_ndarray(format="gray"))
        assert reading is not None
        assert picture.time - reading.frame / 30 >= began - 0.001
        await _gone(clip)
        assert not pictures.closed
    await media.close()


async def test_a_film_without_sound_is_sent_without_and_a_notice_says_so(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip.mkv", seconds=0.2, audio=False))
    media = await _open(clip, "same")
    assert media.video is not None and media.audio is None
    assert media.notices == (f"{clip}: it has no audio: sending video only",)
    assert len(media.sources) == 1
    await media.close()


async def test_the_sound_of_a_film_that_was_named_must_be_there(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip.mkv", seconds=0.2, audio=False))
    with pytest.raises(MediaError, match="no audio"):
        await _open(clip, clip)


async def test_the_same_source_gives_its_sound_if_it_has_any(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip.mkv", seconds=0.2))
    media = await _open(f"{clip}?loop", "same")
    assert media.video is not None and media.audio is not None
    assert (len(media.sources), media.notices) == (1, ())
    await media.close()


async def test_a_file_and_its_loop_are_two_inputs(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip.mkv", seconds=0.2))
    media = await _open(f"{clip}?loop", clip)
    assert len(media.sources) == 2
    await media.close()


async def _frames(media: LocalMedia, count: int) -> list[EncodedFrame]:
    assert media.encoded is not None
    with media.encoded.read(count) as encoded:
        async with asyncio.timeout(10):
            return [await encoded.get() for _ in range(count)]


async def test_a_file_of_h264_can_be_passed_on_without_being_decoded(tmp_path: Path) -> None:
    clip = write_h264(tmp_path / "clip.mp4")
    media = await open_sources(parse_video(f"{clip}?loop"), parse_audio("none"))
    assert media.passthrough is not None
    assert media.passthrough.refusal() == "not seen yet"
    assert media.passthrough.profile_level_id is not None  # known before it plays, for an offer
    frames = await _frames(media, 10)
    assert (frames[0].key, frames[0].codec) == (True, "h264")
    assert media.passthrough.refusal() is None
    assert media.sources[0].decoded == 0
    await media.close()


async def test_who_looks_at_what_is_passed_on_gets_pictures_at_once_and_ends_the_decoding(tmp_path: Path) -> None:
    clip = write_h264(tmp_path / "clip.mp4", seconds=20, gop=1000)
    media = await open_sources(parse_video(str(clip)), parse_audio("none"))
    assert media.encoded is not None
    assert media.video is not None
    (source,) = media.sources
    with media.encoded.read(500) as encoded:
        async with asyncio.timeout(10):
            for _ in range(20):
                await encoded.get()
            assert source.decoded == 0
            with media.video.read() as pictures:
                reading = read_pattern((await pictures.get()).to_ndarray(format="gray"))
            assert reading is not None
            assert reading.frame >= 19
            decoded = source.decoded
            for _ in range(30):
                await encoded.get()
            assert source.decoded <= decoded + 15  # those that waited, and what was on its way
    await media.close()


async def test_a_file_of_something_else_stays_silent_and_says_why(tmp_path: Path) -> None:
    clip = write_h264(tmp_path / "clip.webm", seconds=0.2, codec="libvpx")
    media = await open_sources(parse_video(str(clip)), parse_audio("none"))
    assert media.passthrough is not None
    assert media.passthrough.refusal() == "not H.264 but vp8"
    assert media.encoded is not None
    assert media.video is not None
    with media.video.read() as pictures, media.encoded.read(10) as encoded:  # its only key frame is the first
        await asyncio.wait_for(pictures.get(), DEADLINE)
        assert encoded.get_nowait() is None
    await media.close()


async def test_a_size_or_rate_that_the_file_does_not_have_is_a_reason(tmp_path: Path) -> None:
    clip = str(write_h264(tmp_path / "clip.mp4"))
    media = await open_sources(parse_video(clip), parse_audio("none"), size=(160, 90))
    assert media.passthrough is not None
    assert media.passthrough.refusal() == "its size is 320x180, the maximum is 160x90"
    await media.close()


async def test_a_test_source_and_a_microphone_have_nothing_encoded(tmp_path: Path) -> None:
    media = await _open("test", str(write_clip(tmp_path / "clip.mkv", seconds=0.2)))
    assert (media.encoded, media.passthrough) == (None, None)
    assert [source.encoded for source in media.sources] == [None, None]
    await media.close()


class Device:
    """An input that a test plugs in and out."""

    def __init__(self) -> None:
        self.opened = 0
        self.plugged = threading.Event()
        self.plugged.set()

    def read(self, stop: threading.Event) -> Generator[Media, None, None]:
        self.opened += 1
        while not stop.wait(0.005):
            if not self.plugged.is_set():
                raise OSError(19, "No such device")
            yield _PICTURE


def _source(device: Device, linger: float = 60.0) -> Source:
    return Source(Input(name="cam", read=device.read, video=True, audio=False), linger=linger)


def _pictures(source: Source) -> Fanout[av.VideoFrame]:
    assert source.video is not None
    return source.video


async def test_a_device_is_proved_by_its_first_frame_and_runs_on_for_the_first_call() -> None:
    device = Device()
    source = _source(device)
    await source.open()
    with _pictures(source).read() as reader:
        await asyncio.wait_for(reader.get(), DEADLINE)
    assert device.opened == 1
    await source.close()
    assert _threads("cam") == []


async def test_a_device_is_closed_a_while_after_its_last_reader_and_opened_for_the_next() -> None:
    device = Device()
    source = _source(device, linger=0.02)
    with _pictures(source).read() as reader:
        await asyncio.wait_for(reader.get(), DEADLINE)
        (thread,) = _threads("cam")
    await asyncio.to_thread(thread.join, DEADLINE)
    assert not thread.is_alive()
    with _pictures(source).read() as reader:
        await asyncio.wait_for(reader.get(), DEADLINE)
    assert device.opened == 2
    await source.close()


async def test_readers_live_through_an_unplugged_device_and_failures_tell() -> None:
    device = Device()
    source = _source(device)
    await source.open()
    with _pictures(source).read() as reader, source.failures.read(8) as failures:
        await asyncio.wait_for(reader.get(), DEADLINE)
        device.plugged.clear()
        lost = await asyncio.wait_for(failures.get(), DEADLINE)
        assert isinstance(lost, SourceLost)
        assert "unplugged" in str(lost.error)
        device.plugged.set()
        assert await asyncio.wait_for(failures.get(), DEADLINE) == SourceBack("cam")
        while reader.get_nowait():
            pass
        await asyncio.wait_for(reader.get(), DEADLINE)
    await source.close()


async def test_a_picture_is_expected_from_who_begins_until_it_ends_or_fails() -> None:
    opened, broken = threading.Event(), threading.Event()

    def read(stop: threading.Event) -> Generator[Captured, None, None]:
        opened.wait(DEADLINE)
        yield _PICTURE
        broken.wait(DEADLINE)
        raise MediaError("film", "torn")

    film = Source(Input(name="film", read=read, video=True, audio=False, reopen=False, check=lambda: None))
    await film.open()
    assert film.video is not None and not film.frame_expected, "nobody asked for one"
    failures = film.failures.read()
    with film.video.read() as pictures:
        assert film.frame_expected, "it opens"
        opened.set()
        async with asyncio.timeout(DEADLINE):
            await pictures.get()
            assert film.frame_expected, "it delivers"
            broken.set()
            await failures.get()
        assert not film.frame_expected
    await film.close()


async def test_no_picture_is_expected_of_who_fell_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "EXPECTED_WITHIN", 0.0)
    film = Source(Input(name="film", read=_slow_read, video=True, audio=False))
    assert film.video is not None
    with film.video.read() as pictures:
        async with asyncio.timeout(DEADLINE):
            await pictures.get()
        assert not film.frame_expected
    await film.close()


def _slow_read(stop: threading.Event) -> Generator[Captured, None, None]:
    yield _PICTURE
    stop.wait(DEADLINE)


async def test_h264_of_a_camera_that_was_opened_again_begins_with_a_key_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A relay has the pictures from before, and would send those that refer to others after them."""
    monkeypatch.setattr(capture, "_BACKOFF", (0.01, 0.04))
    opened = []

    def read(stop: threading.Event) -> Generator[Captured, None, None]:
        opened.append(stop)
        yield StreamInfo("h264")
        for number in range(8):
            yield EncodedFrame("video", "h264", b"", number, 90_000, number in (0, 5), time.monotonic(), None)
        if len(opened) > 1:
            stop.wait(DEADLINE)

    source = Source(Input(name="cam", read=read, video=True, audio=False, passthrough=PassthroughCheck()), linger=60)
    assert source.encoded is not None
    with source.encoded.read(100) as reader:
        seen = [(await asyncio.wait_for(reader.get(), DEADLINE)).timestamp for _ in range(11)]
    assert seen == [*range(8), 5, 6, 7]
    await source.close()


async def test_a_device_that_gives_nothing_is_an_error_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "_FIRST_FRAME_TIMEOUT", 0.05)

    def dumb(stop: threading.Event) -> Generator[Media, None, None]:
        stop.wait(5)
        yield from ()

    source = Source(Input(name="dumb", read=dumb, video=True, audio=False))
    with pytest.raises(MediaError, match="delivers nothing"):
        await source.open()
    assert _threads("dumb") == []


async def test_a_closed_source_opens_nothing_any_more() -> None:
    device = Device()
    source = _source(device)
    await source.close()
    await source.close()
    with _pictures(source).read() as reader, pytest.raises(StopAsyncIteration):
        await reader.get()
    assert device.opened == 0


async def test_a_start_that_is_interrupted_leaves_nothing_open() -> None:
    began = threading.Event()

    def dumb(stop: threading.Event) -> Generator[Media, None, None]:
        began.set()
        stop.wait(30)
        yield from ()

    source = Source(Input(name="dumb", read=dumb, video=True, audio=False))
    opening = asyncio.ensure_future(source.open())
    assert await asyncio.to_thread(began.wait, DEADLINE)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert _threads("dumb") == []
