"""A recording in segments is the recording: nothing lost, nothing twice."""

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

from ..recordings import FPS, join, later, payloads, pictures, sound, watch
from .test_recorder import Remote


@contextmanager
def a_full_disk(room: int) -> Iterator[None]:
    """No file may become larger than ``room`` octets."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("late", [-0.2, 0.0, 0.2])
async def test_segments_joined_are_what_came(tmp_path: Path, late: float) -> None:
    """Also when pictures come before their sound, or after it."""
    remote = Remote()
    seen = later(pictures("vp8", 4), max(late, 0))
    stamped = [*seen, *later(sound(4), max(-late, 0))]
    reported = [_stamped(frame) for frame in stamped]
    last = await remote.record(tmp_path / "{peer}.mkv", reported, segment=1)
    assert [file.path.name for file in remote.files] == [f"door-000{n}.mkv" for n in (1, 2, 3, 4)]
    assert last == remote.files[-1] and remote.failures == []
    assert [file.dropped for file in remote.files] == [0, 0, 0, 0]
    parts = [payloads(file.path) for file in remote.files]
    assert [len(part["video"]) for part in parts] == [FPS] * 4
    assert [len(part["audio"]) for part in parts] == [51, 50, 50, 49]  # the first packet lasts 13.5 ms
    assert [packet for part in parts for packet in part["video"]] == [frame.data for frame in pictures("vp8", 4)]
    assert [packet for part in parts for packet in part["audio"]] == [frame.data for frame in sound(4)]


def _stamped(frame: EncodedFrame) -> EncodedFrame:
    origin = 90_000_000 if frame.kind == "video" else 777_000
    return replace(frame, ntp=5000 + (frame.timestamp - origin) / frame.clock_rate)


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "vp8"), ("webm", "vp8"), ("mp4", "h264")])
async def test_ffmpeg_joins_segments_into_one_film(tmp_path: Path, suffix: str, codec: str) -> None:
    remote = Remote()
    await remote.record(tmp_path / f"x.{suffix}", pictures(codec, 3), sound(3), segment=1)
    joined = tmp_path / f"joined.{suffix}"
    await asyncio.to_thread(join, [file.path for file in remote.files], joined)
    film = watch(joined)
    assert len(film.pictures) == 3 * FPS
    assert film.pictures == pytest.approx(
        [n / FPS for n in range(3 * FPS)], abs=0.05
    )  # a packet of sound over each cut
    assert film.beeps == pytest.approx([0, 1, 2], abs=0.03)


async def test_a_key_frame_is_asked_for_before_a_segment_ends_and_waited_for(tmp_path: Path) -> None:
    """The sender has one every two seconds by itself."""
    remote = Remote()
    frames = pictures("vp8", 6, gop=60)
    before = []
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        recorder = remote.recorder(tasks, tmp_path / "x.mkv", segment=3)
        await recorder.start()
        for end in (2.5, 2.9):
            await remote.send([frame for frame in (*frames, *sound(6)) if end - 2.5 <= frame.arrival < end])
            await until(lambda: not recorder._queue.qsize())
            before.append(remote.asked)
        await until(lambda: remote.asked > before[0])
        await recorder.stop()
    assert before[0] <= 1  # for the begin


async def test_a_sender_without_key_frames_makes_longer_segments(tmp_path: Path) -> None:
    remote = Remote()
    await remote.record(tmp_path / "x.mkv", pictures("vp8", 6, gop=60), sound(6), segment=1)
    assert [round(file.seconds) for file in remote.files] == [2, 2, 2]


async def test_sound_alone_is_cut_where_a_segment_ends(tmp_path: Path) -> None:
    remote = Remote()
    await remote.record(tmp_path / "x.webm", sound(4), segment=2, kinds=("audio",))
    assert [len(payloads(file.path)["audio"]) for file in remote.files] == [101, 99]


async def test_a_camera_that_stops_does_not_stop_the_segments(tmp_path: Path) -> None:
    remote = Remote()
    await remote.record(tmp_path / "x.mkv", pictures("vp8", 1), sound(8), segment=2)
    films = [watch(file.path) for file in remote.files]
    assert [len(film.pictures) for film in films] == [FPS, 0, 0]
    assert sum(film.sound for film in films) == pytest.approx(8, abs=0.1)


async def test_numbers_go_on_behind_those_that_are_there(tmp_path: Path) -> None:
    remote = Remote()
    for name in ("x-0007.mkv", "x-0009.mkv.part", "xx-0010.mkv"):
        (tmp_path / name).touch()
    await remote.record(tmp_path / "x.mkv", pictures("vp8", 2), sound(2), segment=1)
    assert [file.path.name for file in remote.files] == ["x-0008.mkv", "x-0009.mkv"]


async def test_segments_that_begin_in_the_same_second_have_names_of_their_own(tmp_path: Path) -> None:
    remote = Remote()
    await remote.record(tmp_path / "{peer}-{time}.mkv", pictures("vp8", 4), sound(4), segment=1)
    assert len(set(os.listdir(tmp_path))) == 4 and {file.path.name for file in remote.files} == set(
        os.listdir(tmp_path)
    )
    assert all(name.startswith("door-2") for name in os.listdir(tmp_path))


async def test_two_recorders_of_one_name_take_nothing_from_each_other(tmp_path: Path) -> None:
    remote, path = Remote(), tmp_path / "x-{time}.mkv"
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        recorders = [remote.recorder(tasks, path, segment=1), remote.recorder(tasks, path, segment=1)]
        for recorder in recorders:
            await recorder.start()
        await remote.send(pictures("vp8", 3), sound(3))
        for recorder in recorders:
            await recorder.stop()
    assert len({file.path for file in remote.files}) == 6
    assert {len(payloads(file.path)["video"]) for file in remote.files} == {FPS}


async def test_a_full_disk_costs_the_segments_that_it_has_no_room_for(tmp_path: Path) -> None:
    remote = Remote()
    frames = pictures("vp8", 6, gop=15)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        recorder = remote.recorder(tasks, tmp_path / "x.mkv", segment=2)
        await recorder.start()
        await remote.send(_part(frames, 0, 1.5), _part(sound(6), 0, 1.5))
        await until(lambda: (tmp_path / "x-0001.mkv").exists() and (tmp_path / "x-0001.mkv").stat().st_size > 2000)
        with a_full_disk(100):
            await remote.send(_part(frames, 1.5, 3.4), _part(sound(6), 1.5, 3.4))
            while len(remote.failures) < 2:
                await asyncio.sleep(0.01)
        await remote.send(_part(frames, 3.4, 6), _part(sound(6), 3.4, 6))
        with pytest.raises(MediaError, match=r"x\.mkv: 2 of 3 segments were lost; the last one: File too large"):
            await recorder.stop()
    assert [Path(failure.what).name for failure in remote.failures] == ["x-0001.mkv", "x-0002.mkv"]
    assert "File too large" in str(remote.failures[0])
    assert [file.path.name for file in remote.files] == ["x-0003.mkv"]
    assert len(watch(tmp_path / "x-0001.mkv").pictures) >= 15
    assert len(watch(tmp_path / "x-0003.mkv").pictures) == 60


def _part(frames: Iterable[EncodedFrame], begin: float, end: float) -> list[EncodedFrame]:
    return [frame for frame in frames if begin <= frame.arrival < end]


async def test_a_folder_that_cannot_be_written_is_told_each_segment_and_at_the_end(tmp_path: Path) -> None:
    remote = Remote()
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match=r"2 of 2 segments were lost; the last one: .*no folder"):
        await remote.record(tmp_path / "file" / "x.mkv", pictures("vp8", 2), sound(2), segment=1)
    assert len(remote.failures) == 2


async def test_segments_shorter_than_a_second_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"segments of 0\.5 s are too short; 1 s is the least"):
        await Remote().record(tmp_path / "x.mkv", segment=0.5)
