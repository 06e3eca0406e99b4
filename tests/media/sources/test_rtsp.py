"""An RTSP camera as a source."""

from __future__ import annotations

import asyncio
from urllib.parse import unquote

import av
import numpy as np
import pytest

from peer.errors import MediaError
from peer.media.frames import AUDIO_RATE
from peer.media.sources import rtsp
from peer.media.sources.audio_framer import MAX_DRIFT
from peer.media.sources.local_media import open_sources
from peer.media.sources.source import SourceBack, SourceLost
from peer.media.sources.spec import parse_audio, parse_video
from peer.media.test_pattern import beep_onsets, dominant_frequency, read_pattern
from tests.media import rtsp_server


async def test_rtsp_audio_and_video_in_sync_from_one_connection() -> None:
    async with rtsp_server.serve() as camera:
        media = await open_sources(parse_video(camera.url), parse_audio(camera.url))
        assert media.video is not None
        assert media.audio is not None
        video_frames: list[av.VideoFrame] = []
        audio_frames: list[av.AudioFrame] = []
        with media.video.read(100) as video, media.audio.read(200) as audio:
            async with asyncio.timeout(10):
                while len(video_frames) < 55:
                    video_frames.append(await video.get())
                while not audio_frames or audio_frames[-1].time < video_frames[-1].time:
                    audio_frames.append(await audio.get())
        await media.close()
        assert camera.connections == 1
    readings = [read_pattern(image.to_ndarray(format="gray")) for image in video_frames]
    shown = [(r.frame, image.time) for r, image in zip(readings, video_frames, strict=True) if r is not None][-50:]
    numbers = np.array([number for number, _ in shown])
    steps = np.diff(numbers)
    assert (steps > 0).all() and (steps > 1).sum() < 5, "a busy machine may skip some"
    # What was added to the stream's timestamps. It changes only if a packet is less late than all before.
    offsets = np.array([time for _, time in shown]) - numbers / rtsp_server.FPS
    assert np.median(np.abs(np.diff(offsets))) < 0.001, "timestamps of the stream, not of the arrival"
    samples = np.concatenate([audio_frame.to_ndarray().reshape(-1, 2)[:, 0] for audio_frame in audio_frames])
    assert dominant_frequency(samples) == pytest.approx(440, abs=3)
    flash = int(np.flatnonzero(numbers % rtsp_server.FPS == 0)[-1])
    beeps = [_media_time_of(onset, audio_frames) for onset in beep_onsets(samples)]
    at = min(beeps, key=lambda beep: abs(beep - shown[flash][1])) - numbers[flash] / rtsp_server.FPS
    around = offsets[flash : flash + 2]  # the beep arrived between these two frames
    assert around.min() - MAX_DRIFT - 0.005 < at < around.max() + MAX_DRIFT + 0.005


def _media_time_of(seconds: float, frames: list[av.AudioFrame]) -> float:
    """Return the timestamp of the sample that comes ``seconds`` after the first one. Timestamps may have gaps."""
    for frame in frames:
        if seconds < frame.samples / AUDIO_RATE:
            return float(frame.time) + seconds
        seconds -= frame.samples / AUDIO_RATE
    raise AssertionError("after the last frame")


async def test_rtsp_camera_that_refuses_tcp_is_read_over_udp() -> None:
    async with rtsp_server.serve() as camera:
        camera.tcp = False
        media = await open_sources(parse_video(camera.url), parse_audio(camera.url))
        assert media.video is not None and media.audio is not None
        with media.video.read() as video, media.audio.read() as audio:
            frame = await asyncio.wait_for(video.get(), 10)
            assert read_pattern(frame.to_ndarray(format="gray")) is not None
            assert (await asyncio.wait_for(audio.get(), 10)).samples == 960
        await media.close()


@pytest.mark.parametrize("password", ["secret", "sec/ret", "sec?ret#1", "sec%2Fret", "a@b", "50%/h"])
async def test_rtsp_password_may_have_raw_delimiters(password: str) -> None:
    async with rtsp_server.serve() as camera:
        camera.credentials = f"admin:{unquote(password)}"
        url = camera.url.replace("//", f"//admin:{password}@")
        media = await open_sources(parse_video(url), parse_audio("none"))
        assert media.video is not None
        await media.close()


async def test_rtsp_wrong_password_is_called_wrong() -> None:
    async with rtsp_server.serve() as camera:
        camera.credentials = "admin:secret"
        url = camera.url.replace("//", "//admin:wrong@")
        with pytest.raises(MediaError, match="the name or the password is wrong") as caught:
            await open_sources(parse_video(url), parse_audio("none"))
        assert "admin" not in str(caught.value)
        with pytest.raises(MediaError, match="requires a name and a password"):
            await open_sources(parse_video(camera.url), parse_audio("none"))


