"""Recordings by real processes: killed, out of room, in segments; and whether what is left plays."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
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
    """What each picture that can be read says."""
    with av.open(str(path)) as file:
        found = (read_pattern(frame.to_ndarray(format="gray")[:, : frame.width]) for frame in file.decode(video=0))
        return [reading for reading in found if reading is not None]


def clocks(path: Path) -> list[int]:
    """The sender's Unix time in milliseconds, modulo 2**32, of each picture that can be read."""
    return [reading.clock for reading in readings(path)]


def ffprobe(path: Path) -> dict[str, Any]:
    """Length and begin in seconds, and the codecs of the tracks, as the tool of that name tells them."""
    command = ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", str(path)]
    said = json.loads(subprocess.run(command, capture_output=True, timeout=60, check=True).stdout)
    return {
        "duration": float(said["format"]["duration"]),
        "start": float(said["format"]["start_time"]),
        "codecs": [stream["codec_name"] for stream in said["streams"]],
    }


@pytest.mark.parametrize("suffix", ["mkv", "webm", "mp4"])
def test_kill_9_costs_at_most_two_seconds(relay: str, tmp_path: Path, suffix: str) -> None:
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
    ffmpeg("-i", path, "-f", "null", "-")


def limit(program: Program, octets: int) -> None:
    """No file of this program may become larger."""
    resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (octets, resource.RLIM_INFINITY))


