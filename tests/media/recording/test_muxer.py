"""A remote's packets cannot end a recording, and the disk's own words are heard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from peer.media.recording.codec_parameters import VideoHead
from peer.media.recording.muxer import RecordingFile

from ..recordings import FPS, pictures, sound, watch


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_nonsense_between_frames_is_passed_over(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"call.{suffix}"
    file = RecordingFile(path)
    file.begin(VideoHead("h264", 320, 240), "opus")
    good, ill = pictures("h264", 1), (b"", b"\x00", b"\xff" * 50, b"\x00\x00\x01")
    for n, frame in enumerate(good):
        file.write(frame, n / FPS)
        file.write(replace(frame, data=ill[n % len(ill)], key=False), n / FPS + 0.001)
        file.write(replace(frame, codec="vp8"), n / FPS + 0.002)
        file.write(replace(sound(1)[n], codec="g722"), n / FPS)
    file.close()
    file.close()
    assert len(watch(path).pictures) >= FPS


def test_a_file_that_was_never_begun_is_removed(tmp_path: Path) -> None:
    RecordingFile(tmp_path / "call.mkv").close()
    assert not (tmp_path / "call.mkv").exists()


def test_time_that_stands_still_or_runs_back_is_straightened(tmp_path: Path) -> None:
    file = RecordingFile(tmp_path / "call.mkv")
    file.begin(VideoHead("vp8", 320, 240), None)
    for frame, at in zip(pictures("vp8", 1), [0, 0.1, 0.1, 0.05, 0.2], strict=False):
        file.write(frame, at)
    file.close()
    times = watch(tmp_path / "call.mkv").pictures
    assert len(times) == 5 and times == sorted(times) and times[-1] == pytest.approx(0.2)