@pytest.mark.parametrize(
    "url", ["rtsp://camera:554/live@1", "rtsp://camera/a:b@c", "rtsp://me:secret@camera:554/a@b"]
)
def test_rtsp_url_with_an_at_sign_in_its_path_is_unchanged(url: str) -> None:
    assert rtsp.escaped(url) == url


async def test_rtsp_requests_only_required_kinds() -> None:
    async with rtsp_server.serve() as camera:
        media = await open_sources(parse_video("none"), parse_audio(camera.url))
        assert media.video is None
        assert media.audio is not None
        with media.audio.read() as audio:
            assert (await asyncio.wait_for(audio.get(), 10)).samples == 960
        await media.close()


async def test_rtsp_without_audio_sends_video_with_notice() -> None:
    async with rtsp_server.serve() as camera:
        camera.microphone = False
        media = await open_sources(parse_video(camera.url), parse_audio("same"))
        assert media.audio is None
        assert media.notices == (f"{camera.url}: it sends no audio: sending video only",)
        assert media.video is not None
        with media.video.read() as video_frames:
            await asyncio.wait_for(video_frames.get(), 10)
        await media.close()


async def test_rtsp_lost_connection_is_reopened() -> None:
    async with rtsp_server.serve() as camera:
        media = await open_sources(parse_video(camera.url), parse_audio("none"))
        assert media.video is not None
        (source,) = media.sources
        with media.video.read() as video, source.failures.read(4) as failures:
            await asyncio.wait_for(video.get(), 10)
            camera.cut()
            assert isinstance(await asyncio.wait_for(failures.get(), 10), SourceLost)
            assert isinstance(await asyncio.wait_for(failures.get(), 10), SourceBack)
            await asyncio.wait_for(video.get(), 10)
        assert camera.connections >= 2
        await media.close()


async def test_rtsp_silent_server_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtsp, "_TIMEOUT", 0.3)
    hung_up = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        hung_up.set()

    silent = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with silent:
        url = f"rtsp://admin:secret@127.0.0.1:{silent.sockets[0].getsockname()[1]}/x"
        with pytest.raises(MediaError, match="no answer in time") as caught:
            await open_sources(parse_video(url), parse_audio("none"))
        await asyncio.wait_for(hung_up.wait(), 5)
    assert "secret" not in str(caught.value)


async def test_rtsp_other_protocol_raises() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail ready\r\n" * 500)
        writer.close()

    other = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with other:
        url = f"rtsp://127.0.0.1:{other.sockets[0].getsockname()[1]}/x"
        with pytest.raises(MediaError):
            await open_sources(parse_video(url), parse_audio("none"))


async def test_rtsp_refused_connection_raises_at_once() -> None:
    with pytest.raises(MediaError, match="nothing listens"):
        await open_sources(parse_video("rtsp://127.0.0.1:9/x"), parse_audio("none"))


@pytest.mark.parametrize("password", ["secret", "sec@ret", "sec/ret", "s:e/c@r?e#t@"])
def test_rtsp_name_hides_the_password(password: str) -> None:
    assert rtsp.name(f"rtsp://admin:{password}@camera:554/live") == "rtsp://camera:554/live"


async def test_rtsp_h264_is_undecoded_until_a_video_reader() -> None:
    async with rtsp_server.serve() as camera:
        media = await open_sources(parse_video(camera.url), parse_audio("none"))
        assert media.encoded is not None
        assert media.video is not None
        assert media.passthrough is not None
        (source,) = media.sources
        before = source.decoded
        with media.encoded.read(100) as encoded:
            async with asyncio.timeout(10):
                while not (first := await encoded.get()).key:
                    pass
                frames = [first, *[await encoded.get() for _ in range(10)]]
            assert media.passthrough.refusal("42e01f") is None
            assert media.passthrough.size == rtsp_server.SIZE
            assert source.decoded - before <= 1  # packets in flight when open() returned
            decoder = av.CodecContext.create("h264", "r")
            shown = [image for frame in frames for image in decoder.decode(av.Packet(frame.data))]
            assert len(shown) == 11
            assert np.diff([frame.timestamp for frame in frames]) == pytest.approx([3600] * 10, abs=2700)
            with media.video.read() as video:
                image = await asyncio.wait_for(video.get(), 10)
            assert source.decoded > before
            assert read_pattern(image.to_ndarray(format="gray")) is not None
        await media.close()


async def test_rtsp_reopened_stream_is_checked_again() -> None:
    async with rtsp_server.serve() as camera:
        media = await open_sources(parse_video(camera.url), parse_audio("none"))
        assert media.encoded is not None
        assert media.passthrough is not None
        with media.encoded.read(100) as encoded, media.sources[0].failures.read(4) as failures:
            while not (await asyncio.wait_for(encoded.get(), 10)).key:
                pass
            camera.cut()
            assert isinstance(await asyncio.wait_for(failures.get(), 10), SourceLost)
            while encoded.get_nowait() is not None:
                pass
            while not (await asyncio.wait_for(encoded.get(), 10)).key:
                pass
            assert media.passthrough.refusal() is None
        await media.close()
