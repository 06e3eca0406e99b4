"""Controls of a camera: listed, and set at each opening, with a driver that answers like the kernel."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest

from peer.media.sources import v4l2_controls
from peer.media.sources.v4l2_controls import CameraControls, Control, list_controls

BRIGHTNESS, AUTO, EXPOSURE, POWER_LINE = 0x980900, 0x9A0901, 0x9A0902, 0x980918


class Driver:
    """A webcam. Offsets are those that a C compiler assigns for linux/videodev2.h. Exposure needs manual mode."""

    def __init__(self) -> None:
        self.values = {BRIGHTNESS: 0, POWER_LINE: 2, AUTO: 1, EXPOSURE: 156}
        self.controls = (  # id, type, name, minimum, maximum, step, default, flags
            (0x980001, 6, b"User Controls", 0, 0, 0, 0, 4),
            (BRIGHTNESS, 1, b"Brightness", -64, 64, 1, 0, 0),
            (0x980909, 1, b"Gain", 0, 9, 1, 0, 1),  # disabled
            (POWER_LINE, 3, b"Power Line Frequency", 0, 2, 1, 1, 0),
            (AUTO, 2, b"Exposure, Auto", 0, 1, 1, 1, 0),
            (EXPOSURE, 1, b"Exposure Time, Absolute", 1, 5000, 1, 157, 0x10),
        )

    def ioctl(self, device: int, request: int, answer: bytearray) -> int:
        number, second = struct.unpack_from("Ii", answer)
        match request:
            case 0xC0445624:  # VIDIOC_QUERYCTRL
                following = [control for control in sorted(self.controls) if control[0] > number & 0x7FFFFFFF]
                if not following:
                    raise OSError(errno.EINVAL, "Invalid argument")
                struct.pack_into("II32siiiiI", answer, 0, *following[0])
            case 0xC02C5625:  # VIDIOC_QUERYMENU
                if second == 1:
                    raise OSError(errno.EINVAL, "Invalid argument")
                answer[8:40] = {0: b"Disabled", 2: b"60 Hz"}[second].ljust(32, b"\0")
            case 0xC008561B:  # VIDIOC_G_CTRL
                struct.pack_into("i", answer, 4, self.values[number])
            case 0xC008561C:  # VIDIOC_S_CTRL
                if number == EXPOSURE and self.values[AUTO]:
                    raise OSError(errno.EACCES, "Permission denied")
                self.values[number] = second
            case _:
                raise AssertionError(hex(request))
        return 0


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    driver = Driver()
    monkeypatch.setattr(v4l2_controls.fcntl, "ioctl", driver.ioctl)
    return driver


@pytest.fixture
def node(tmp_path: Path, driver: Driver) -> str:
    (tmp_path / "video0").touch()
    return str(tmp_path / "video0")


def test_list_controls_parses_the_driver_answers(node: str) -> None:
    assert list_controls(node) == [
        Control(BRIGHTNESS, "brightness", "int", -64, 64, 1, 0, 0),
        Control(POWER_LINE, "power_line_frequency", "menu", 0, 2, 1, 1, 2, ((0, "Disabled"), (2, "60 Hz"))),
        Control(AUTO, "exposure_auto", "bool", 0, 1, 1, 1, 1),
        Control(EXPOSURE, "exposure_time_absolute", "int", 1, 5000, 1, 157, 156),
    ]


def test_apply_sets_all_in_any_order(node: str, driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    wanted = [
        ("exposure_time_absolute", "200"),
        ("exposure_auto", "off"),
        ("brightness", "-5"),
        ("power_line_frequency", "disabled"),
    ]
    CameraControls(wanted).apply(node)
    assert driver.values == {BRIGHTNESS: -5, POWER_LINE: 0, AUTO: 0, EXPOSURE: 200}
    assert caplog.messages == []


def test_apply_logs_what_the_camera_lacks_once(node: str, driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    controls = CameraControls(
        [("brigthness", "5"), ("brightness", "65"), ("power_line_frequency", "1"), ("exposure_time_absolute", "9")]
    )
    for _ in range(2):
        controls.apply(node)
    assert driver.values == Driver().values
    assert caplog.messages == [
        f"{node}: it has no control brigthness; `peer devices --controls` lists them",
        f"{node}: brightness cannot be 65; try -64 to 64",
        f"{node}: power_line_frequency cannot be 1; try 0 (Disabled), 2 (60 Hz)",
        f"{node}: it does not accept the value of exposure_time_absolute now",
    ]


def test_apply_to_a_camera_that_is_gone_does_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    CameraControls([("brightness", "5")]).apply(str(tmp_path / "nowhere"))
    assert caplog.messages == []


@pytest.mark.parametrize("text", ["", "0x5", "5.0", "9" * 5000, "5\n", "five"])
def test_parse_value_of_no_control_raises(text: str) -> None:
    with pytest.raises(ValueError, match="try -64 to 64"):
        Control(BRIGHTNESS, "brightness", "int", -64, 64, 1, 0, 0).parse(text)
