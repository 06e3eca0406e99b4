"""A camera as a source, replaced by a clip because test machines have no camera."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import av
import pytest

from peer.errors import MediaError
from peer.media.frames import EncodedFrame, media_time
from peer.media.sources import camera
from peer.media.sources.constraints import Constraints
from peer.media.sources.decoding import DecodeFlags
from peer.media.sources.passthrough import PassthroughCheck, StreamInfo
from peer.media.sources.v4l2 import Capabilities, Mode
from peer.media.sources.v4l2_controls import CameraControls
from tests.media.clips import write_h264

MODES = (Mode("yuyv422", ((320, 180),), (30.0,)), Mode("h264", ((320, 180),), (30.0,)))


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments with which the camera is opened. Its H.264 has no timestamps, as with some drivers."""
    clip = write_h264(tmp_path / "clip.h264", seconds=0.4)
    calls: list[dict[str, Any]] = []
    real_open = av.open

    def open_clip(path: str, **options: Any) -> Any:
        calls.append({"path": path, **options})
        return real_open(str(clip))

    monkeypatch.setattr(camera.v4l2, "query", lambda path: Capabilities("Cam", True, MODES))
    monkeypatch.setattr(camera.av, "open", open_clip)
    return calls


def _constraints(*, h264: bool) -> Constraints:
    return Constraints(video=True, audio=False, size=(320, 180), fps=30, h264=h264)


def test_camera_h264_is_undecoded_on_the_media_clock(opened: list[dict[str, Any]]) -> None:
    flags, start = DecodeFlags(video=False), media_time()
    stream_info, *frames = camera.read("/dev/video0", _constraints(h264=True), flags, threading.Event())
    assert opened[0]["options"] == {"input_format": "h264", "video_size": "320x180", "framerate": "30"}
    assert isinstance(stream_info, StreamInfo)
    passthrough = PassthroughCheck()
    passthrough.restart(stream_info)
    for frame in frames:
        assert isinstance(frame, EncodedFrame)
        assert start <= frame.timestamp / 90_000 + 1e-4 <= media_time() + 1e-4
        passthrough.observe(frame)
    assert len(frames) == 10
    assert flags.decoded_packets == 0
    assert passthrough.refusal() is None


def test_camera_h264_is_decoded_for_a_video_reader(opened: list[dict[str, Any]]) -> None:
    frames = list(camera.read("/dev/video0", _constraints(h264=True), DecodeFlags(), threading.Event()))
    assert [type(frame) for frame in frames].count(av.VideoFrame) >= 1
    assert {(frame.width, frame.height) for frame in frames if isinstance(frame, av.VideoFrame)} == {(320, 180)}


def test_camera_raw_format_is_requested_by_default(opened: list[dict[str, Any]]) -> None:
    next(iter(camera.read("/dev/video0", _constraints(h264=False), DecodeFlags(), threading.Event())))
    assert opened[0]["options"]["input_format"] == "yuyv422"


def test_camera_without_required_h264_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera.v4l2, "query", lambda path: Capabilities("Cam", True, MODES[:1]))
    with pytest.raises(MediaError, match="offers no H"):
        list(camera.read("/dev/video0", _constraints(h264=True), DecodeFlags(), threading.Event()))


def test_camera_controls_are_set_at_each_opening(
    opened: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    applied: list[str] = []
    monkeypatch.setattr(CameraControls, "apply", lambda self, path: applied.append(path))
    for number in (0, 1):
        next(iter(camera.read(f"/dev/video{number}", _constraints(h264=False), DecodeFlags(), threading.Event())))
        assert applied == [call["path"] for call in opened]
