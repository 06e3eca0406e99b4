"""``peer devices``, as a process."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from peer.cli.commands.devices import command
from peer.media.sources import devices, v4l2_controls
from peer.media.sources.devices import Camera
from peer.media.sources.v4l2 import Mode
from peer.media.sources.v4l2_controls import Control
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


BRIGHTNESS = Control(1, "brightness", "int", -64, 64, 1, 0, 10)
POWER_LINE = Control(2, "power_line_frequency", "menu", 0, 2, 1, 2, 2, ((0, "Disabled"), (2, "60 Hz")))


@pytest.fixture
def two_controls(three_cameras: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def list_controls(path: str) -> list[Control]:
        if path != "/dev/video0":
            raise PermissionError(13, "Permission denied")
        return [BRIGHTNESS, POWER_LINE]

    monkeypatch.setattr(v4l2_controls, "list_controls", list_controls)


@pytest.mark.usefixtures("two_controls")
def test_devices_lists_controls_on_request() -> None:
    lines = CliRunner().invoke(command, ["--controls"]).stdout.splitlines()
    assert lines[3:5] == [
        "      brightness=10  (-64 to 64, default 0)",
        "      power_line_frequency=2  (0 (Disabled), 2 (60 Hz))",
    ]
    bodies = [json.loads(line) for line in CliRunner().invoke(command, ["--controls", "--json"]).stdout.splitlines()]
    found = [body for body in bodies if body["event"] == "control"]
    assert [(body["device"], body["name"], body["value"]) for body in found] == [
        ("/dev/video0", "brightness", 10),
        ("/dev/video0", "power_line_frequency", 2),
    ]
    assert found[1]["items"] == {"0": "Disabled", "2": "60 Hz"}