@pytest.mark.parametrize("suffix", ["mkv", "webm", "mp4"])
def test_a_full_disk_ends_the_recording_with_an_event_and_not_the_call(
    relay: str, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"x.{suffix}"
    with caller(relay, "--record", str(path)) as program:
        program.expect("first-frame")
        for _ in range(3):
            program.expect("stats")
        until(lambda: path.stat().st_size > 5000)
        full = time.time_ns() // 1_000_000 % 2**32
        limit(program, path.stat().st_size)
        error = program.expect("error")
        assert (error["code"], error["path"], error["peer"]) == ("media-error", str(path), "camera")
        assert "File too large" in error["message"]
        assert program.expect("stats")["video"]["fps"] > 5
        program.send(signal.SIGINT)
        assert program.wait() == 130
    drawn = clocks(path)
    assert len(drawn) > 20
    assert full - drawn[-1] < 2000
    ffmpeg("-i", path, "-f", "null", "-")


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_unattended_node_goes_on_with_the_next_segment_when_there_is_room_again(
    relay: str, tmp_path: Path
) -> None:
    pattern = str(tmp_path / "{peer}-{time}.mkv")
    with Program(
        *("run", "--id", "guard", "--call", "camera", "--server", relay, "--json", *QUIET),
        *("--record", pattern, "--segment", "1s"),
    ) as program:
        whole = program.expect("recorded")
        limit(program, 100)
        error = program.expect("error")
        assert error["code"] == "media-error" and Path(error["path"]).parent == tmp_path
        program.expect("error")
        limit(program, resource.RLIM_INFINITY)
        after = program.expect("recorded")
        assert program.expect("stats")["video"]["fps"] > 5
        assert "ended" not in program.names()
    for body in (whole, after):
        assert re.fullmatch(r"camera-\d{8}-\d{6}(-\d+)?\.mkv", Path(body["path"]).name)
        assert clocks(Path(body["path"]))


async def test_segments_joined_are_what_another_recorder_got_in_one_piece(relay: str, tmp_path: Path) -> None:
    """Two recorders of one call: packet by packet nothing is missing, double or out of its place."""
    files: list[events.Recorded] = []
    async with Agent("both", server=relay) as agent:
        told = agent.events()
        await agent.wait_for("camera", DEADLINE)
        async with asyncio.timeout(60), agent.call("camera", DEADLINE) as call, asyncio.TaskGroup() as tasks:
            recorders = [
                tasks.create_task(call.record(tmp_path / "whole.mkv")),
                tasks.create_task(call.record(tmp_path / "{peer}.mkv", segment=1)),
            ]
            async for event in told:
                if isinstance(event, events.Recorded):
                    files.append(event)
                    if len(files) == 3:
                        break
            await call.hang_up()
        async for event in told:
            if isinstance(event, events.Recorded):
                files.append(event)
            if all(recorder.done() for recorder in recorders) and len(files) > 4:
                break
    segments = [Path(file.path) for file in files if not file.path.endswith("whole.mkv")]
    assert [path.name for path in segments] == [f"camera-{n:04}.mkv" for n in range(1, len(segments) + 1)]
    for kind, packets in payloads(tmp_path / "whole.mkv").items():
        same([packet for path in segments for packet in payloads(path)[kind]], packets)
    counters = [reading.frame for path in segments for reading in readings(path)]
    assert counters == sorted(set(counters)) and len(counters) > 60


def same(one: list[bytes], other: list[bytes]) -> None:
    """The same packets, but for some at the begin and at the end: each recorder begins at a key frame of its own."""
    for shift in range(-60, 61):
        pairs = list(zip(one[max(shift, 0) :], other[max(-shift, 0) :], strict=False))
        if len(pairs) >= max(len(one), len(other)) - 60 and all(a == b for a, b in pairs):
            return
    raise AssertionError(f"{len(one)} packets are not these {len(other)}")


def test_sound_and_picture_of_a_recording_are_within_40_ms(relay: str, tmp_path: Path) -> None:
    path = tmp_path / "x.mkv"
    with caller(relay, "--record", str(path), "--duration", "8s") as program:
        assert program.wait() == 0
    flashes, beeps = seconds_of_flashes(path), seconds_of_beeps(path)
    pairs = [(flash, min(beeps, key=lambda beep: abs(beep - flash))) for flash in flashes]
    assert len(pairs) >= 2
    assert statistics.median(abs(flash - beep) for flash, beep in pairs) < 0.04


def seconds_of_flashes(path: Path) -> list[float]:
    """Where the panel turns white; a picture that is missing just there counts for nothing."""
    with av.open(str(path)) as file:
        seen = [
            (float(frame.time or 0), reading)
            for frame in file.decode(video=0)
            if (reading := read_pattern(frame.to_ndarray(format="gray")[:, : frame.width])) is not None
        ]
    return [at for at, reading in seen if reading.flash and reading.frame % 30 == 0]


def seconds_of_beeps(path: Path) -> list[float]:
    """Where they begin; sound that is missing, because a busy machine made none, counts as silence."""
    with av.open(str(path)) as file:
        resampler = av.AudioResampler("flt", "mono", 48_000)
        frames = [mono for frame in file.decode(audio=0) for mono in resampler.resample(frame)]
    heard, begin, length = [], float(frames[0].time or 0), 0
    for frame in frames:
        gap = round((float(frame.time or 0) - begin) * 48_000) - length
        silence = gap if gap > 480 else 0  # 10 ms; what is less is rounding
        heard += [np.zeros(silence, np.float32), frame.to_ndarray()[0]]
        length += silence + frame.samples
    return [begin + onset for onset in beep_onsets(np.concatenate(heard))]


@pytest.mark.parametrize("suffix", ["mkv", "webm", "mp4"])
def test_ffmpeg_finds_its_way_in_a_recording(relay: str, tmp_path: Path, suffix: str) -> None:
    """Length, tracks, a picture from its middle; all of it without a complaint."""
    path, image = tmp_path / f"x.{suffix}", tmp_path / "x.png"
    with caller(relay, "--record", str(path), "--duration", "4s") as program:
        assert program.wait() == 0
    seconds = next(body["seconds"] for body in program.events if body["event"] == "recorded")
    shown = ffprobe(path)
    assert shown["duration"] == pytest.approx(seconds, abs=0.1) and shown["start"] == pytest.approx(0, abs=0.05)
    assert shown["codecs"] == ["h264" if suffix == "mp4" else "vp8", "opus"]
    as_it_is = ("-fps_mode", "passthrough", "-enc_time_base", "-1")  # on a grid, two of a busy machine would be one
    ffmpeg("-i", path, *as_it_is, "-f", "null", "-")
    ffmpeg("-ss", str(seconds / 2), "-i", path, "-frames:v", "1", image)
    drawn, (middle,) = clocks(path), clocks(image)
    with av.open(str(path)) as file:
        later = sum(float(frame.time or 0) >= seconds / 2 for frame in file.decode(video=0))
    assert abs(drawn.index(middle) - (len(drawn) - later)) <= 1, "the picture of that moment"
