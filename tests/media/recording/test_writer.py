"""The writer: what it takes from its queue, and what it reports of each file."""

from __future__ import annotations

import queue
from collections.abc import Iterable
from pathlib import Path

import pytest

from peer.errors import MediaError
from peer.media.frames import EncodedFrame
from peer.media.recording.file_names import SegmentPaths, SinglePath
from peer.media.recording.writer import Recorded, Writer

from ..recordings import FPS, analyze, audio_frames, video_frames


class Recording:
    """A writer, its queue and its reports."""

    def __init__(self, path: Path, *, seconds: float | None = None, segment: float | None = None) -> None:
        self.files: list[Recorded] = []
        self.errors: list[MediaError] = []
        self.dropped = 0
        self.frames: queue.SimpleQueue[EncodedFrame | None] = queue.SimpleQueue()
        self.writer = Writer(
            SinglePath(path) if segment is None else SegmentPaths(str(path), "door"),
            ("video", "audio"),
            seconds=seconds,
            segment=segment,
            dropped=lambda: self.dropped,
            on_recorded=self.files.append,
            on_failed=self.errors.append,
        )

    def put(self, *streams: Iterable[EncodedFrame]) -> None:
        for frame in sorted((frame for stream in streams for frame in stream), key=lambda frame: frame.arrival):
            self.frames.put(frame)

    def record(self) -> Recorded:
        """Record what is queued."""
        self.frames.put(None)
        self.writer.open()
        return self.writer.record(self.frames)


def test_writer_records_until_the_end_of_its_queue(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "call.mkv")
    assert recording.writer.needs_key_frame
    recording.put(video_frames("vp8", 2), audio_frames(2))
    recording.dropped = 5
    last = recording.record()
    assert last == Recorded(tmp_path / "call.mkv", pytest.approx(2, abs=0.06), 5)
    assert recording.files == [last] and not recording.writer.needs_key_frame
    assert len(analyze(last.path).frame_times) == 2 * FPS


def test_writer_stops_at_its_length(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "call.mkv", seconds=1)
    recording.put(video_frames("vp8", 3), audio_frames(3))
    assert recording.record().seconds == pytest.approx(1, abs=0.04)


def test_segments_report_only_their_own_dropped_frames(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "x.mkv", segment=1)
    recording.dropped = 5
    recording.put(video_frames("vp8", 2), audio_frames(2))
    recording.record()
    assert [file.dropped for file in recording.files] == [5, 0]


def test_failed_segments_are_reported_and_raised_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    recording = Recording(tmp_path / "file" / "x.mkv", segment=1)
    recording.put(video_frames("vp8", 2), audio_frames(2))
    with pytest.raises(MediaError, match=r"2 of 2 segments were lost; the last one: .* is not a folder"):
        recording.record()
    assert len(recording.errors) == 2 and not recording.files


def test_queue_without_media_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "call.mkv")
    with pytest.raises(MediaError, match="nothing was recorded: no media arrived"):
        recording.record()
    assert not (tmp_path / "call.mkv").exists()


def test_file_that_cannot_be_created_is_an_error_of_open(tmp_path: Path) -> None:
    (tmp_path / "call.mkv").touch()
    with pytest.raises(MediaError, match="the file exists"):
        Recording(tmp_path / "call.mkv").writer.open()
