"""A source shared by calls: opened once, read while it has a reader, closed after a while."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator
from typing import Any

import av
import pytest

from peer.errors import MediaError
from peer.media.fanout import Fanout
from peer.media.frames import EncodedFrame
from peer.media.sources import capture
from peer.media.sources import source as source_module
from peer.media.sources.decoding import DecodeFlags
from peer.media.sources.handoff import Captured, Media
from peer.media.sources.passthrough import PassthroughCheck, StreamInfo
from peer.media.sources.source import Input, Source, SourceBack, SourceLost
from peer.media.test_pattern import Pattern, tone_frame
from tests.waiting import until

DEADLINE = 20.0
"""Time limit in seconds, ample on a busy machine."""

_FRAME = Pattern(64, 64, 30).draw(0)


def _threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"capture {name}"]


class Device:
    """An input that a test can plug in and unplug."""

    def __init__(self) -> None:
        self.opened = 0
        self.plugged = threading.Event()
        self.plugged.set()

    def read(self, stop: threading.Event) -> Generator[Media, None, None]:
        self.opened += 1
        while not stop.wait(0.005):
            if not self.plugged.is_set():
                raise OSError(19, "No such device")
            yield _FRAME


def _source(device: Device, linger: float = 60.0) -> Source:
    return Source(Input(name="cam", read=device.read, video=True, audio=False), linger=linger)


def _video(source: Source) -> Fanout[av.VideoFrame]:
    assert source.video is not None
    return source.video


async def test_source_open_waits_for_first_frame_and_runs_on() -> None:
    device = Device()
    source = _source(device)
    await source.open()
    with _video(source).read() as reader:
        await asyncio.wait_for(reader.get(), DEADLINE)
    assert device.opened == 1
    await source.close()
    assert _threads("cam") == []


async def test_source_closes_after_linger_and_opens_for_next_reader() -> None:
    device = Device()
    source = _source(device, linger=0.02)
    with _video(source).read() as reader:
        await asyncio.wait_for(reader.get(), DEADLINE)
        (thread,) = _threads("cam")
    await asyncio.to_thread(thread.join, DEADLINE)
    assert not thread.is_alive()
    with _video(source).read() as reader:
        await asyncio.wait_for(reader.get(), DEADLINE)
    assert device.opened == 2
    await source.close()


async def test_source_readers_survive_a_lost_device() -> None:
    device = Device()
    source = _source(device)
    await source.open()
    with _video(source).read() as reader, source.failures.read(8) as failures:
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


async def test_source_frame_expected_until_input_ends_or_fails() -> None:
    opened, broken = threading.Event(), threading.Event()

    def read(stop: threading.Event) -> Generator[Captured, None, None]:
        opened.wait(DEADLINE)
        yield _FRAME
        broken.wait(DEADLINE)
        raise MediaError("clip", "torn")

    clip = Source(Input(name="clip", read=read, video=True, audio=False, reopen=False, check=lambda: None))
    await clip.open()
    assert clip.video is not None and not clip.frame_expected, "no reader yet"
    failures = clip.failures.read()
    with clip.video.read() as reader:
        assert clip.frame_expected, "opening"
        opened.set()
        async with asyncio.timeout(DEADLINE):
            await reader.get()
            assert clip.frame_expected, "delivering"
            broken.set()
            await failures.get()
        assert not clip.frame_expected
    await clip.close()


async def test_source_frame_not_expected_after_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "EXPECTED_WITHIN", 0.0)
    clip = Source(Input(name="clip", read=_slow_read, video=True, audio=False))
    assert clip.video is not None
    with clip.video.read() as reader:
        async with asyncio.timeout(DEADLINE):
            await reader.get()
        assert not clip.frame_expected
    await clip.close()


def _slow_read(stop: threading.Event) -> Generator[Captured, None, None]:
    yield _FRAME
    stop.wait(DEADLINE)


async def test_source_reopened_encoded_begins_with_key_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise a passthrough that has earlier frames would send frames that refer to missing ones."""
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


async def test_source_open_without_frame_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "_FIRST_FRAME_TIMEOUT", 0.05)

    def silent(stop: threading.Event) -> Generator[Media, None, None]:
        stop.wait(5)
        yield from ()

    source = Source(Input(name="silent", read=silent, video=True, audio=False))
    with pytest.raises(MediaError, match="delivered nothing"):
        await source.open()
    assert _threads("silent") == []


