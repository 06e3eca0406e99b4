"""Segments add up to the whole recording."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from peer.errors import MediaError
from peer.media.frames import EncodedFrame
from tests.waiting import until

from ..recordings import FPS, analyze, audio_frames, concatenate, delayed, payloads, video_frames
from .test_recorder import Remote


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """Limit the size of files to ``limit`` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("late", [-0.2, 0.0, 0.2])
async def test_segments_hold_every_packet_once(tmp_path: Path, late: float) -> None:
    """Also when video arrives before its audio, or after it."""
    remote = Remote()
    video = delayed(video_frames("vp8", 4), max(late, 0))
    audio = delayed(audio_frames(4), max(-late, 0))
    reported = [_with_ntp(frame) for frame in (*video, *audio)]
    last = await remote.record(tmp_path / "{peer}.mkv", reported, segment=1)
    assert [file.path.name for file in remote.files] == [f"door-000{n}.mkv" for n in (1, 2, 3, 4)]
    assert last == remote.files[-1] and remote.failures == []
    assert [file.dropped for file in remote.files] == [0, 0, 0, 0]
    parts = [payloads(file.path) for file in remote.files]
    assert [len(part["video"]) for part in parts] == [FPS] * 4
    assert [len(part["audio"]) for part in parts] == [51, 50, 50, 49]  # the first packet lasts 13.5 ms
    assert [packet for part in parts for packet in part["video"]] == [frame.data for frame in video_frames("vp8", 4)]
    assert [packet for part in parts for packet in part["audio"]] == [frame.data for frame in audio_frames(4)]


def _with_ntp(frame: EncodedFrame) -> EncodedFrame:
    origin = 90_000_000 if frame.kind == "video" else 777_000
    return replace(frame, ntp=5000 + (frame.timestamp - origin) / frame.clock_rate)


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "vp8"), ("webm", "vp8"), ("mp4", "h264")])
async def test_ffmpeg_concatenates_segments(tmp_path: Path, suffix: str, codec: str) -> None:
    remote = Remote()
    await remote.record(tmp_path / f"x.{suffix}", video_frames(codec, 3), audio_frames(3), segment=1)
    output = tmp_path / f"whole.{suffix}"
    await asyncio.to_thread(concatenate, [file.path for file in remote.files], output)
    analysis = analyze(output)
    assert len(analysis.frame_times) == 3 * FPS
    assert analysis.frame_times == pytest.approx(
        [n / FPS for n in range(3 * FPS)], abs=0.05
    )  # at each cut an audio packet overlaps
    assert analysis.beeps == pytest.approx([0, 1, 2], abs=0.03)


async def test_key_frame_is_requested_shortly_before_a_segment_ends(tmp_path: Path) -> None:
    """Without requests, the sender has a key frame per two seconds."""
    remote = Remote()
    frames = video_frames("vp8", 6, gop=60)
    before = []
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        recorder = remote.recorder(tasks, tmp_path / "x.mkv", segment=3)
        await recorder.start()
        for end in (2.5, 2.9):
            await remote.send([frame for frame in (*frames, *audio_frames(6)) if end - 2.5 <= frame.arrival < end])
            await until(lambda: not recorder._queue.qsize())
            before.append(remote.requests)
        await until(lambda: remote.requests > before[0])
        await recorder.stop()
    assert before[0] <= 1  # at the start


async def test_rare_key_frames_make_longer_segments(tmp_path: Path) -> None:
    remote = Remote()
    await remote.record(tmp_path / "x.mkv", video_frames("vp8", 6, gop=60), audio_frames(6), segment=1)
    assert [round(file.seconds) for file in remote.files] == [2, 2, 2]


async def test_audio_alone_is_cut_at_the_end_of_a_segment(tmp_path: Path) -> None:
    remote = Remote()
    await remote.record(tmp_path / "x.webm", audio_frames(4), segment=2, kinds=("audio",))
    assert [len(payloads(file.path)["audio"]) for file in remote.files] == [101, 99]


