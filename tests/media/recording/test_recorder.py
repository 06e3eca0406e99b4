"""What was recorded is decoded again and compared with what was sent."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest

from peer.errors import MediaError
from peer.media.fanout import Fanout
from peer.media.frames import EncodedFrame
from peer.media.recording import file_names as names_module
from peer.media.recording import recorder as recorder_module
from peer.media.recording.file_names import SegmentPaths, SinglePath
from peer.media.recording.interleaver import START_WAIT, Kind
from peer.media.recording.muxer import RecordingFile
from peer.media.recording.recorder import Recorder
from peer.media.recording.writer import Recorded

from ..recordings import FPS, later, payloads, pictures, repeated, sound, watch

BOTH: tuple[Kind, ...] = ("video", "audio")


class Remote:
    """A remote peer that has sent everything in an instant."""

    def __init__(self) -> None:
        self.encoded: Fanout[EncodedFrame] = Fanout()
        self.files: list[Recorded] = []
        self.failures: list[MediaError] = []
        self.asked = 0
        self.deaf = 0
        """Requests that are not passed on: somebody else has just asked."""
        self.ago = 0.0
        """Seconds since the first of it came."""
        self._since: float | None = None

    def ask(self) -> bool:
        self.asked += 1
        return self.asked > self.deaf

    async def send(self, *streams: Iterable[EncodedFrame]) -> None:
        frames = sorted((frame for stream in streams for frame in stream), key=lambda frame: frame.arrival)
        for n, frame in enumerate(frames):
            self.put(frame)
            if n % 50 == 0:
                await asyncio.sleep(0)

    def put(self, frame: EncodedFrame) -> None:
        if self._since is None:
            self._since = time.monotonic() - self.ago
        self.encoded.put(replace(frame, arrival=frame.arrival + self._since))

    def recorder(self, tasks: asyncio.TaskGroup, path: Path, **options: Any) -> Recorder:
        return Recorder(
            tasks,
            SegmentPaths(str(path), "door") if "segment" in options else SinglePath(path),
            self.encoded,
            **{"kinds": BOTH} | options,
            request_key_frame=self.ask,
            on_recorded=self.files.append,
            on_failed=self.failures.append,
        )

    async def record(self, path: Path, *streams: Iterable[EncodedFrame], **options: Any) -> Recorded:
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            try:
                recorder = self.recorder(tasks, path, **options)
                await recorder.start()
                await self.send(*streams)
                self.encoded.close()
                return await recorder.wait()
            except MediaError as exc:
                failure = exc  # outside of the group: it would be wrapped
        raise failure


def _reported(frames: Iterable[EncodedFrame]) -> list[EncodedFrame]:
    """With the sender's clock, which says that timestamps began at 5000 s."""
    first = next(iter(frames)).timestamp
    return [replace(frame, ntp=5000 + (frame.timestamp - first) / frame.clock_rate) for frame in frames]


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "vp8"), ("webm", "vp8"), ("mkv", "h264"), ("mp4", "h264")])
async def test_every_frame_comes_back_with_sound_in_step(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"call.{suffix}"
    recorded = await Remote().record(path, pictures(codec, 3), sound(3))
    seen = watch(path)
    assert len(seen.pictures) == 3 * FPS and set(seen.sizes) == {(320, 240)}
    assert recorded == Recorded(path, pytest.approx(3, abs=0.06), 0)
    assert seen.sound == pytest.approx(3, abs=0.06)
    assert seen.flashes == pytest.approx([0, 1, 2], abs=0.005)
    assert seen.beeps == pytest.approx([0, 1, 2], abs=0.02)


async def test_reports_mend_what_the_network_did_to_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "call.mkv"
    await Remote().record(path, later(tuple(_reported(pictures("vp8", 3))), 0.25), _reported(sound(3)))
    seen = watch(path)
    assert seen.beeps[-1] - seen.flashes[-1] == pytest.approx(0, abs=0.02)


async def test_without_reports_arrival_decides(tmp_path: Path) -> None:
    path = tmp_path / "call.mkv"
    await Remote().record(path, later(pictures("vp8", 3), 0.25), sound(3))
    seen = watch(path)
    assert seen.flashes[-1] - seen.beeps[-1] == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_a_recording_begins_with_a_key_frame_it_asked_for(tmp_path: Path, codec: str) -> None:
    remote, path = Remote(), tmp_path / "call.mkv"
    await remote.record(path, pictures(codec, 3)[10:], sound(3))
    seen = watch(path)
    assert remote.asked >= 1
    assert len(seen.pictures) == 2 * FPS and seen.pictures[0] == 0
    assert seen.beeps == pytest.approx([0, 1], abs=0.03)  # an Opus decoder needs a packet to come in


async def test_a_request_that_came_too_soon_after_another_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_ASK_EVERY", 3600.0)
    remote = Remote()
    remote.deaf = 3
    await remote.record(tmp_path / "call.mkv", pictures("vp8", 2)[1:], sound(2))
    assert remote.asked == 4


async def test_sound_that_never_comes_costs_two_seconds_of_waiting_and_no_picture(tmp_path: Path) -> None:
    remote, path = Remote(), tmp_path / "call.mkv"
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        recorder = remote.recorder(tasks, path)
        await recorder.start()
        remote.ago = START_WAIT + 0.1
        await remote.send(pictures("vp8", 3))
        recorded = await recorder.stop()
    seen = watch(path)
    assert recorded.seconds == pytest.approx(3, abs=0.06)
    assert len(seen.pictures) == 3 * FPS and seen.sound == 0


async def test_sound_that_comes_late_is_recorded_at_its_place(tmp_path: Path) -> None:
    remote, path = Remote(), tmp_path / "call.mkv"
    remote.ago = START_WAIT + 0.1
    late = [frame for frame in sound(4) if frame.arrival >= 1.5]
    await remote.record(path, pictures("vp8", 4), late)
    assert watch(path).beeps == pytest.approx([2, 3], abs=0.02)


async def test_sound_alone_is_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "call.webm"
    recorded = await Remote().record(path, sound(2), kinds=("audio",))
    assert recorded.seconds == pytest.approx(2, abs=0.03)
    assert watch(path).sound == pytest.approx(2, abs=0.03)


async def test_telephone_sound_is_recorded_too(tmp_path: Path) -> None:
    path = tmp_path / "call.mkv"
    await Remote().record(path, pictures("vp8", 2), sound(2, "pcm_mulaw"))
    assert watch(path).beeps == pytest.approx([0, 1], abs=0.02)


def _after(frames: Iterable[EncodedFrame], seconds: float) -> list[EncodedFrame]:
    """The same frames, sent ``seconds`` later."""
    return [
        replace(
            frame,
            arrival=frame.arrival + seconds,
            timestamp=frame.timestamp + round(seconds * frame.clock_rate),
        )
        for frame in frames
    ]


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "vp8"), ("webm", "vp8"), ("mkv", "h264")])
async def test_a_picture_that_changes_its_size_goes_on(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"call.{suffix}"
    await Remote().record(path, pictures(codec, 1), _after(pictures(codec, 1, 160, 120), 1), sound(2))
    assert watch(path).sizes == [(320, 240)] * FPS + [(160, 120)] * FPS


async def test_in_mp4_another_size_of_h264_is_another_file(tmp_path: Path) -> None:
    """The parameters of an ``avc1`` track are in its header, once."""
    remote = Remote()
    small = _after(pictures("h264", 1, 160, 120), 1)
    recorded = await remote.record(tmp_path / "call.mp4", pictures("h264", 1), small, sound(2))
    assert [file.path.name for file in remote.files] == ["call.mp4", "call-2.mp4"]
    assert recorded == remote.files[1]
    first, second = (watch(file.path) for file in remote.files)
    assert (first.sizes, second.sizes) == ([(320, 240)] * FPS, [(160, 120)] * FPS)
    assert second.flashes == pytest.approx([0], abs=0.005) and second.beeps == pytest.approx([0], abs=0.05)


async def test_another_codec_is_another_file(tmp_path: Path) -> None:
    remote, streams = Remote(), (pictures("vp8", 1), _after(pictures("h264", 1), 1), sound(2))
    await remote.record(tmp_path / "call.mkv", *streams)
    assert [(file.path.name, file.dropped) for file in remote.files] == [("call.mkv", 0), ("call-2.mkv", 0)]
    films = [watch(file.path) for file in remote.files]
    assert [len(film.pictures) for film in films] == [FPS, FPS]
    assert [packet for file in remote.files for packet in payloads(file.path)["audio"]] == [f.data for f in sound(2)]


async def test_another_codec_of_the_sound_waits_for_a_key_frame(tmp_path: Path) -> None:
    remote, telephone = Remote(), _after(sound(3, "pcm_mulaw")[:75], 1.5)
    await remote.record(
        tmp_path / "call.mkv", pictures("vp8", 3), [f for f in sound(3) if f.arrival < 1.5], telephone
    )
    assert [file.dropped for file in remote.files] == [25, 0]  # half a second
    films = [watch(file.path) for file in remote.files]
    assert [len(film.pictures) for film in films] == [2 * FPS, FPS]
    assert films[0].sound == pytest.approx(1.5, abs=0.03) and films[1].sound == pytest.approx(1, abs=0.03)


async def test_a_picture_that_comes_after_the_begin_is_in_the_next_file(tmp_path: Path) -> None:
    remote = Remote()
    remote.ago = START_WAIT + 0.1
    await remote.record(tmp_path / "call.mkv", _after(pictures("vp8", 2), 3), sound(5))
    early, late = (watch(file.path) for file in remote.files)
    assert (early.pictures, early.sound) == ([], pytest.approx(3, abs=0.03))
    assert len(late.pictures) == 2 * FPS and late.beeps == pytest.approx([0, 1], abs=0.05)


async def test_pictures_that_the_network_broke_are_left_out_until_a_key_frame(tmp_path: Path) -> None:
    remote, frames = Remote(), list(pictures("vp8", 3))
    frames[40] = replace(frames[40], gap=True)
    frames[65] = replace(frames[65], gap=True)
    await remote.record(tmp_path / "call.mkv", [*frames[:38], *frames[40:]], sound(3))
    assert remote.files[0].dropped == 20 + 25
    whole = [*frames[:38], *frames[60:65]]
    assert payloads(remote.files[0].path)["video"] == [frame.data for frame in whole]
    assert remote.asked


async def test_what_came_before_the_first_key_frame_is_not_missing(tmp_path: Path) -> None:
    remote, frames = Remote(), list(pictures("vp8", 2))[10:]
    frames[0] = replace(frames[0], gap=True)  # nobody looked before
    await remote.record(tmp_path / "call.mkv", frames, sound(2))
    assert [file.dropped for file in remote.files] == [0]


async def test_after_a_gap_the_picture_goes_on_at_a_key_frame(tmp_path: Path) -> None:
    remote, path = Remote(), tmp_path / "call.mkv"
    frames = sorted([*repeated(pictures("vp8", 3), 10), *repeated(sound(3), 10)], key=lambda frame: frame.arrival)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        recorder = remote.recorder(tasks, path)
        await recorder.start()
        await remote.send(frames[:200])
        for frame in frames[200:]:  # the loop hangs; the reader's queue runs over
            remote.put(frame)
        recorded = await recorder.stop()
    assert recorded.dropped > 1000
    with av.open(str(path)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.pts is not None]
    times = [float((packet.pts or 0) * packet.time_base) for packet in packets]
    gaps = [n for n in range(1, len(packets)) if times[n] - times[n - 1] > 0.1]
    assert len(gaps) == 1 and packets[gaps[0]].is_keyframe


async def test_given_seconds_it_ends_by_itself_at_that_length(tmp_path: Path) -> None:
    remote, path = Remote(), tmp_path / "call.mkv"
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        recorder = remote.recorder(tasks, path, seconds=1)
        await recorder.start()
        await remote.send(pictures("vp8", 3), sound(3))
        recorded = await recorder.wait()
        assert remote.encoded.readers == 0
    assert recorded.seconds == pytest.approx(1, abs=0.04)
    assert len(watch(path).pictures) == FPS


@pytest.mark.parametrize(
    ("suffix", "codec", "audio"), [("mp4", "vp8", "opus"), ("webm", "h264", "opus"), ("webm", "vp8", "pcm_mulaw")]
)
async def test_a_container_that_cannot_hold_the_codec_names_one_that_can(
    tmp_path: Path, suffix: str, codec: str, audio: str
) -> None:
    wrong = audio if audio != "opus" else codec
    with pytest.raises(MediaError, match=rf"\.{suffix} cannot hold {wrong}; record to \.mkv"):
        await Remote().record(tmp_path / f"call.{suffix}", pictures(codec, 1), sound(1, audio))
    assert os.listdir(tmp_path) == []


async def test_a_file_that_exists_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "call.mkv"
    path.write_text("dear")
    with pytest.raises(MediaError, match="exists already"):
        await Remote().record(path)
    assert path.read_text() == "dear"


@pytest.mark.parametrize("name", ["call.avi", "call", "call.mkv/call.mkv"])
async def test_a_place_or_suffix_that_cannot_be_is_said_at_the_start(tmp_path: Path, name: str) -> None:
    (tmp_path / "call.mkv").write_text("a file, no folder")
    with pytest.raises(MediaError, match="call"):
        await Remote().record(tmp_path / name)
    assert not any(thread.name.startswith("record") for thread in threading.enumerate())


async def test_a_disk_that_hangs_is_said_in_time_and_leaves_nothing_when_it_wakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    awake = threading.Event()

    def hang(path: Path) -> RecordingFile:
        awake.wait(30)
        return RecordingFile(path)

    monkeypatch.setattr(names_module, "RecordingFile", hang)
    monkeypatch.setattr(recorder_module, "_OPEN_TIMEOUT", 0.1)
    with pytest.raises(MediaError, match=r"call\.mkv: the disk does not answer"):
        await Remote().record(tmp_path / "call.mkv")
    (thread,) = [thread for thread in threading.enumerate() if thread.name.startswith("record")]
    awake.set()
    thread.join(10)
    assert not thread.is_alive() and os.listdir(tmp_path) == []


async def test_missing_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "call.mkv"
    await Remote().record(path, pictures("vp8", 1), sound(1))
    assert len(watch(path).pictures) == FPS


async def test_a_call_without_media_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no media came"):
        await Remote().record(tmp_path / "call.mkv")
    assert os.listdir(tmp_path) == []


async def test_a_full_disk_ends_the_recording_and_nothing_else(tmp_path: Path) -> None:
    remote = Remote()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(MediaError, match=r"call\.mkv: File too large"):
            await remote.record(tmp_path / "call.mkv", pictures("vp8", 4), sound(4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert remote.encoded.readers == 0
    assert watch(tmp_path / "call.mkv").pictures


async def test_cancelling_its_task_group_still_closes_the_file(tmp_path: Path) -> None:
    remote, path = Remote(), tmp_path / "call.mp4"
    with pytest.raises(ExceptionGroup):
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            recorder = remote.recorder(tasks, path)
            await recorder.start()
            await remote.send(pictures("h264", 2), sound(2))
            await asyncio.sleep(0.01)
            raise RuntimeError
    recorded = await recorder.stop()
    assert recorded.seconds == pytest.approx(2, abs=0.06)
    assert len(watch(path).pictures) == 2 * FPS


_KILLED = """
import asyncio, sys, time
from pathlib import Path
from tests.media.recordings import pictures, sound
from tests.media.recording.test_recorder import Remote
from peer.media.recording.interleaver import START_WAIT

async def main():
    remote = Remote()
    async with asyncio.TaskGroup() as tasks:
        recorder = remote.recorder(tasks, Path(sys.argv[1]))
        await recorder.start()
        remote.ago = START_WAIT + 0.1
        await remote.send(pictures(sys.argv[2], 5, gop=1000), sound(5) if sys.argv[3] == "with" else [])
        while recorder._queue.qsize():
            await asyncio.sleep(0.01)
        print("sent", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("heard", ["with", "without"])
@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "vp8"), ("webm", "vp8"), ("mp4", "h264")])
def test_kill_9_costs_less_than_two_seconds(tmp_path: Path, suffix: str, codec: str, heard: str) -> None:
    """With one key frame, as in a call without loss, and also while the sound is silent."""
    path = tmp_path / f"call.{suffix}"
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(path), codec, heard], stdout=subprocess.PIPE, cwd=root, env=os.environ
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"sent\n"
        process.send_signal(signal.SIGKILL)
    assert len(watch(path).pictures) > 3 * FPS