async def test_source_closed_does_not_open_again() -> None:
    device = Device()
    source = _source(device)
    await source.close()
    await source.close()
    with _video(source).read() as reader, pytest.raises(StopAsyncIteration):
        await reader.get()
    assert device.opened == 0


async def test_source_open_cancelled_leaves_no_thread() -> None:
    started = threading.Event()

    def silent(stop: threading.Event) -> Generator[Media, None, None]:
        started.set()
        stop.wait(30)
        yield from ()

    source = Source(Input(name="silent", read=silent, video=True, audio=False))
    opening = asyncio.ensure_future(source.open())
    assert await asyncio.to_thread(started.wait, DEADLINE)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert _threads("silent") == []


async def test_source_reader_within_linger_does_not_reopen() -> None:
    device = Device()
    source = _source(device)
    for _ in range(3):
        with _video(source).read() as reader:
            await asyncio.wait_for(reader.get(), DEADLINE)
    assert device.opened == 1
    await source.close()


async def test_source_stays_open_for_its_other_fanout() -> None:
    def read(stop: threading.Event) -> Generator[Captured, None, None]:
        number = 0
        while not stop.wait(0.005):
            yield _FRAME
            yield tone_frame(number * 960)
            number += 1

    source = Source(Input(name="cam", read=read, video=True, audio=True), linger=0.0)
    assert source.audio is not None
    async with asyncio.timeout(DEADLINE):
        with source.audio.read() as audio:
            with _video(source).read() as video:
                await video.get()
            (thread,) = _threads("cam")
            for _ in range(5):
                await audio.get()
            assert _threads("cam") == [thread]
    await asyncio.to_thread(thread.join, DEADLINE)
    assert _threads("cam") == []
    await source.close()


async def test_source_flags_follow_the_readers() -> None:
    flags = DecodeFlags()

    def read(stop: threading.Event) -> Generator[Captured, None, None]:
        stop.wait(DEADLINE)
        yield from ()

    check = PassthroughCheck()
    source = Source(Input(name="cam", read=read, video=True, audio=True, flags=flags, passthrough=check))
    assert source.encoded is not None and source.audio is not None
    with source.encoded.read():
        assert (flags.video, flags.audio) == (False, False)
        with _video(source).read():
            assert (flags.video, flags.audio) == (True, False)
            with source.audio.read():
                assert (flags.video, flags.audio) == (True, True)
        assert (flags.video, flags.audio) == (False, False)
    await source.close()


async def test_source_open_decodes_until_the_first_frame() -> None:
    device, flags, seen = Device(), DecodeFlags(video=False, audio=False), []

    def read(stop: threading.Event) -> Generator[Captured, None, None]:
        seen.append((flags.video, flags.audio))
        yield from device.read(stop)

    source = Source(Input(name="cam", read=read, video=True, audio=False, flags=flags))
    await source.open()
    assert seen == [(True, True)]
    assert (flags.video, flags.audio) == (False, False)
    await source.close()


async def test_source_open_with_check_passes_stream_info_on() -> None:
    info, device = StreamInfo("vp8"), Device()
    check = PassthroughCheck()
    source = Source(
        Input(name="clip", read=device.read, video=True, audio=False, check=lambda: info, passthrough=check)
    )
    await source.open()
    assert check.refusal() == "not H.264 but vp8"
    assert device.opened == 0
    await source.close()


async def test_source_open_failing_check_raises() -> None:
    def check() -> None:
        raise FileNotFoundError(2, "No such file or directory")

    source = Source(Input(name="clip", read=Device().read, video=True, audio=False, check=check))
    with pytest.raises(MediaError, match="clip: there is no such file"):
        await source.open()
    await source.close()


async def test_source_open_lost_device_raises_its_error() -> None:
    device = Device()
    device.plugged.clear()
    source = _source(device)
    with pytest.raises(MediaError, match="cam: the device is gone"):
        await source.open()
    await until(lambda: not _threads("cam"))


async def test_source_close_ends_its_readers() -> None:
    source = _source(Device())
    reader, failures = _video(source).read(), source.failures.read()
    await source.close()
    async with asyncio.timeout(DEADLINE):
        async for _ in reader:
            pass
        assert [failure async for failure in failures] == []


