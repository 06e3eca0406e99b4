"""Parsing of media options."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from peer.errors import ConfigError
from peer.media.sources.spec import (
    AudioSpec,
    VideoSpec,
    parse_audio,
    parse_bitrate,
    parse_control,
    parse_duration,
    parse_size,
    parse_video,
)


@pytest.mark.parametrize("kind", ["auto", "none", "test", "screen"])
def test_parse_video_keywords(kind: str) -> None:
    assert parse_video(kind).kind == kind


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("/dev/video0", VideoSpec("device", "/dev/video0")),
        ("2", VideoSpec("device", "/dev/video2")),
        ("/dev/video0?h264", VideoSpec("device", "/dev/video0", h264=True)),
        ("2?h264", VideoSpec("device", "/dev/video2", h264=True)),
        ("clip.mp4", VideoSpec("file", "clip.mp4")),
        ("clip.h264", VideoSpec("file", "clip.h264")),
        ("clips/door", VideoSpec("file", "clips/door")),
        ("HD Pro Webcam C920", VideoSpec("device", "HD Pro Webcam C920")),
        ("USB 2.0 Camera: 2.0", VideoSpec("device", "USB 2.0 Camera: 2.0")),
        ("AB12CD34?h264", VideoSpec("device", "AB12CD34", h264=True)),
        ("9" * 5000, VideoSpec("device", "9" * 5000)),  # more digits than int() accepts
        ("clip.mp4?loop", VideoSpec("file", "clip.mp4", loop=True)),
        ("rtsp://camera/1", VideoSpec("rtsp", "rtsp://camera/1")),
        ("screen:1.0", VideoSpec("screen", ":1.0")),
    ],
)
def test_parse_video_targets(text: str, spec: VideoSpec) -> None:
    assert parse_video(text) == spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("default", AudioSpec("device", "default")),
        ("hw:1,0", AudioSpec("device", "hw:1,0")),
        ("plughw:CARD=C920.1,DEV=0", AudioSpec("device", "plughw:CARD=C920.1,DEV=0")),
        ("talk.wav", AudioSpec("file", "talk.wav")),
        ("./talk?loop", AudioSpec("file", "./talk", loop=True)),
        ("rtsps://camera/1", AudioSpec("rtsp", "rtsps://camera/1")),
        ("test", AudioSpec("test")),
    ],
)
def test_parse_audio_targets(text: str, spec: AudioSpec) -> None:
    assert parse_audio(text) == spec


def test_parse_existing_file_name_wins_over_loop(tmp_path: Path) -> None:
    odd = tmp_path / "clip.mp4?loop"
    odd.touch()
    assert parse_video(str(odd)) == VideoSpec("file", str(odd), loop=False)


@pytest.mark.parametrize("text", ["", "  ", "http://host/x", "rtsp://", "rtp://1.2.3.4"])
def test_parse_video_invalid_raises(text: str) -> None:
    with pytest.raises(ConfigError, match="--video"):
        parse_video(text)
    with pytest.raises(ConfigError, match="--audio"):
        parse_audio(text)


@pytest.mark.parametrize("parse", [parse_video, parse_audio])
def test_parse_invalid_url_error_hides_the_password(parse: Callable[[str], object]) -> None:
    with pytest.raises(ConfigError, match="'http://camera/x' is not") as caught:
        parse("http://admin:sec/r@t@camera/x")
    assert "admin" not in str(caught.value)


def test_parse_audio_screen_raises() -> None:
    with pytest.raises(ConfigError, match="microphone"):
        parse_audio("screen")


def test_parse_size() -> None:
    assert parse_size("1280x720") == (1280, 720)
    assert parse_size(" 640 X 480 ") == (640, 480)


@pytest.mark.parametrize(
    ("text", "hint"),
    [("big", "1280x720"), ("641x360", "640x360"), ("2x2", "64 to"), ("99998x720", "7680"), ("1280", "not a size")],
)
def test_parse_size_invalid_error_has_hint(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        parse_size(text)


@pytest.mark.parametrize(("text", "bits"), [("2500k", 2_500_000), ("2.5M", 2_500_000), ("300000", 300_000)])
def test_parse_bitrate(text: str, bits: int) -> None:
    assert parse_bitrate(text) == bits


@pytest.mark.parametrize("text", ["", "fast", "-1k", "1", "999M", "1e6", "9" * 400])
def test_parse_bitrate_invalid_raises(text: str) -> None:
    with pytest.raises(ConfigError, match="2500k"):
        parse_bitrate(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("500ms", 0.5), ("2m", 120), ("2min", 120), ("1.5h", 5400), ("7", 7), ("0.5", 0.5)],
)
def test_parse_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0s", "-1s", "ten", "1d", "inf", "nan"])
def test_parse_duration_invalid_raises(text: str) -> None:
    with pytest.raises(ConfigError, match="500ms"):
        parse_duration(text)


def test_spec_import_loads_no_media_library() -> None:
    code = "import sys, peer.media.sources.spec; print({'av', 'numpy', 'aiortc', 'cv2'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "set()"


@pytest.mark.parametrize("parse", [parse_video, parse_audio])
def test_parse_exec_keeps_the_command(parse: Callable[[str], VideoSpec | AudioSpec]) -> None:
    spec = parse("exec:rpicam-vid -t 0 -o -")
    assert (spec.kind, spec.target) == ("exec", "rpicam-vid -t 0 -o -")


@pytest.mark.parametrize("text", ["exec:", "exec: ", "exec:''", "exec:'a"])
def test_parse_exec_without_program_raises(text: str) -> None:
    with pytest.raises(ConfigError, match=r"names no program|check its quotes"):
        parse_video(text)


def test_parse_control_is_a_name_and_a_value() -> None:
    assert parse_control("power_line_frequency = 60 Hz") == ("power_line_frequency", "60 Hz")


@pytest.mark.parametrize("text", ["", "brightness", "brightness=", "=5", "Bright ness=5"])
def test_parse_control_without_name_or_value_raises(text: str) -> None:
    with pytest.raises(ConfigError, match="try brightness=10"):
        parse_control(text)
