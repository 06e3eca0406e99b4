"""Recordings are decoded and compared with the frames sent."""

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
from peer.media.recording import file_names as file_names_module
from peer.media.recording import recorder as recorder_module
from peer.media.recording.file_names import SegmentPaths, SinglePath
from peer.media.recording.interleaver import START_TIMEOUT, Kind
from peer.media.recording.muxer import Muxer
from peer.media.recording.recorder import Recorder
from peer.media.recording.segmenter import Segmenter
from peer.media.recording.writer import Recorded

from ..recordings import FPS, analyze, audio_frames, delayed, payloads, repeated, video_frames

BOTH: tuple[Kind, ...] = ("video", "audio")


class Remote:
    """A remote that has sent all its frames at once."""

    def __init__(self) -> None:
        self.encoded: Fanout[EncodedFrame] = Fanout()
        self.files: list[Recorded] = []
        self.failures: list[MediaError] = []
        self.requests = 0
        self.suppressed_requests = 0
        """Number of first requests that are not sent, because another request was sent just before."""
        self.age = 0.0
        """Time since the first frame arrived, in seconds."""
        self._start: float | None = None

    def request_key_frame(self) -> bool:
        self.requests += 1
        return self.requests > self.suppressed_requests

    async def send(self, *streams: Iterable[EncodedFrame]) -> None:
        frames = sorted((frame for stream in streams for frame in stream), key=lambda frame: frame.arrival)
        for n, frame in enumerate(frames):
            self.put(frame)
            if n % 50 == 0:
                await asyncio.sleep(0)

    def put(self, frame: EncodedFrame) -> None:
        if self._start is None:
            self._start = time.monotonic() - self.age
        self.encoded.put(replace(frame, arrival=frame.arrival + self._start))

    def recorder(self, tasks: asyncio.TaskGroup, path: Path, **options: Any) -> Recorder:
        return Recorder(
            tasks,
            SegmentPaths(str(path), "door") if "segment" in options else SinglePath(path),
            self.encoded,
            **{"kinds": BOTH} | options,
            request_key_frame=self.request_key_frame,
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
                error = exc  # raised outside of the task group, which would wrap it
        raise error


def _with_ntp(frames: Iterable[EncodedFrame]) -> list[EncodedFrame]:
    """Return ``frames`` with sender reports, by which their timestamps start at 5000 s."""
    first = next(iter(frames)).timestamp
    return [replace(frame, ntp=5000 + (frame.timestamp - first) / frame.clock_rate) for frame in frames]


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "vp8"), ("webm", "vp8"), ("mkv", "h264"), ("mp4", "h264")])
async def test_recording_holds_every_frame_in_sync(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"call.{suffix}"
    recorded = await Remote().record(path, video_frames(codec, 3), audio_frames(3))
    analysis = analyze(path)
    assert len(analysis.frame_times) == 3 * FPS and set(analysis.sizes) == {(320, 240)}
    assert recorded == Recorded(path, pytest.approx(3, abs=0.06), 0)
    assert analysis.audio_seconds == pytest.approx(3, abs=0.06)
    assert analysis.flashes == pytest.approx([0, 1, 2], abs=0.005)
    assert analysis.beeps == pytest.approx([0, 1, 2], abs=0.02)


async def test_sender_reports_correct_a_delay_of_the_network(tmp_path: Path) -> None:
    path = tmp_path / "call.mkv"
    await Remote().record(path, delayed(tuple(_with_ntp(video_frames("vp8", 3))), 0.25), _with_ntp(audio_frames(3)))
    analysis = analyze(path)
    assert analysis.beeps[-1] - analysis.flashes[-1] == pytest.approx(0, abs=0.02)


async def test_without_reports_frames_are_placed_by_arrival(tmp_path: Path) -> None:
    path = tmp_path / "call.mkv"
    await Remote().record(path, delayed(video_frames("vp8", 3), 0.25), audio_frames(3))
    analysis = analyze(path)
    assert analysis.flashes[-1] - analysis.beeps[-1] == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_recording_starts_with_a_requested_key_frame(tmp_path: Path, codec: str) -> None:
    remote, path = Remote(), tmp_path / "call.mkv"
    await remote.record(path, video_frames(codec, 3)[10:], audio_frames(3))
    analysis = analyze(path)
    assert remote.requests >= 1
    assert len(analysis.frame_times) == 2 * FPS and analysis.frame_times[0] == 0
    assert analysis.beeps == pytest.approx([0, 1], abs=0.03)  # an Opus decoder needs one packet to settle


async def test_suppressed_key_frame_request_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "_REQUEST_INTERVAL", 3600.0)
    remote = Remote()
    remote.suppressed_requests = 3
    await remote.record(tmp_path / "call.mkv", video_frames("vp8", 2)[1:], audio_frames(2))
    assert remote.requests == 4