async def _started(device: Device, timeout: float = DEADLINE, **options: Any) -> Source:
    source = Source(Input(name="cam", read=device.read, video=True, audio=False, **options), linger=0.02)
    await source.start(timeout)
    return source


async def test_start_with_missing_device_returns_and_waits_for_it() -> None:
    device = Device()
    device.plugged.clear()
    source = await _started(device)
    with source.failures.read(8) as failures:
        assert source.lost is not None and source.lost.cause == "gone"
        device.plugged.set()
        back = await asyncio.wait_for(failures.get(), DEADLINE)
    assert isinstance(back, SourceBack) and 0 < back.seconds < DEADLINE
    assert source.lost is None
    await until(lambda: not _threads("cam"), DEADLINE)  # nobody reads it, so it is closed again
    await source.close()


async def test_start_with_mute_device_returns_after_the_timeout() -> None:
    delivers = threading.Event()

    def read(stop: threading.Event) -> Generator[Media, None, None]:
        while not delivers.wait(0.01) and not stop.is_set():
            pass
        while not stop.wait(0.005):
            yield _FRAME

    source = Source(Input(name="cam", read=read, video=True, audio=False))
    await source.start(0.05)
    assert source.lost is not None and source.lost.cause == "silent"
    assert not source.frame_expected
    with source.failures.read(8) as failures, _video(source).read() as video:
        delivers.set()
        assert isinstance(await asyncio.wait_for(failures.get(), DEADLINE), SourceBack)
        await asyncio.wait_for(video.get(), DEADLINE)
    await source.close()


async def test_start_with_working_device_reports_nothing() -> None:
    device = Device()
    source = await _started(device)
    assert source.lost is None and not source.failures.readers
    with _video(source).read() as video:
        await asyncio.wait_for(video.get(), DEADLINE)
    await source.close()


async def test_idle_source_is_lost_when_its_device_disappears() -> None:
    device = Device()
    source = await _started(device, present=device.plugged.is_set)
    await until(lambda: not _threads("cam"), DEADLINE)
    with source.failures.read(8) as failures:
        source.devices_changed()
        assert source.lost is None
        opened = device.opened
        device.plugged.clear()
        source.devices_changed()
        lost = await asyncio.wait_for(failures.get(), DEADLINE)
        assert isinstance(lost, SourceLost) and lost.error.cause == "gone"
        device.plugged.set()
        assert isinstance(await asyncio.wait_for(failures.get(), DEADLINE), SourceBack)
    assert device.opened > opened
    await source.close()


async def test_lost_source_is_opened_as_soon_as_devices_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "_BACKOFF", (DEADLINE, DEADLINE))
    device = Device()
    device.plugged.clear()
    source = await _started(device, present=device.plugged.is_set)
    await until(lambda: not _threads("cam"), DEADLINE)
    device.plugged.set()
    with source.failures.read(8) as failures:
        source.devices_changed()
        assert isinstance(await asyncio.wait_for(failures.get(), DEADLINE / 2), SourceBack)
    await source.close()


async def test_source_with_sound_only_is_not_back() -> None:
    video_works = threading.Event()
    gone = threading.Event()

    def read(stop: threading.Event) -> Generator[Media, None, None]:
        while not stop.wait(0.005):
            yield tone_frame(0)
            if gone.is_set():
                gone.clear()
                raise OSError(19, "No such device")
            if video_works.is_set():
                yield _FRAME

    video_works.set()
    source = Source(Input(name="cam", read=read, video=True, audio=True))
    await source.open()
    assert source.audio is not None
    with source.failures.read(8) as failures, _video(source).read() as video, source.audio.read() as audio:
        video_works.clear()
        gone.set()
        assert isinstance(await asyncio.wait_for(failures.get(), DEADLINE), SourceLost)
        while audio.get_nowait():
            pass
        for _ in range(20):
            await asyncio.wait_for(audio.get(), DEADLINE)
        assert source.lost is not None and failures.get_nowait() is None
        while video.get_nowait():
            pass
        video_works.set()
        assert isinstance(await asyncio.wait_for(failures.get(), DEADLINE), SourceBack)
        await asyncio.wait_for(video.get(), DEADLINE)
    await source.close()
