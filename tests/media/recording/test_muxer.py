"""The muxer ignores packets that it cannot write, and repairs timestamps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from peer.media.recording.codec_parameters import VideoParameters
from peer.media.recording.muxer import Muxer

from ..recordings import FPS, analyze, audio_frames, video_frames


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_invalid_packets_between_frames_are_ignored(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"call.{suffix}"
    muxer = Muxer(path)
    muxer.begin(VideoParameters("h264", 320, 240), "opus")
    valid, invalid = video_frames("h264", 1), (b"", b"\x00", b"\xff" * 50, b"\x00\x00\x01")
    for n, frame in enumerate(valid):
        muxer.write(frame, n / FPS)
        muxer.write(replace(frame, data=invalid[n % len(invalid)], key=False), n / FPS + 0.001)
        muxer.write(replace(frame, codec="vp8"), n / FPS + 0.002)
        muxer.write(replace(audio_frames(1)[n], codec="g722"), n / FPS)
    muxer.close()
    muxer.close()
    assert len(analyze(path).frame_times) >= FPS


def test_file_without_media_is_deleted(tmp_path: Path) -> None:
    Muxer(tmp_path / "call.mkv").close()
    assert not (tmp_path / "call.mkv").exists()


def test_times_that_do_not_increase_are_made_to(tmp_path: Path) -> None:
    muxer = Muxer(tmp_path / "call.mkv")
    muxer.begin(VideoParameters("vp8", 320, 240), None)
    for frame, at in zip(video_frames("vp8", 1), [0, 0.1, 0.1, 0.05, 0.2], strict=False):
        muxer.write(frame, at)
    muxer.close()
    times = analyze(tmp_path / "call.mkv").frame_times
    assert len(times) == 5 and times == sorted(times) and times[-1] == pytest.approx(0.2)
