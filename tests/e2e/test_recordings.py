"""Recordings by real processes: after a kill, on a full disk, and in segments. What was written must play."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from peer import Agent, events
from peer.media.test_pattern import PatternReading, beep_onsets, read_pattern
from tests.cli.program import DEADLINE, QUIET, Program
from tests.media.recordings import ffmpeg, payloads

CAMERA = (
    *("--video", "test", "--audio", "test", "--speaker", "none", "--no-show"),
    *("--size", "320x240", "--fps", "30", "--max-bitrate", "500k"),
)


@pytest.fixture(scope="module")
def relay() -> Iterator[str]:
    with Program("serve", "--port", "0", "--json") as program:
        yield str(program.expect("listening")["url"])


@pytest.fixture(scope="module", autouse=True)
def camera(relay: str) -> Iterator[None]:
    with Program("run", "--id", "camera", "--server", relay, "--json", *CAMERA) as program:
        program.expect("joined")
        yield


def caller(relay: str, *args: str) -> Program:
    return Program("call", "camera", "--server", relay, "--json", *QUIET, *args)


def readings(path: Path) -> list[PatternReading]:
    """Return the readings of all frames with a legible test pattern."""
    with av.open(str(path)) as file:
        found = (read_pattern(frame.to_ndarray(format="gray")[:, : frame.width]) for frame in file.decode(video=0))
        return [reading for reading in found if reading is not None]


def clocks(path: Path) -> list[int]:
    """Return the sender's Unix time in milliseconds, modulo 2**32, of all frames with a legible test pattern."""
    return [reading.clock for reading in readings(path)]


def ffprobe(path: Path) -> dict[str, Any]:
    """Return duration and start time in seconds, and the codecs of the streams, as reported by ffprobe."""
    command = ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", str(path)]
    report = json.loads(subprocess.run(command, capture_output=True, timeout=60, check=True).stdout)
    return {
        "duration": float(report["format"]["duration"]),
        "start": float(report["format"]["start_time"]),
        "codecs": [stream["codec_name"] for stream in report["streams"]],
    }


