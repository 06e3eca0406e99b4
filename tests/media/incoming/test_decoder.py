"""The decoder: each frame comes out when it went in, what waits is bounded, and its thread ends."""

from __future__ import annotations

import asyncio
import resource
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from peer.media.frames import EncodedFrame
from peer.media.incoming.decoder import BACKLOG, Decoder, open_decoder
from peer.media.recording.codec_parameters import read_head
from tests.media import coded
from tests.waiting import until


class Bench:
    def __init__(self) -> None:
        self.frames: list[Any] = []
        self.seconds: list[float] = []
        self.errors = 0
        self.decoder = Decoder("test", self._frame, self._error)

    def _frame(self, frame: Any, seconds: float) -> None:
        self.frames.append(frame)
        self.seconds.append(seconds)

    def _error(self) -> None:
        self.errors += 1


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "test-decoder"]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    made.decoder.stop()
    await until(lambda: not threads())


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_a_picture_comes_out_before_the_next_goes_in(bench: Bench, codec: str) -> None:
    for number, frame in enumerate(coded.pictures(codec, 10), 1):
        assert bench.decoder.decode(frame)
        await until(lambda number=number: len(bench.frames) == number)
    assert [float(frame.pts * frame.time_base) for frame in bench.frames] == [n / 30 for n in range(10)]
    assert {frame.format.name for frame in bench.frames} == {"yuv420p"}
    assert all(seconds > 0 for seconds in bench.seconds)


@pytest.mark.parametrize("profile", ["baseline", "main", "high"])
async def test_no_profile_makes_the_decoder_hold_pictures_back(bench: Bench, profile: str) -> None:
    frames = coded.pictures("h264", 8, profile=profile)
    for number, frame in enumerate(frames, 1):
        bench.decoder.decode(frame)
        await until(lambda number=number: len(bench.frames) == number)


@pytest.mark.parametrize(
    ("codec", "rate", "channels"),
    [("opus", 48_000, 2), ("pcm_mulaw", 8_000, 1), ("pcm_alaw", 8_000, 1), ("g722", 16_000, 1)],
)
async def test_sound_comes_out_in_pieces_of_20_ms(bench: Bench, codec: str, rate: int, channels: int) -> None:
    for frame in coded.sounds(codec, 5):
        bench.decoder.decode(frame)
    await until(lambda: len(bench.frames) == 5)
    for number, frame in enumerate(bench.frames):
        assert (frame.sample_rate, frame.samples, frame.layout.nb_channels) == (rate, rate // 50, channels)
        assert frame.format.name == "s16"
        assert float(frame.pts * frame.time_base) == pytest.approx(number * 0.02)


async def test_another_codec_starts_another_decoder(bench: Bench) -> None:
    for frame in (*coded.pictures("vp8", 2), *coded.pictures("h264", 2, (320, 240))):
        bench.decoder.decode(frame)
    await until(lambda: len(bench.frames) == 4)
    assert [frame.width for frame in bench.frames] == [160, 160, 320, 320]
    assert len(threads()) == 1


async def test_more_than_may_wait_is_refused(bench: Bench) -> None:
    (frame, *_) = coded.pictures("vp8", 1, (1280, 720))
    taken = [bench.decoder.decode(frame) for _ in range(4 * BACKLOG)]
    assert not all(taken)
    assert taken[:30] == [True] * 30, "a repaired loss was taken for a slow decoder"
    await until(lambda: len(bench.frames) == sum(taken))


@pytest.mark.parametrize("data", [b"", b"\xff" * 50, bytes(1000)])
async def test_what_cannot_be_decoded_is_told_and_ends_nothing(bench: Bench, data: bytes) -> None:
    bench.decoder.decode(EncodedFrame("video", "nothing", data, 0, 90_000, True, 0.0, None))
    await until(lambda: bench.errors == 1)
    bench.decoder.decode(EncodedFrame("video", "h264", data, 0, 90_000, True, 0.0, None))
    frames = coded.pictures("vp8", 1)
    bench.decoder.decode(frames[0])
    await until(lambda: bench.frames)


async def test_a_small_packet_cannot_ask_for_much_memory(bench: Bench) -> None:
    """RFC 6386 9.1: width and height are in the first ten octets of a key frame."""
    (frame,) = coded.pictures("vp8", 1)
    huge = frame.data[:6] + (16_000).to_bytes(2, "little") * 2 + frame.data[10:]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bench.decoder.decode(replace(frame, data=huge))
    await until(lambda: bench.errors == 1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kB"
    assert read_head(replace(frame, data=huge)) is None
    bench.decoder.decode(frame)
    await until(lambda: len(bench.frames) == 1)


async def test_nothing_comes_after_stop_and_the_thread_ends(bench: Bench) -> None:
    frames = coded.pictures("vp8", 3)
    for frame in frames:
        bench.decoder.decode(frame)
    bench.decoder.stop()
    bench.decoder.stop()
    await until(lambda: not threads())
    await asyncio.sleep(0)
    assert bench.frames == []
    bench.decoder.decode(frames[0])
    await until(lambda: bench.frames)


def test_pictures_are_not_decoded_in_threads_that_cost_a_picture_each() -> None:
    for codec in ("vp8", "h264"):
        assert open_decoder(codec).thread_count == 1