async def test_missing_audio_delays_the_start_and_loses_no_video(tmp_path: Path) -> None:
    remote, path = Remote(), tmp_path / "call.mkv"
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        recorder = remote.recorder(tasks, path)
        await recorder.start()
        remote.age = START_TIMEOUT + 0.1
        await remote.send(video_frames("vp8", 3))
        recorded = await recorder.stop()
    analysis = analyze(path)
    assert recorded.seconds == pytest.approx(3, abs=0.06)
    assert len(analysis.frame_times) == 3 * FPS and analysis.audio_seconds == 0


async def test_late_audio_is_recorded_at_its_time(tmp_path: Path) -> None:
    remote, path = Remote(), tmp_path / "call.mkv"
    remote.age = START_TIMEOUT + 0.1
    late = [frame for frame in audio_frames(4) if frame.arrival >= 1.5]
    await remote.record(path, video_frames("vp8", 4), late)
    assert analyze(path).beeps == pytest.approx([2, 3], abs=0.02)


async def test_audio_alone_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "call.webm"
    recorded = await Remote().record(path, audio_frames(2), kinds=("audio",))
    assert recorded.seconds == pytest.approx(2, abs=0.03)
    assert analyze(path).audio_seconds == pytest.approx(2, abs=0.03)


async def test_g711_audio_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "call.mkv"
    await Remote().record(path, video_frames("vp8", 2), audio_frames(2, "pcm_mulaw"))
    assert analyze(path).beeps == pytest.approx([0, 1], abs=0.02)


