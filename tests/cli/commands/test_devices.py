"""``peer devices``, as a process."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from peer.cli.commands.devices import command
from peer.media.sources import devices
from peer.media.sources.devices import Camera
from peer.media.sources.v4l2 import Mode
from tests.cli.program import Program


def test_devices_lists_each_kind_or_none() -> None:
    with Program("devices") as program:
        assert program.wait() == 0
    for title in ("Cameras (--video)", "Microphones (--audio)", "Speakers (--speaker)"):
        assert program.text[program.text.index(title) + 1].startswith("  ")
    with Program("devices", "--json") as program:
        assert program.wait() == 0
    assert program.text == []
    assert {body["event"] for body in program.events} <= {"device"}


CAMERAS = [
    Camera("/dev/video0", "Webcam", (Mode("mjpeg", ((640, 480),), (30.0,)),), "/dev/v4l/by-id/usb-Webcam-A", "A"),
    Camera("/dev/video2", "HD Camera", (), "HD Camera", problem="Permission denied"),
    Camera("/dev/video4", "Loopback", (), "/dev/video4"),
]


@pytest.fixture
def three_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "list_cameras", lambda: CAMERAS)


@pytest.mark.usefixtures("three_cameras")
def test_devices_prints_the_stable_form_first() -> None:
    lines = CliRunner().invoke(command, []).stdout.splitlines()
    assert lines[1:5] == [
        "  /dev/v4l/by-id/usb-Webcam-A  Webcam (/dev/video0, serial number A)",
        "      mjpeg: 640x480 at 30",
        "  'HD Camera'  HD Camera (/dev/video2, Permission denied)",
        "  /dev/video4  Loopback",
    ]


@pytest.mark.usefixtures("three_cameras")
def test_devices_as_json_has_path_stable_form_and_serial() -> None:
    bodies = [json.loads(line) for line in CliRunner().invoke(command, ["--json"]).stdout.splitlines()]
    cameras = [body for body in bodies if body["kind"] == "camera"]
    assert [(body["device"], body["stable"], body.get("serial")) for body in cameras] == [
        ("/dev/video0", "/dev/v4l/by-id/usb-Webcam-A", "A"),
        ("/dev/video2", "HD Camera", None),
        ("/dev/video4", "/dev/video4", None),
    ]
