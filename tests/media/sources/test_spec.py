"""What a user types for media."""

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
    parse_duration,
    parse_size,
    parse_video,
)


@pytest.mark.parametrize("kind", ["auto", "none", "test", "screen"])
def test_video_words(kind: str) -> None:
    assert parse_video(kind).kind == kind


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("/dev/video0", VideoSpec("device", "/dev/video0")),
        ("2", VideoSpec("device", "/dev/video2")),
        ("/dev/video0?h264", VideoSpec("device", "/dev/video0", h264=True)),
        ("2?h264", VideoSpec("device", "/dev/video2", h264=True)),
        ("clip.mp4", VideoSpec("file", "clip.mp4")),
        ("9" * 5000, VideoSpec("file", "9" * 5000)),  # more digits than Python makes a number of
        ("clip.mp4?loop", VideoSpec("file", "clip.mp4", loop=True)),
        ("rtsp://camera/1", VideoSpec("rtsp", "rtsp://camera/1")),
        ("screen:1.0", VideoSpec("screen", ":1.0")),
    ],
)
def test_video_inputs(text: str, spec: VideoSpec) -> None:
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
def test_audio_inputs(text: str, spec: AudioSpec) -> None:
    assert parse_audio(text) == spec


def test_a_file_that_is_really_called_so_wins_over_the_loop(tmp_path: Path) -> None:
    odd = tmp_path / "clip.mp4?loop"
    odd.touch()
    assert parse_video(str(odd)) == VideoSpec("file", str(odd), loop=False)


@pytest.mark.parametrize("text", ["", "  ", "http://host/x", "rtsp://", "rtp://1.2.3.4"])
def test_what_cannot_be_played_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--video"):
        parse_video(text)
    with pytest.raises(ConfigError, match="--audio"):
        parse_audio(text)


@pytest.mark.parametrize("parse", [parse_video, parse_audio])
def test_an_address_that_is_refused_keeps_its_password(parse: Callable[[str], object]) -> None:
    with pytest.raises(ConfigError, match="'http://camera/x' is not") as caught:
        parse("http://admin:sec/r@t@camera/x")
    assert "admin" not in str(caught.value)


def test_a_screen_has_no_sound() -> None:
    with pytest.raises(ConfigError, match="microphone"):
        parse_audio("screen")


def test_sizes() -> None:
    assert parse_size("1280x720") == (1280, 720)
    assert parse_size(" 640 X 480 ") == (640, 480)


@pytest.mark.parametrize(
    ("text", "hint"),
    [("big", "1280x720"), ("641x360", "640x360"), ("2x2", "64 to"), ("99998x720", "7680"), ("1280", "not a size")],
)
def test_bad_sizes_say_what_to_try(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        parse_size(text)


@pytest.mark.parametrize(("text", "bits"), [("2500k", 2_500_000), ("2.5M", 2_500_000), ("300000", 300_000)])
def test_bitrates(text: str, bits: int) -> None:
    assert parse_bitrate(text) == bits


@pytest.mark.parametrize("text", ["", "fast", "-1k", "1", "999M", "1e6", "9" * 400])
def test_bad_bitrates(text: str) -> None:
    with pytest.raises(ConfigError, match="2500k"):
        parse_bitrate(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("10s", 10), ("500ms", 0.5), ("2m", 120), ("1.5h", 5400), ("7", 7), ("0.5", 0.5)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0s", "-1s", "ten", "1d", "inf", "nan"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(ConfigError, match="500ms"):
        parse_duration(text)


def test_loads_no_media_library() -> None:
    code = "import sys, peer.media.sources.spec; print({'av', 'numpy', 'aiortc', 'cv2'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "set()"
