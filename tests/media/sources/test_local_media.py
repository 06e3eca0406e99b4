"""Sources opened by --video and --audio: sharing, errors for named sources, notices for ``auto``."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import av
import pytest

from peer.errors import MediaError
from peer.media.fanout import Reader
from peer.media.frames import EncodedFrame, media_time
from peer.media.sources import devices, local_media
from peer.media.sources.local_media import LocalMedia, SourceBack, SourceLost, open_sources
from peer.media.sources.spec import parse_audio, parse_video
from peer.media.test_pattern import Pattern, read_pattern
from tests.media.clips import write_clip, write_h264

DEADLINE = 20.0
"""Time limit in seconds, ample on a busy machine."""

_PICTURE = Pattern(64, 64, 30).draw(0)


def _threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"capture {name}"]


async def _open(video: str, audio: str) -> LocalMedia:
    return await open_sources(parse_video(video), parse_audio(audio), size=(320, 180), fps=30)


async def _gone(name: str) -> None:
    for thread in _threads(name):
        await asyncio.to_thread(thread.join, DEADLINE)
        assert not thread.is_alive()


async def _next_number(video: Reader[av.VideoFrame]) -> int | None:
    reading = read_pattern((await video.get()).to_ndarray(format="gray"))
    return reading.frame if reading is not None else None


async def test_test_source_delivers_both_kinds_from_one_thread() -> None:
    media = await _open("test", "test")
    assert media.video is not None
    assert media.audio is not None
    with media.video.read() as video, media.audio.read(8) as audio:
        async with asyncio.timeout(DEADLINE):
            frame, audio_frame = await video.get(), await audio.get()
        assert read_pattern(frame.to_ndarray(format="gray")) is not None
        assert (frame.width, frame.height) == (320, 180)
        assert abs(frame.time - audio_frame.time) < 0.1
        assert len(_threads("test")) == 1
    await media.close()
    assert _threads("test") == []
    assert media.notices == ()


async def test_looped_file_resumes_after_it_was_gone(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", seconds=0.4, audio=False)
    media = await _open(f"{clip}?loop", "none")
    assert media.video is not None
    source = media.sources[0]
    with source.failures.read() as failures, media.video.read() as video:
        async with asyncio.timeout(DEADLINE):
            await video.get()
            away = clip.rename(tmp_path / "away.mkv")
            lost = await failures.get()
            away.rename(clip)
            back = await failures.get()
            await video.get()
    assert isinstance(lost, SourceLost)
    assert "no such file" in str(lost.error)
    assert isinstance(back, SourceBack)
    await media.close()


async def test_open_none_returns_none_without_notice() -> None:
    media = await _open("none", "none")
    assert (media.video, media.audio, media.notices, media.sources) == (None, None, (), ())
    await media.close()


async def test_open_auto_without_devices_gives_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "list_cameras", list)
    monkeypatch.setattr(devices, "list_microphones", list)
    media = await _open("auto", "auto")
    assert (media.video, media.audio) == (None, None)
    assert media.notices == (
        "no camera found: sending no video; --video test sends a test pattern",
        "no microphone found: sending no audio; --audio test sends a tone",
    )


async def test_open_auto_with_broken_device_notice_has_cause(monkeypatch: pytest.MonkeyPatch) -> None:
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
async def test_open_named_missing_source_raises(video: str, cause: str) -> None:
    with pytest.raises(MediaError, match=cause):
        await _open(video, "none")


async def test_open_error_closes_other_source(tmp_path: Path) -> None:
    with pytest.raises(MediaError):
        await _open("test", "/nowhere/talk.wav")
    assert _threads("test") == []


async def test_open_file_for_both_kinds_opens_it_once(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip.mkv", seconds=0.5))
    media = await _open(clip, clip)
    assert len(media.sources) == 1
    assert media.video is not None
    assert media.audio is not None
    with media.audio.read(8) as audio, media.video.read(8) as video:
        async with asyncio.timeout(DEADLINE):
            assert abs((await audio.get()).time - (await video.get()).time) < 0.5
    await media.close()
    await asyncio.gather(_gone(clip))


async def test_file_plays_from_first_reader_and_can_play_again(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip.mkv", seconds=0.3, audio=False))
    media = await _open(clip, "none")
    assert media.video is not None
    assert _threads(clip) == []
    began = media_time()
    with media.video.read(30) as video:
        frame = await asyncio.wait_for(
            video.get(), DEADLINE
        )  # a busy machine may skip frames, the first one included
        reading = read_pattern(frame.to_ndarray(format="gray"))
        assert reading is not None
        assert frame.time - reading.frame / 30 >= began - 0.001
        async with asyncio.timeout(DEADLINE):
            last = [await _next_number(video)]
            while last[-3:] != [8, 8, 8]:  # the last frame is repeated
                last.append(await _next_number(video))
        assert not video.closed
    ended = media_time()
    with media.video.read(30) as video:
        frame = await asyncio.wait_for(video.get(), DEADLINE)
        reading = read_pattern(frame.to_ndarray(format="gray"))
        assert reading is not None
        assert frame.time - reading.frame / 30 >= ended - 0.001
    await media.close()
    await _gone(clip)


async def test_open_same_audio_of_silent_file_gives_notice(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip.mkv", seconds=0.2, audio=False))
    media = await _open(clip, "same")
    assert media.video is not None and media.audio is None
    assert media.notices == (f"{clip}: it has no audio: sending video only",)
    assert len(media.sources) == 1
    await media.close()


async def test_open_named_audio_of_silent_file_raises(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip.mkv", seconds=0.2, audio=False))
    with pytest.raises(MediaError, match="no audio"):
        await _open(clip, clip)


async def test_open_same_audio_uses_the_video_source(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip.mkv", seconds=0.2))
    media = await _open(f"{clip}?loop", "same")
    assert media.video is not None and media.audio is not None
    assert (len(media.sources), media.notices) == (1, ())
    await media.close()


async def test_open_file_and_its_loop_are_two_inputs(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip.mkv", seconds=0.2))
    media = await _open(f"{clip}?loop", clip)
    assert len(media.sources) == 2
    await media.close()


async def _frames(media: LocalMedia, count: int) -> list[EncodedFrame]:
    assert media.encoded is not None
    with media.encoded.read(count) as encoded:
        async with asyncio.timeout(10):
            return [await encoded.get() for _ in range(count)]


async def test_h264_file_passthrough_decodes_nothing(tmp_path: Path) -> None:
    clip = write_h264(tmp_path / "clip.mp4")
    media = await open_sources(parse_video(f"{clip}?loop"), parse_audio("none"))
    assert media.passthrough is not None
    assert media.passthrough.refusal() == "not seen yet"
    assert media.passthrough.profile_level_id is not None  # needed for an offer, before the file plays
    frames = await _frames(media, 10)
    assert (frames[0].key, frames[0].codec) == (True, "h264")
    assert media.passthrough.refusal() is None
    assert media.sources[0].decoded == 0
    await media.close()


async def test_video_reader_beside_passthrough_switches_decoding(tmp_path: Path) -> None:
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
            with media.video.read() as video:
                reading = read_pattern((await video.get()).to_ndarray(format="gray"))
            assert reading is not None
            assert reading.frame >= 19
            decoded = source.decoded
            for _ in range(30):
                await encoded.get()
            assert source.decoded <= decoded + 15  # cached packets, and those in flight
    await media.close()


async def test_vp8_file_passthrough_is_refused(tmp_path: Path) -> None:
    clip = write_h264(tmp_path / "clip.webm", seconds=0.2, codec="libvpx")
    media = await open_sources(parse_video(str(clip)), parse_audio("none"))
    assert media.passthrough is not None
    assert media.passthrough.refusal() == "not H.264 but vp8"
    assert media.encoded is not None
    assert media.video is not None
    with media.video.read() as video, media.encoded.read(10) as encoded:  # the file's only key frame is its first
        await asyncio.wait_for(video.get(), DEADLINE)
        assert encoded.get_nowait() is None
    await media.close()


async def test_h264_file_above_maximum_size_is_refused(tmp_path: Path) -> None:
    clip = str(write_h264(tmp_path / "clip.mp4"))
    media = await open_sources(parse_video(clip), parse_audio("none"), size=(160, 90))
    assert media.passthrough is not None
    assert media.passthrough.refusal() == "its size is 320x180, the maximum is 160x90"
    await media.close()


async def test_test_source_and_microphone_have_no_encoded(tmp_path: Path) -> None:
    media = await _open("test", str(write_clip(tmp_path / "clip.mkv", seconds=0.2)))
    assert (media.encoded, media.passthrough) == (None, None)
    assert [source.encoded for source in media.sources] == [None, None]
    await media.close()


async def _unattended(video: str, audio: str) -> LocalMedia:
    async with asyncio.timeout(6):  # the promise of docs/node.md, with time to join
        return await open_sources(parse_video(video), parse_audio(audio), size=(320, 180), unattended=True)


async def test_unattended_auto_waits_for_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(devices, "list_microphones", list)
    monkeypatch.setattr(local_media, "list_nodes", list)
    media = await _unattended("auto", "auto")
    assert media.video is not None and media.audio is not None and media.notices == ()
    assert sorted(str(source.lost) for source in media.sources) == [
        "camera: no camera found; plug one in; --video test sends a test pattern",
        "microphone: no microphone found; plug one in; --audio test sends a tone",
    ]
    await media.close()


@pytest.mark.parametrize(
    ("video", "cause"),
    [
        ("/dev/video-nowhere", "missing"),
        ("/dev/null", "failed"),
        ("No Such Camera", "missing"),
        ("rtsp://127.0.0.1:9/door", "unreachable"),
    ],
)
async def test_unattended_missing_source_is_lost(video: str, cause: str) -> None:
    media = await _unattended(video, "none")
    assert media.video is not None
    assert media.sources[0].lost is not None and media.sources[0].lost.cause == cause
    await media.close()


async def test_unattended_missing_file_raises() -> None:
    with pytest.raises(MediaError, match="no such file"):
        await _unattended("/nowhere/clip.mp4", "none")