@pytest.mark.parametrize("suffix", ["mkv", "webm", "mp4"])
def test_killed_recording_loses_at_most_two_seconds(relay: str, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    with caller(relay, "--record", str(path)) as program:
        program.expect("first-frame")
        for _ in range(4):
            program.expect("stats")
        killed = time.time_ns() // 1_000_000 % 2**32
        program.send(signal.SIGKILL)
        program.wait()
    drawn = clocks(path)
    assert len(drawn) > 20
    assert killed - drawn[-1] < 2000
    decode(path)


def decode(path: Path) -> None:
    """Decode all of ``path``. Fails if FFmpeg reports an error."""
    # A fixed frame rate would give two frames of a busy machine the same time, which is an error.
    unchanged_times = ("-fps_mode", "passthrough", "-enc_time_base", "-1")
    ffmpeg("-i", path, *unchanged_times, "-f", "null", "-")


def limit_file_size(program: Program, size: int) -> None:
    """Let writes of ``program`` beyond ``size`` bytes of a file fail."""
    resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize("suffix", ["mkv", "webm", "mp4"])
def test_full_disk_ends_the_recording_but_not_the_call(relay: str, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    with caller(relay, "--record", str(path)) as program:
        program.expect("first-frame")
        for _ in range(3):
            program.expect("stats")
        until(lambda: path.stat().st_size > 5000)
        full = time.time_ns() // 1_000_000 % 2**32
        limit_file_size(program, path.stat().st_size)
        error = program.expect("error")
        assert (error["code"], error["path"], error["peer"]) == ("media-error", str(path), "camera")
        assert "File too large" in error["message"]
        assert program.expect("stats")["video"]["fps"] > 5
        program.send(signal.SIGINT)
        assert program.wait() == 130
    drawn = clocks(path)
    assert len(drawn) > 20
    assert full - drawn[-1] < 2000
    decode(path)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_node_records_again_once_the_disk_has_space(relay: str, tmp_path: Path) -> None:
    pattern = str(tmp_path / "{peer}-{time}.mkv")
    with Program(
        *("run", "--id", "guard", "--call", "camera", "--server", relay, "--json", *QUIET),
        *("--record", pattern, "--segment", "1s"),
    ) as program:
        whole = program.expect("recorded")
        limit_file_size(program, 100)
        error = program.expect("error")
        assert error["code"] == "media-error" and Path(error["path"]).parent == tmp_path
        program.expect("error")
        limit_file_size(program, resource.RLIM_INFINITY)
        after = program.expect("recorded")
        assert program.expect("stats")["video"]["fps"] > 5
        assert "ended" not in program.names()
    for body in (whole, after):
        assert re.fullmatch(r"camera-\d{8}-\d{6}(-\d+)?\.mkv", Path(body["path"]).name)
        assert clocks(Path(body["path"]))


async def test_joined_segments_equal_a_recording_in_one_file(relay: str, tmp_path: Path) -> None:
    """Two recorders of one call write the same packets: none is missing, repeated or out of order."""
    files: list[events.Recorded] = []
    async with Agent("both", server=relay) as agent:
        reader = agent.events()
        await agent.wait_for("camera", DEADLINE)
        async with asyncio.timeout(60), agent.call("camera", DEADLINE) as call, asyncio.TaskGroup() as tasks:
            recorders = [
                tasks.create_task(call.record(tmp_path / "whole.mkv")),
                tasks.create_task(call.record(tmp_path / "{peer}.mkv", segment=1)),
            ]
            async for event in reader:
                if isinstance(event, events.Recorded):
                    files.append(event)
                    if len(files) == 3:
                        break
            await call.hang_up()
        async for event in reader:
            if isinstance(event, events.Recorded):
                files.append(event)
            if all(recorder.done() for recorder in recorders) and len(files) > 4:
                break
    segments = [Path(file.path) for file in files if not file.path.endswith("whole.mkv")]
    assert [path.name for path in segments] == [f"camera-{n:04}.mkv" for n in range(1, len(segments) + 1)]
    for kind, packets in payloads(tmp_path / "whole.mkv").items():
        assert_same([packet for path in segments for packet in payloads(path)[kind]], packets)
    counters = [reading.frame for path in segments for reading in readings(path)]
    assert_same(counters, [reading.frame for reading in readings(tmp_path / "whole.mkv")])
    # A key frame request repeats the last frame if the camera's next one is late.
    assert counters == sorted(counters) and len(set(counters)) > 60


def assert_same(one: Sequence[bytes | int], other: Sequence[bytes | int]) -> None:
    """Compare packets or frames, except for some at both ends: each recorder starts at a key frame of its own."""
    for shift in range(-60, 61):
        pairs = list(zip(one[max(shift, 0) :], other[max(-shift, 0) :], strict=False))
        if len(pairs) >= max(len(one), len(other)) - 60 and all(a == b for a, b in pairs):
            return
    raise AssertionError(f"{len(one)} differ from the other {len(other)}")


def test_recording_has_audio_and_video_in_sync_within_40_ms(relay: str, tmp_path: Path) -> None:
    path = tmp_path / "x.mkv"
    with caller(relay, "--record", str(path), "--duration", "8s") as program:
        assert program.wait() == 0
    flashes, beeps = times_of_flashes(path), times_of_beeps(path)
    pairs = [(flash, min(beeps, key=lambda beep: abs(beep - flash))) for flash in flashes]
    assert len(pairs) >= 2
    assert statistics.median(abs(flash - beep) for flash, beep in pairs) < 0.04


def times_of_flashes(path: Path) -> list[float]:
    """Return the times in seconds at which the panel turns white. A missing frame at that time is ignored."""
    with av.open(str(path)) as file:
        seen = [
            (float(frame.time or 0), reading)
            for frame in file.decode(video=0)
            if (reading := read_pattern(frame.to_ndarray(format="gray")[:, : frame.width])) is not None
        ]
    return [at for at, reading in seen if reading.flash and reading.frame % 30 == 0]


def times_of_beeps(path: Path) -> list[float]:
    """Return the times in seconds at which beeps start. Missing audio, on a busy machine, counts as silence."""
    with av.open(str(path)) as file:
        resampler = av.AudioResampler("flt", "mono", 48_000)
        frames = [mono for frame in file.decode(audio=0) for mono in resampler.resample(frame)]
    samples, start, length = [], float(frames[0].time or 0), 0
    for frame in frames:
        gap = round((float(frame.time or 0) - start) * 48_000) - length
        silence = gap if gap > 480 else 0  # 10 ms; shorter gaps are rounding errors
        samples += [np.zeros(silence, np.float32), frame.to_ndarray()[0]]
        length += silence + frame.samples
    return [start + onset for onset in beep_onsets(np.concatenate(samples))]


@pytest.mark.parametrize("suffix", ["mkv", "webm", "mp4"])
def test_ffmpeg_plays_and_seeks_a_recording(relay: str, tmp_path: Path, suffix: str) -> None:
    """Duration, streams and a frame from the middle, without a warning."""
    path, image = tmp_path / f"x.{suffix}", tmp_path / "x.png"
    with caller(relay, "--record", str(path), "--duration", "4s") as program:
        assert program.wait() == 0
    seconds = next(body["seconds"] for body in program.events if body["event"] == "recorded")
    report = ffprobe(path)
    assert report["duration"] == pytest.approx(seconds, abs=0.1) and report["start"] == pytest.approx(0, abs=0.05)
    assert report["codecs"] == ["h264" if suffix == "mp4" else "vp8", "opus"]
    decode(path)
    ffmpeg("-ss", str(seconds / 2), "-i", path, "-frames:v", "1", image)
    drawn, (middle,) = clocks(path), clocks(image)
    with av.open(str(path)) as file:
        later = sum(float(frame.time or 0) >= seconds / 2 for frame in file.decode(video=0))
    assert abs(drawn.index(middle) - (len(drawn) - later)) <= 1, "the frame at that time"
