"""Expectations, measured on real frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import av
import numpy as np
import pytest

from peer.media.fanout import Fanout
from peer.script import language
from peer.script.expectations import AudioMeter, VideoMeter, measure

RATE = 48_000


def video_frame(luma: int = 128, width: int = 64, height: int = 48) -> av.VideoFrame:
    gray = np.full((height, width), luma, np.uint8)
    return av.VideoFrame.from_ndarray(gray, format="gray").reformat(format="yuv420p", dst_color_range="JPEG")


def audio_frame(amplitude: float, samples: int = 960, layout: str = "stereo") -> av.AudioFrame:
    wave = np.sin(2 * np.pi * 500 * np.arange(samples) / RATE) * amplitude * 32767
    channels = 2 if layout == "stereo" else 1
    frame = av.AudioFrame.from_ndarray(
        np.repeat(wave.astype(np.int16), channels).reshape(1, -1), format="s16", layout=layout
    )
    frame.sample_rate = RATE
    return frame


def expectation(line: str) -> language.ExpectMedia:
    (step,) = language.parse(line)
    assert isinstance(step, language.ExpectMedia)
    return step


def test_fps_counts_frames_of_the_window_only() -> None:
    meter = VideoMeter()
    for number in range(60):
        meter.add(video_frame(), number / 20)
    values = meter.read(1.0, 2.96)
    assert values["fps"] == pytest.approx(20, abs=1)
    assert (values["width"], values["height"]) == (64, 48)
    assert meter.read(1.0, 10.0) == {"fps": 0}


@pytest.mark.parametrize("luma", [0, 128, 255])
def test_brightness_is_mean_luma(luma: int) -> None:
    meter = VideoMeter()
    meter.add(video_frame(luma, width=62), 0.5)
    assert meter.read(1.0, 1.0)["brightness"] == pytest.approx(luma, abs=2)


@pytest.mark.parametrize("layout", ["mono", "stereo"])
@pytest.mark.parametrize(("amplitude", "level"), [(1.0, -3.0), (0.1, -23.0), (0.01, -43.0)])
def test_level_is_rms_in_db_below_full_scale(layout: str, amplitude: float, level: float) -> None:
    meter = AudioMeter()
    for number in range(25):
        meter.add(audio_frame(amplitude, layout=layout), number / 50)
    assert meter.read(0.5, 0.5)["level"] == pytest.approx(level, abs=0.3)


def test_silence_has_a_level_and_missing_audio_has_none() -> None:
    meter = AudioMeter()
    assert meter.read(0.5, 1.0) == {}
    meter.add(audio_frame(0.0), 0.9)
    assert meter.read(0.5, 1.0)["level"] == -120


@pytest.fixture
async def gray_video() -> AsyncIterator[Fanout[Any]]:
    """A source of gray video frames, 50 per second, until the test ends."""
    fanout: Fanout[Any] = Fanout()

    async def feed() -> None:
        frame = video_frame(100)
        while True:
            fanout.put(frame)
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(feed())
        yield fanout
        task.cancel()


async def failure(line: str, fanout: Fanout[Any]) -> str | None:
    with fanout.read(4) as reader:
        async with asyncio.timeout(5):
            return await measure(expectation(line), reader)


async def test_expectation_without_condition_needs_one_frame(gray_video: Fanout[Any]) -> None:
    assert await failure("expect video door", gray_video) is None


async def test_conditions_hold_over_the_window(gray_video: Fanout[Any]) -> None:
    line = "expect video door fps>10 fps<100 width==64 height==48 brightness>80 brightness<120 for 400ms"
    assert await failure(line, gray_video) is None


async def test_frames_dropped_by_the_reader_count_towards_fps() -> None:
    """After a loss is repaired, many frames are decoded at once, and the reader keeps the newest."""
    fanout: Fanout[Any] = Fanout()

    async def feed() -> None:
        while True:
            for _ in range(10):
                fanout.put(video_frame())
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(feed())
        assert await failure("expect video door fps>50 for 500ms within 4s", fanout) is None
        task.cancel()


async def test_failure_names_the_measured_value(gray_video: Fanout[Any]) -> None:
    why = await failure("expect video door fps>10 width>=640 for 300ms", gray_video)
    assert why == "width was 64 over 0.3 s, expected width>=640"


async def test_within_measures_until_conditions_hold() -> None:
    fanout: Fanout[Any] = Fanout()

    async def feed() -> None:
        for luma in [10] * 20 + [200] * 40:
            fanout.put(video_frame(luma))
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        group.create_task(feed())
        assert await failure("expect video door brightness>150 for 200ms within 4s", fanout) is None


async def test_within_fails_at_its_end(gray_video: Fanout[Any]) -> None:
    why = await failure("expect video door fps>1000 for 200ms within 500ms", gray_video)
    assert why is not None
    assert "over 0.2 s, expected fps>1000" in why


async def test_no_frame_fails() -> None:
    assert await failure("expect video door within 100ms", Fanout()) == "no video arrived"
    assert await failure("expect audio door level>-50dB within 100ms", Fanout()) == "no audio arrived"


async def test_end_of_the_call_fails() -> None:
    fanout: Fanout[Any] = Fanout()
    with fanout.read(4) as reader:
        fanout.put(video_frame())
        fanout.close()
        assert await measure(expectation("expect video door fps>1 for 3s"), reader) == "the call ended"


async def test_within_waits_for_late_audio() -> None:
    fanout: Fanout[Any] = Fanout()

    async def feed() -> None:
        for amplitude in [0.0] * 15 + [0.1] * 60:
            fanout.put(audio_frame(amplitude))
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        group.create_task(feed())
        assert await failure("expect audio door level>-26dB for 200ms within 4s", fanout) is None


@pytest.mark.parametrize("condition", ["brightness<10", "width<=64", "height==48", "width<10000"])
async def test_stopped_video_meets_no_condition_on_its_frames(condition: str) -> None:
    fanout: Fanout[Any] = Fanout()
    with fanout.read(4) as reader:
        fanout.put(video_frame(255))
        why = await measure(expectation(f"expect video door {condition} for 150ms"), reader)
    assert why == f"nothing arrived over 0.15 s, expected {condition}"


async def test_stopped_audio_is_not_quiet() -> None:
    fanout: Fanout[Any] = Fanout()
    with fanout.read(4) as reader:
        fanout.put(audio_frame(0.5))
        why = await measure(expectation("expect audio door level<-60dB for 150ms within 400ms"), reader)
    assert why == "nothing arrived over 0.15 s, expected level<-60dB"


async def test_stopped_video_has_zero_fps() -> None:
    fanout: Fanout[Any] = Fanout()
    with fanout.read(4) as reader:
        fanout.put(video_frame())
        assert await measure(expectation("expect video door fps<1 for 150ms"), reader) is None