def _sent_later(frames: Iterable[EncodedFrame], seconds: float) -> list[EncodedFrame]:
    """Return ``frames`` as if sent ``seconds`` later."""
    return [
        replace(
            frame,
            arrival=frame.arrival + seconds,
            timestamp=frame.timestamp + round(seconds * frame.clock_rate),
        )
        for frame in frames
    ]


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "vp8"), ("webm", "vp8"), ("mkv", "h264")])
async def test_change_of_frame_size_continues_the_file(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"call.{suffix}"
    await Remote().record(
        path, video_frames(codec, 1), _sent_later(video_frames(codec, 1, 160, 120), 1), audio_frames(2)
    )
    assert analyze(path).sizes == [(320, 240)] * FPS + [(160, 120)] * FPS


async def test_change_of_h264_size_starts_a_new_mp4(tmp_path: Path) -> None:
    """The parameter sets of an ``avc1`` track are in its header only."""
    remote = Remote()
    small = _sent_later(video_frames("h264", 1, 160, 120), 1)
    recorded = await remote.record(tmp_path / "call.mp4", video_frames("h264", 1), small, audio_frames(2))
    assert [file.path.name for file in remote.files] == ["call.mp4", "call-2.mp4"]
    assert recorded == remote.files[1]
    first, second = (analyze(file.path) for file in remote.files)
    assert (first.sizes, second.sizes) == ([(320, 240)] * FPS, [(160, 120)] * FPS)
    assert second.flashes == pytest.approx([0], abs=0.005) and second.beeps == pytest.approx([0], abs=0.05)


async def test_change_of_video_codec_starts_a_new_file(tmp_path: Path) -> None:
    remote, streams = Remote(), (video_frames("vp8", 1), _sent_later(video_frames("h264", 1), 1), audio_frames(2))
    await remote.record(tmp_path / "call.mkv", *streams)
    assert [(file.path.name, file.dropped) for file in remote.files] == [("call.mkv", 0), ("call-2.mkv", 0)]
    analyses = [analyze(file.path) for file in remote.files]
    assert [len(analysis.frame_times) for analysis in analyses] == [FPS, FPS]
    assert [packet for file in remote.files for packet in payloads(file.path)["audio"]] == [
        f.data for f in audio_frames(2)
    ]


async def test_change_of_audio_codec_waits_for_a_key_frame(tmp_path: Path) -> None:
    remote, g711 = Remote(), _sent_later(audio_frames(3, "pcm_mulaw")[:75], 1.5)
    await remote.record(
        tmp_path / "call.mkv", video_frames("vp8", 3), [f for f in audio_frames(3) if f.arrival < 1.5], g711
    )
    assert [file.dropped for file in remote.files] == [25, 0]  # half a second
    analyses = [analyze(file.path) for file in remote.files]
    assert [len(analysis.frame_times) for analysis in analyses] == [2 * FPS, FPS]
    assert [analysis.audio_seconds for analysis in analyses] == pytest.approx([1.5, 1], abs=0.03)


async def test_video_after_audio_alone_starts_a_new_file(tmp_path: Path) -> None:
    remote = Remote()
    remote.age = START_TIMEOUT + 0.1
    await remote.record(tmp_path / "call.mkv", _sent_later(video_frames("vp8", 2), 3), audio_frames(5))
    early, late = (analyze(file.path) for file in remote.files)
    assert (early.frame_times, early.audio_seconds) == ([], pytest.approx(3, abs=0.03))
    assert len(late.frame_times) == 2 * FPS and late.beeps == pytest.approx([0, 1], abs=0.05)


async def test_video_after_a_loss_is_dropped_until_a_key_frame(tmp_path: Path) -> None:
    remote, frames = Remote(), list(video_frames("vp8", 3))
    frames[40] = replace(frames[40], gap=True)
    frames[65] = replace(frames[65], gap=True)
    await remote.record(tmp_path / "call.mkv", [*frames[:38], *frames[40:]], audio_frames(3))
    assert remote.files[0].dropped == 20 + 25
    whole = [*frames[:38], *frames[60:65]]
    assert payloads(remote.files[0].path)["video"] == [frame.data for frame in whole]
    assert remote.requests


async def test_video_before_the_first_key_frame_is_not_counted(tmp_path: Path) -> None:
    remote, frames = Remote(), list(video_frames("vp8", 2))[10:]
    frames[0] = replace(frames[0], gap=True)  # there were no readers before
    await remote.record(tmp_path / "call.mkv", frames, audio_frames(2))
    assert [file.dropped for file in remote.files] == [0]


async def test_overrun_reader_continues_at_a_key_frame(tmp_path: Path) -> None:
    remote, path = Remote(), tmp_path / "call.mkv"
    frames = sorted(
        [*repeated(video_frames("vp8", 3), 10), *repeated(audio_frames(3), 10)], key=lambda frame: frame.arrival
    )
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        recorder = remote.recorder(tasks, path)
        await recorder.start()
        await remote.send(frames[:200])
        for frame in frames[200:]:  # the event loop is blocked; the reader's queue overruns
            remote.put(frame)
        recorded = await recorder.stop()
    assert recorded.dropped > 1000
    with av.open(str(path)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.pts is not None]
    times = [float((packet.pts or 0) * packet.time_base) for packet in packets]
    gaps = [n for n in range(1, len(packets)) if times[n] - times[n - 1] > 0.1]
    assert len(gaps) == 1 and packets[gaps[0]].is_keyframe


async def test_disk_that_hangs_costs_a_bounded_number_of_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_MAX_QUEUED_BYTES", 200_000)
    hangs = threading.Event()
    write = Muxer.write

    def slow(self: Muxer, *args: Any) -> Any:
        hangs.wait(20)
        return write(self, *args)

    monkeypatch.setattr(Muxer, "write", slow)
    remote = Remote()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        recorder = remote.recorder(tasks, tmp_path / "call.mkv", kinds=("video",))
        await recorder.start()
        first, *rest = video_frames("vp8", 1)
        await remote.send([first], [replace(frame, data=bytes(30_000)) for frame in rest])
        await asyncio.sleep(0.1)
        assert recorder._queued_bytes - recorder._writer.read_bytes <= 200_000
        assert [str(error) for error in remote.failures] == [
            f"{tmp_path / 'call.mkv'}: the disk is too slow; frames are dropped"
        ]
        hangs.set()
        await recorder.stop()


@pytest.mark.parametrize("where", ["open", "write", "request_key_frame"])
async def test_bug_in_one_recording_ends_only_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    def broken(*_: object) -> Any:
        raise ZeroDivisionError

    remote = Remote()
    if where == "request_key_frame":
        monkeypatch.setattr(remote, "request_key_frame", broken)
    else:
        monkeypatch.setattr(Segmenter, where, broken)
    frames = video_frames("vp8", 1)
    if where == "request_key_frame":
        frames = frames[1:]
    with pytest.raises(MediaError, match=r"unexpected error: ZeroDivisionError|no media arrived"):
        await remote.record(tmp_path / "call.mkv", frames, kinds=("video",))
    assert "the recording" in caplog.text and "ZeroDivisionError" in caplog.text


async def test_recording_of_given_length_ends_at_that_length(tmp_path: Path) -> None:
    remote, path = Remote(), tmp_path / "call.mkv"
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        recorder = remote.recorder(tasks, path, seconds=1)
        await recorder.start()
        await remote.send(video_frames("vp8", 3), audio_frames(3))
        recorded = await recorder.wait()
        assert remote.encoded.readers == 0
    assert recorded.seconds == pytest.approx(1, abs=0.04)
    assert len(analyze(path).frame_times) == FPS


@pytest.mark.parametrize(
    ("suffix", "codec", "audio"), [("mp4", "vp8", "opus"), ("webm", "h264", "opus"), ("webm", "vp8", "pcm_mulaw")]
)
async def test_codec_that_the_container_cannot_hold_is_an_error(
    tmp_path: Path, suffix: str, codec: str, audio: str
) -> None:
    unsupported = audio if audio != "opus" else codec
    with pytest.raises(MediaError, match=rf"\.{suffix} cannot hold {unsupported}; record to \.mkv"):
        await Remote().record(tmp_path / f"call.{suffix}", video_frames(codec, 1), audio_frames(1, audio))
    assert os.listdir(tmp_path) == []


async def test_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "call.mkv"
    path.write_text("precious")
    with pytest.raises(MediaError, match="the file exists"):
        await Remote().record(path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("name", ["call.avi", "call", "call.mkv/call.mkv"])
async def test_invalid_path_is_an_error_at_the_start(tmp_path: Path, name: str) -> None:
    (tmp_path / "call.mkv").write_text("a file, not a folder")
    with pytest.raises(MediaError, match="call"):
        await Remote().record(tmp_path / name)
    assert not any(thread.name.startswith("record") for thread in threading.enumerate())


async def test_disk_that_hangs_times_out_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    responds = threading.Event()

    def hang(path: Path) -> Muxer:
        responds.wait(30)
        return Muxer(path)

    monkeypatch.setattr(file_names_module, "Muxer", hang)
    monkeypatch.setattr(recorder_module, "_OPEN_TIMEOUT", 0.1)
    with pytest.raises(MediaError, match=r"call\.mkv: the disk does not respond"):
        await Remote().record(tmp_path / "call.mkv")
    (thread,) = [thread for thread in threading.enumerate() if thread.name.startswith("record")]
    responds.set()
    thread.join(10)
    assert not thread.is_alive() and os.listdir(tmp_path) == []


async def test_missing_folders_are_created(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "call.mkv"
    await Remote().record(path, video_frames("vp8", 1), audio_frames(1))
    assert len(analyze(path).frame_times) == FPS


async def test_call_without_media_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no media arrived"):
        await Remote().record(tmp_path / "call.mkv")
    assert os.listdir(tmp_path) == []


async def test_full_disk_ends_only_the_recording(tmp_path: Path) -> None:
    remote = Remote()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(MediaError, match=r"call\.mkv: File too large"):
            await remote.record(tmp_path / "call.mkv", video_frames("vp8", 4), audio_frames(4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert remote.encoded.readers == 0
    assert analyze(tmp_path / "call.mkv").frame_times


async def test_cancelled_task_group_closes_the_file(tmp_path: Path) -> None:
    remote, path = Remote(), tmp_path / "call.mp4"
    with pytest.raises(ExceptionGroup):
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            recorder = remote.recorder(tasks, path)
            await recorder.start()
            await remote.send(video_frames("h264", 2), audio_frames(2))
            await asyncio.sleep(0.01)
            raise RuntimeError
    recorded = await recorder.stop()
    assert recorded.seconds == pytest.approx(2, abs=0.06)
    assert len(analyze(path).frame_times) == 2 * FPS


_KILLED = """
import asyncio, sys, time
from pathlib import Path
from tests.media.recordings import audio_frames, video_frames
from tests.media.recording.test_recorder import Remote
from peer.media.recording.interleaver import START_TIMEOUT

async def main():
    remote = Remote()
    async with asyncio.TaskGroup() as tasks:
        recorder = remote.recorder(tasks, Path(sys.argv[1]))
        await recorder.start()
        remote.age = START_TIMEOUT + 0.1
        await remote.send(video_frames(sys.argv[2], 5, gop=1000), audio_frames(5) if sys.argv[3] == "with" else [])
        while recorder._queue.qsize():
            await asyncio.sleep(0.01)
        print("sent", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("audio", ["with", "without"])
@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "vp8"), ("webm", "vp8"), ("mp4", "h264")])
def test_kill_9_loses_less_than_two_seconds(tmp_path: Path, suffix: str, codec: str, audio: str) -> None:
    """With a single key frame, as in a call without loss, and also without audio."""
    path = tmp_path / f"call.{suffix}"
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(path), codec, audio], stdout=subprocess.PIPE, cwd=root, env=os.environ
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"sent\n"
        process.send_signal(signal.SIGKILL)
    assert len(analyze(path).frame_times) > 3 * FPS
