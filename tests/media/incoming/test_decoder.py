"""The decoder: no delay, a bounded queue, and a thread that ends."""

from __future__ import annotations

import asyncio
import resource
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from peer.media.frames import EncodedFrame
from peer.media.incoming import decoder as decoder_module
from peer.media.incoming.decoder import MAX_QUEUED, Decoder, open_decoder
from peer.media.recording.codec_parameters import read_video_parameters
from tests.media import encoded_frames
from tests.waiting import until


class Bench:
    """A decoder and what it has returned."""

    def __init__(self) -> None:
        self.frames: list[Any] = []
        self.seconds: list[float] = []
        self.errors = 0
        self.decoder = Decoder("test", self._on_frame, self._on_error)

    def _on_frame(self, frame: Any, seconds: float) -> None:
        self.frames.append(frame)
        self.seconds.append(seconds)

    def _on_error(self) -> None:
        self.errors += 1


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "test-decoder"]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    bench.decoder.stop()
    await until(lambda: not threads())


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_video_frame_is_decoded_before_the_next_is_put(bench: Bench, codec: str) -> None:
    for number, frame in enumerate(encoded_frames.video_frames(codec, 10), 1):
        assert bench.decoder.decode(frame)
        await until(lambda number=number: len(bench.frames) == number)
    assert [float(frame.pts * frame.time_base) for frame in bench.frames] == [n / 30 for n in range(10)]
    assert {frame.format.name for frame in bench.frames} == {"yuv420p"}
    assert all(seconds > 0 for seconds in bench.seconds)


@pytest.mark.parametrize("profile", ["baseline", "main", "high"])
async def test_h264_of_any_profile_is_decoded_without_delay(bench: Bench, profile: str) -> None:
    frames = encoded_frames.video_frames("h264", 8, profile=profile)
    for number, frame in enumerate(frames, 1):
        bench.decoder.decode(frame)
        await until(lambda number=number: len(bench.frames) == number)


@pytest.mark.parametrize(
    ("codec", "rate", "channels"),
    [("opus", 48_000, 2), ("pcm_mulaw", 8_000, 1), ("pcm_alaw", 8_000, 1), ("g722", 16_000, 1)],
)
async def test_audio_is_decoded_to_frames_of_20_ms(bench: Bench, codec: str, rate: int, channels: int) -> None:
    for frame in encoded_frames.audio_frames(codec, 5):
        bench.decoder.decode(frame)
    await until(lambda: len(bench.frames) == 5)
    for number, frame in enumerate(bench.frames):
        assert (frame.sample_rate, frame.samples, frame.layout.nb_channels) == (rate, rate // 50, channels)
        assert frame.format.name == "s16"
        assert float(frame.pts * frame.time_base) == pytest.approx(number * 0.02)


async def test_change_of_codec_starts_a_new_decoder(bench: Bench) -> None:
    for frame in (*encoded_frames.video_frames("vp8", 2), *encoded_frames.video_frames("h264", 2, (320, 240))):
        bench.decoder.decode(frame)
    await until(lambda: len(bench.frames) == 4)
    assert [frame.width for frame in bench.frames] == [160, 160, 320, 320]
    assert len(threads()) == 1


async def test_full_queue_rejects_frames(bench: Bench) -> None:
    (frame, *_) = encoded_frames.video_frames("vp8", 1, (1280, 720))
    accepted = [bench.decoder.decode(frame) for _ in range(4 * MAX_QUEUED)]
    assert not all(accepted)
    assert accepted[:30] == [True] * 30, "a repaired loss was mistaken for a slow decoder"
    await until(lambda: len(bench.frames) == sum(accepted))


async def test_queue_is_limited_in_bytes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_module, "MAX_QUEUED_BYTES", 100_000)
    large = replace(encoded_frames.video_frames("vp8", 1)[0], data=bytes(60_000))
    monkeypatch.setattr(decoder_module._DecoderThread, "_run", lambda self: None)
    assert [bench.decoder.decode(large) for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize("data", [b"", b"\xff" * 50, bytes(1000)])
async def test_undecodable_frame_is_reported_and_skipped(bench: Bench, data: bytes) -> None:
    bench.decoder.decode(EncodedFrame("video", "nothing", data, 0, 90_000, True, 0.0, None))
    await until(lambda: bench.errors == 1)
    bench.decoder.decode(EncodedFrame("video", "h264", data, 0, 90_000, True, 0.0, None))
    frames = encoded_frames.video_frames("vp8", 1)
    bench.decoder.decode(frames[0])
    await until(lambda: bench.frames)


async def test_small_packet_cannot_claim_a_huge_frame(bench: Bench) -> None:
    """RFC 6386 9.1: width and height are in the first ten bytes of a key frame."""
    (frame,) = encoded_frames.video_frames("vp8", 1)
    huge = frame.data[:6] + (16_000).to_bytes(2, "little") * 2 + frame.data[10:]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bench.decoder.decode(replace(frame, data=huge))
    await until(lambda: bench.errors == 1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kB"
    assert read_video_parameters(replace(frame, data=huge)) is None
    bench.decoder.decode(frame)
    await until(lambda: len(bench.frames) == 1)


async def test_stop_drops_queued_frames_and_ends_the_thread(bench: Bench) -> None:
    frames = encoded_frames.video_frames("vp8", 3)
    for frame in frames:
        bench.decoder.decode(frame)
    bench.decoder.stop()
    bench.decoder.stop()
    await until(lambda: not threads())
    await asyncio.sleep(0)
    assert bench.frames == []
    bench.decoder.decode(frames[0])
    await until(lambda: bench.frames)


def test_video_decoders_use_one_thread() -> None:
    for codec in ("vp8", "h264"):
        assert open_decoder(codec).thread_count == 1
