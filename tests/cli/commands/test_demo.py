"""``peer demo``, as a process."""

from __future__ import annotations

from itertools import islice

from peer.cli.commands.demo import _describe, _status_times
from tests.cli.program import Program


def test_demo_without_media_exits_with_2() -> None:
    with Program("demo", "--video", "none", "--audio", "none") as program:
        assert program.wait() == 2
        assert "leave no media to send" in program.errors


def test_demo_receives_pattern_and_tone() -> None:
    with Program("demo", "--duration", "3s", "--json", "--no-show", "--size", "320x240") as program:
        assert program.wait(40) == 0, program.errors
    result = program.events[-1]
    assert result["event"] == "demo"
    assert result["ok"] is True
    assert result["pictures"] > 20
    assert abs(result["tone_hz"] - 440) <= 5
    assert result["latency_ms"] < 1000
    assert {"connected", "first-frame"} <= set(program.names())


def test_demo_without_video_fails() -> None:
    with Program("demo", "--duration", "1s", "--no-show", "--video", "none") as program:
        assert program.wait(40) == 1
        assert "Traceback" not in program.errors


def test_status_times_are_every_second_and_the_end() -> None:
    assert list(_status_times(3)) == [1, 2, 3]
    assert list(_status_times(2.5)) == [1, 2, 2.5]
    assert list(_status_times(0.5)) == [0.5]
    assert list(islice(_status_times(None), 3)) == [1, 2, 3]


def test_demo_does_not_print_the_camera_password() -> None:
    camera = "rtsp://user:secret@cam/1"
    for video, audio in ((camera, "none"), (camera, camera), ("none", camera)):
        assert "secret" not in _describe(video, audio)
        assert "cam/1" in _describe(video, audio)
