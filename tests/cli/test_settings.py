"""Settings: values that depend on other options, contradictions, and unknown variables."""

from __future__ import annotations

import click
import pytest

from peer.cli import settings
from peer.cli.settings import Settings
from peer.errors import ConfigError


def test_windows_default_to_on_with_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    assert not _settings().media.show
    monkeypatch.setenv("DISPLAY", ":1")
    assert _settings().media.show
    assert not _settings("--no-show").media.show


def _settings(*args: str) -> Settings:
    """The settings of ``peer call door ARGS``."""
    from peer.cli.commands.call import command

    with command.make_context("call", ["door", *args]) as context:
        return Settings.read(context.params)


def test_mp4_with_vp8_only_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"record to \.mkv or \.webm"):
        _settings("--video-codec", "vp8", "--record", "v.mp4")
    assert _settings("--video-codec", "vp8", "--record", "v.mkv").media.video_codec == ("vp8",)


@pytest.mark.parametrize(
    ("args", "audio"),
    [
        ((), "auto"),
        (("--video", "test"), "same"),
        (("--video", "clip.mkv?loop"), "same"),
        (("--video", "rtsp://cam/1"), "same"),
        (("--video", "/dev/video0"), "auto"),
        (("--video", "none"), "auto"),
        (("--video", "clip.mkv", "--audio", "auto"), "auto"),
        (("--video", "clip.mkv", "--audio", "none"), "none"),
    ],
)
def test_audio_defaults_to_that_of_the_video_source(args: tuple[str, ...], audio: str) -> None:
    assert _settings(*args).media.audio == audio


def test_recording_mp4_defaults_to_h264_only() -> None:
    assert _settings("--record", "x.mp4").media.video_codec == ("h264",)
    assert _settings("--record", "x.mkv").media.video_codec is None
    assert _settings("--record", "x.mp4", "--video-codec", "vp8,h264").media.video_codec == ("vp8", "h264")


def test_segment_needs_a_recording() -> None:
    assert _settings("--record", "x.mkv", "--segment", "90s").segment == 90
    assert _settings("--record", "x.mkv").segment is None
    with pytest.raises(click.UsageError, match="--segment needs a recording"):
        _settings("--segment", "90s")


def test_unknown_variable_is_logged_with_a_suggestion(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known = {"PEER_SERVER", "PEER_SHOW", "PEER_VIDEO_CODEC", "PEER_CONFIG", "PEER_LOG_FORMAT", "PEER_CLUSTER"}
    settings._warn_of_unknown_variables(["HOME", "PEER_SRVER", "PEER_XYZ", *known])
    assert [record.getMessage() for record in caplog.records] == [
        "environment variable PEER_SRVER is ignored: there is no such option; did you mean PEER_SERVER?",
        "environment variable PEER_XYZ is ignored: there is no such option",
    ]