async def test_segments_continue_after_video_has_stopped(tmp_path: Path) -> None:
    remote = Remote()
    await remote.record(tmp_path / "x.mkv", video_frames("vp8", 1), audio_frames(8), segment=2)
    analyses = [analyze(file.path) for file in remote.files]
    assert [len(analysis.frame_times) for analysis in analyses] == [FPS, 0, 0]
    assert sum(analysis.audio_seconds for analysis in analyses) == pytest.approx(8, abs=0.1)


async def test_numbers_continue_after_existing_files(tmp_path: Path) -> None:
    remote = Remote()
    for name in ("x-0007.mkv", "x-0009.mkv.part", "xx-0010.mkv"):
        (tmp_path / name).touch()
    await remote.record(tmp_path / "x.mkv", video_frames("vp8", 2), audio_frames(2), segment=1)
    assert [file.path.name for file in remote.files] == ["x-0008.mkv", "x-0009.mkv"]


async def test_segments_of_the_same_second_have_different_names(tmp_path: Path) -> None:
    remote = Remote()
    await remote.record(tmp_path / "{peer}-{time}.mkv", video_frames("vp8", 4), audio_frames(4), segment=1)
    assert len(set(os.listdir(tmp_path))) == 4 and {file.path.name for file in remote.files} == set(
        os.listdir(tmp_path)
    )
    assert all(name.startswith("door-2") for name in os.listdir(tmp_path))


async def test_two_recorders_share_a_name_without_conflict(tmp_path: Path) -> None:
    remote, path = Remote(), tmp_path / "x-{time}.mkv"
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        recorders = [remote.recorder(tasks, path, segment=1), remote.recorder(tasks, path, segment=1)]
        for recorder in recorders:
            await recorder.start()
        await remote.send(video_frames("vp8", 3), audio_frames(3))
        for recorder in recorders:
            await recorder.stop()
    assert len({file.path for file in remote.files}) == 6
    assert {len(payloads(file.path)["video"]) for file in remote.files} == {FPS}


async def test_full_disk_loses_only_the_segments_that_do_not_fit(tmp_path: Path) -> None:
    remote = Remote()
    frames = video_frames("vp8", 6, gop=15)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        recorder = remote.recorder(tasks, tmp_path / "x.mkv", segment=2)
        await recorder.start()
        await remote.send(_part(frames, 0, 1.5), _part(audio_frames(6), 0, 1.5))
        await until(lambda: (tmp_path / "x-0001.mkv").exists() and (tmp_path / "x-0001.mkv").stat().st_size > 2000)
        with full_disk(100):
            await remote.send(_part(frames, 1.5, 3.4), _part(audio_frames(6), 1.5, 3.4))
            while len(remote.failures) < 2:
                await asyncio.sleep(0.01)
        await remote.send(_part(frames, 3.4, 6), _part(audio_frames(6), 3.4, 6))
        with pytest.raises(MediaError, match=r"x\.mkv: 2 of 3 segments were lost; the last one: File too large"):
            await recorder.stop()
    assert [Path(failure.what).name for failure in remote.failures] == ["x-0001.mkv", "x-0002.mkv"]
    assert "File too large" in str(remote.failures[0])
    assert [file.path.name for file in remote.files] == ["x-0003.mkv"]
    assert len(analyze(tmp_path / "x-0001.mkv").frame_times) >= 15
    assert len(analyze(tmp_path / "x-0003.mkv").frame_times) == 60


def _part(frames: Iterable[EncodedFrame], begin: float, end: float) -> list[EncodedFrame]:
    return [frame for frame in frames if begin <= frame.arrival < end]


async def test_unwritable_folder_is_reported_per_segment(tmp_path: Path) -> None:
    remote = Remote()
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match=r"2 of 2 segments were lost; the last one: .*not a folder"):
        await remote.record(tmp_path / "file" / "x.mkv", video_frames("vp8", 2), audio_frames(2), segment=1)
    assert len(remote.failures) == 2


async def test_segments_shorter_than_a_second_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"segments of 0\.5 s are too short; the minimum is 1 s"):
        await Remote().record(tmp_path / "x.mkv", segment=0.5)
