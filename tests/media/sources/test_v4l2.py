"""The choice of a camera's format, on tables as real cameras have them, and devices that are no cameras."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from peer.media.sources import v4l2
from peer.media.sources.camera import options
from peer.media.sources.constraints import Constraints
from peer.media.sources.v4l2 import CaptureFormat, Mode, choose


def _wish(width: int = 1280, height: int = 720, fps: float = 30) -> Constraints:
    return Constraints(video=True, audio=False, size=(width, height), fps=fps)


def _modes(layout: str, table: dict[tuple[int, int], tuple[float, ...]]) -> tuple[Mode, ...]:
    return tuple(Mode(layout, (size,), rates) for size, rates in table.items())


WEBCAM = _modes(
    "yuyv422",
    {
        (640, 480): (30, 25, 20, 15, 10, 5),
        (320, 240): (30, 15),
        (1280, 720): (10, 7.5, 5),
        (1920, 1080): (5,),
    },
) + _modes(
    "mjpeg",
    {(640, 480): (30,), (1280, 720): (60, 30, 25), (1920, 1080): (30, 15)},
)
"""A USB 2 webcam: raw is slow where it is large."""

RAW_ONLY = WEBCAM[:4]

PI_CAMERA = (
    Mode("yuv420p", ((32, 32), (2592, 1944)), (1.0, 90.0), any_rate=True, step=(2, 2)),
    Mode("mjpeg", ((32, 32), (2592, 1944)), (1.0, 90.0), any_rate=True, step=(2, 2)),
    Mode("h264", ((32, 32), (1920, 1080)), (1.0, 90.0), any_rate=True, step=(2, 2)),
)
"""bcm2835-v4l2: any size and rate in a range."""


def test_mjpeg_where_raw_would_be_too_slow() -> None:
    assert choose(WEBCAM, _wish()) == CaptureFormat("mjpeg", 1280, 720, 30)


def test_raw_where_it_is_fast_enough() -> None:
    assert choose(WEBCAM, _wish(640, 480)) == CaptureFormat("yuyv422", 640, 480, 30)


def test_the_slowest_rate_that_is_enough() -> None:
    assert choose(WEBCAM, _wish(640, 480, fps=12)) == CaptureFormat("yuyv422", 640, 480, 15)


def test_smaller_rather_than_a_slide_show() -> None:
    assert choose(RAW_ONLY, _wish()) == CaptureFormat("yuyv422", 640, 480, 30)


def test_the_large_size_if_a_slow_rate_is_what_is_wanted() -> None:
    assert choose(RAW_ONLY, _wish(fps=10)) == CaptureFormat("yuyv422", 1280, 720, 10)


def test_the_next_larger_size_is_scaled_down() -> None:
    assert choose(WEBCAM, _wish(1024, 576)) == CaptureFormat("mjpeg", 1280, 720, 30)


def test_the_largest_if_all_are_too_small() -> None:
    assert choose(WEBCAM, _wish(3840, 2160)) == CaptureFormat("mjpeg", 1920, 1080, 30)


def test_a_range_of_sizes_and_rates_fits_exactly() -> None:
    assert choose(PI_CAMERA, _wish(1296, 730, 24)) == CaptureFormat("yuv420p", 1296, 730, 24)


def test_a_range_is_not_left() -> None:
    assert choose(PI_CAMERA, _wish(4096, 2160, 120)) == CaptureFormat("yuv420p", 2592, 1944, 90)


def test_ntsc_rates_are_enough() -> None:
    assert choose(_modes("nv12", {(1280, 720): (29.97, 60)}), _wish()) == CaptureFormat("nv12", 1280, 720, 29.97)


def test_h264_only_when_nothing_else_has_the_size() -> None:
    both = _modes("mjpeg", {(640, 480): (30,)}) + _modes("h264", {(1280, 720): (30,), (640, 480): (30,)})
    assert choose(both, _wish()) == CaptureFormat("h264", 1280, 720, 30)
    assert choose(both, _wish(640, 480)) == CaptureFormat("mjpeg", 640, 480, 30)


def test_h264_is_not_taken_where_mjpeg_only_has_to_be_made_smaller() -> None:
    both = _modes("mjpeg", {(1920, 1080): (30,)}) + _modes("h264", {(1280, 720): (30,)})
    assert choose(both, _wish()) == CaptureFormat("mjpeg", 1920, 1080, 30)
    assert choose(both, _wish(fps=60)) == CaptureFormat("h264", 1280, 720, 30)


def test_h264_and_nothing_else_where_it_is_asked_for() -> None:
    wish = Constraints(video=True, audio=False, size=(1280, 720), fps=30, h264=True)
    assert choose(PI_CAMERA, wish) == CaptureFormat("h264", 1280, 720, 30)
    assert choose(WEBCAM, wish) is None


def test_a_driver_that_does_not_say_its_rates() -> None:
    choice = choose(_modes("yuyv422", {(640, 480): ()}), _wish())
    assert choice == CaptureFormat("yuyv422", 640, 480, None)
    assert options(choice) == {"input_format": "yuyv422", "video_size": "640x480"}


def test_a_driver_that_says_nothing_comes_up_as_it_was_left() -> None:
    assert choose((), _wish()) is None
    assert options(None) == {}


def test_the_rate_is_asked_for() -> None:
    assert options(CaptureFormat("mjpeg", 1280, 720, 29.97))["framerate"] == "29.97"


def test_the_requests_are_those_of_the_kernel() -> None:
    """Against linux/videodev2.h as every 64-bit and 32-bit machine compiles it."""
    assert v4l2._QUERYCAP == 0x80685600
    assert v4l2._ENUM_FMT == 0xC0405602
    assert v4l2._STREAMOFF == 0x40045613
    assert v4l2._ENUM_FRAMESIZES == 0xC02C564A
    assert v4l2._ENUM_FRAMEINTERVALS == 0xC034564B


class Driver:
    """A driver that answers as the kernel would; offsets are those that a C compiler gives for linux/videodev2.h."""

    def __init__(self, caps: int = 0x84200001, own: int = 0x04200001) -> None:
        self.caps, self.own = caps, own

    def ioctl(self, device: int, request: int, answer: bytearray) -> int:
        index, fourcc = struct.unpack_from("I4s", answer)
        match request:
            case 0x80685600:  # VIDIOC_QUERYCAP
                answer[16:28] = b"HD Webcam\0\0\0"
                struct.pack_into("II", answer, 84, self.caps, self.own)
            case 0xC0405602:  # VIDIOC_ENUM_FMT
                self._end(index, 3)
                answer[44:48] = (b"YUYV", b"PINK", b"MJPG")[index]
            case 0xC02C564A if fourcc == b"YUYV":  # VIDIOC_ENUM_FRAMESIZES
                self._end(index, 2)
                struct.pack_into("III", answer, 8, 1, *((640, 480), (1280, 720))[index])
            case 0xC02C564A:
                self._end(index, 1)
                struct.pack_into("7I", answer, 8, 3, 32, 1920, 2, 16, 1080, 4)
            case 0xC034564B if fourcc == b"YUYV":  # VIDIOC_ENUM_FRAMEINTERVALS
                self._end(index, 2 if struct.unpack_from("II", answer, 8) == (640, 480) else 1)
                struct.pack_into("III", answer, 16, 1, *((1001, 30_000), (1, 15))[index])
            case 0xC034564B:
                self._end(index, 1)
                struct.pack_into("7I", answer, 16, 2, 1, 60, 1, 1, 1, 1)
        return 0

    @staticmethod
    def _end(index: int, count: int) -> None:
        if index >= count:
            raise OSError(errno.EINVAL, "Invalid argument")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(v4l2.fcntl, "ioctl", Driver().ioctl)
    (tmp_path / "video0").touch()
    return str(tmp_path / "video0")


def test_what_a_driver_answers_is_understood(node: str) -> None:
    assert v4l2.query(node) == v4l2.Capabilities(
        "HD Webcam",
        True,
        (
            Mode("yuyv422", ((640, 480),), (15.0, 29.97)),
            Mode("yuyv422", ((1280, 720),), (29.97,)),
            Mode("mjpeg", ((32, 16), (1920, 1080)), (1.0, 60.0), any_rate=True, step=(2, 4)),
        ),
    )


def test_a_node_beside_the_camera_does_not_capture(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A UVC camera has a second node for metadata; the capabilities of the whole device say capture all the same."""
    monkeypatch.setattr(v4l2.fcntl, "ioctl", Driver(own=0x04A00000).ioctl)
    assert v4l2.query(node) == v4l2.Capabilities("HD Webcam", False, ())


def test_an_old_driver_has_no_capabilities_of_the_node(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v4l2.fcntl, "ioctl", Driver(caps=0x04000001, own=0).ioctl)
    assert v4l2.query(node).captures


@pytest.mark.parametrize(("path", "number"), [("/dev/null", errno.ENOTTY), ("/dev/video-nowhere", errno.ENOENT)])
def test_what_is_no_camera_says_why(path: str, number: int) -> None:
    with pytest.raises(OSError) as caught:
        v4l2.query(path)
    assert caught.value.errno == number


def test_a_query_leaves_no_descriptor_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(OSError):
            v4l2.query("/dev/null")
    assert len(os.listdir("/proc/self/fd")) == before


def test_interrupting_a_file_that_is_no_camera_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("w") as file:
        v4l2.interrupt(str(path))
        file.write("still open")
