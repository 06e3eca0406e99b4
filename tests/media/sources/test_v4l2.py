"""The chosen of a camera's capture format, with the modes of real cameras; queries of V4L2 devices."""

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


def _constraints(width: int = 1280, height: int = 720, fps: float = 30) -> Constraints:
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
"""A USB 2 webcam: raw formats are slow at large sizes."""

RAW_ONLY = WEBCAM[:4]

PI_CAMERA = (
    Mode("yuv420p", ((32, 32), (2592, 1944)), (1.0, 90.0), any_rate=True, step=(2, 2)),
    Mode("mjpeg", ((32, 32), (2592, 1944)), (1.0, 90.0), any_rate=True, step=(2, 2)),
    Mode("h264", ((32, 32), (1920, 1080)), (1.0, 90.0), any_rate=True, step=(2, 2)),
)
"""bcm2835-v4l2: ranges of sizes and rates."""


def test_choose_mjpeg_if_raw_is_too_slow() -> None:
    assert choose(WEBCAM, _constraints()) == CaptureFormat("mjpeg", 1280, 720, 30)


def test_choose_raw_if_fast_enough() -> None:
    assert choose(WEBCAM, _constraints(640, 480)) == CaptureFormat("yuyv422", 640, 480, 30)


def test_choose_lowest_sufficient_rate() -> None:
    assert choose(WEBCAM, _constraints(640, 480, fps=12)) == CaptureFormat("yuyv422", 640, 480, 15)


def test_choose_smaller_size_over_very_low_rate() -> None:
    assert choose(RAW_ONLY, _constraints()) == CaptureFormat("yuyv422", 640, 480, 30)


def test_choose_large_size_if_low_rate_is_requested() -> None:
    assert choose(RAW_ONLY, _constraints(fps=10)) == CaptureFormat("yuyv422", 1280, 720, 10)


def test_choose_next_larger_size() -> None:
    assert choose(WEBCAM, _constraints(1024, 576)) == CaptureFormat("mjpeg", 1280, 720, 30)


def test_choose_largest_size_if_all_are_too_small() -> None:
    assert choose(WEBCAM, _constraints(3840, 2160)) == CaptureFormat("mjpeg", 1920, 1080, 30)


def test_choose_exact_size_and_rate_from_a_range() -> None:
    assert choose(PI_CAMERA, _constraints(1296, 730, 24)) == CaptureFormat("yuv420p", 1296, 730, 24)


def test_choose_stays_within_a_range() -> None:
    assert choose(PI_CAMERA, _constraints(4096, 2160, 120)) == CaptureFormat("yuv420p", 2592, 1944, 90)


def test_choose_accepts_ntsc_rate() -> None:
    assert choose(_modes("nv12", {(1280, 720): (29.97, 60)}), _constraints()) == CaptureFormat(
        "nv12", 1280, 720, 29.97
    )


def test_choose_h264_only_if_no_other_format_has_the_size() -> None:
    both = _modes("mjpeg", {(640, 480): (30,)}) + _modes("h264", {(1280, 720): (30,), (640, 480): (30,)})
    assert choose(both, _constraints()) == CaptureFormat("h264", 1280, 720, 30)
    assert choose(both, _constraints(640, 480)) == CaptureFormat("mjpeg", 640, 480, 30)


def test_choose_larger_mjpeg_over_exact_h264() -> None:
    both = _modes("mjpeg", {(1920, 1080): (30,)}) + _modes("h264", {(1280, 720): (30,)})
    assert choose(both, _constraints()) == CaptureFormat("mjpeg", 1920, 1080, 30)
    assert choose(both, _constraints(fps=60)) == CaptureFormat("h264", 1280, 720, 30)


def test_choose_h264_only_if_required() -> None:
    constraints = Constraints(video=True, audio=False, size=(1280, 720), fps=30, h264=True)
    assert choose(PI_CAMERA, constraints) == CaptureFormat("h264", 1280, 720, 30)
    assert choose(WEBCAM, constraints) is None


def test_choose_without_rates_leaves_rate_to_the_driver() -> None:
    chosen = choose(_modes("yuyv422", {(640, 480): ()}), _constraints())
    assert chosen == CaptureFormat("yuyv422", 640, 480, None)
    assert options(chosen) == {"input_format": "yuyv422", "video_size": "640x480"}


def test_choose_without_modes_sets_no_format() -> None:
    assert choose((), _constraints()) is None
    assert options(None) == {}


def test_options_include_the_frame_rate() -> None:
    assert options(CaptureFormat("mjpeg", 1280, 720, 29.97))["framerate"] == "29.97"


def test_ioctl_numbers_match_the_kernel() -> None:
    """Values of linux/videodev2.h, equal on 32-bit and 64-bit machines."""
    assert v4l2._QUERYCAP == 0x80685600
    assert v4l2._ENUM_FMT == 0xC0405602
    assert v4l2._STREAMOFF == 0x40045613
    assert v4l2._ENUM_FRAMESIZES == 0xC02C564A
    assert v4l2._ENUM_FRAMEINTERVALS == 0xC034564B


class Driver:
    """A driver that answers like the kernel. Offsets are those that a C compiler assigns for linux/videodev2.h."""

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


def test_query_parses_the_driver_answers(node: str) -> None:
    assert v4l2.query(node) == v4l2.Capabilities(
        "HD Webcam",
        True,
        (
            Mode("yuyv422", ((640, 480),), (15.0, 29.97)),
            Mode("yuyv422", ((1280, 720),), (29.97,)),
            Mode("mjpeg", ((32, 16), (1920, 1080)), (1.0, 60.0), any_rate=True, step=(2, 4)),
        ),
    )


def test_query_metadata_node_does_not_capture(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A UVC camera has a second node, for metadata, but the capabilities of the whole device include capture."""
    monkeypatch.setattr(v4l2.fcntl, "ioctl", Driver(own=0x04A00000).ioctl)
    assert v4l2.query(node) == v4l2.Capabilities("HD Webcam", False, ())


def test_query_old_driver_without_device_caps(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v4l2.fcntl, "ioctl", Driver(caps=0x04000001, own=0).ioctl)
    assert v4l2.query(node).captures


@pytest.mark.parametrize(("path", "number"), [("/dev/null", errno.ENOTTY), ("/dev/video-nowhere", errno.ENOENT)])
def test_query_of_no_camera_raises_its_errno(path: str, number: int) -> None:
    with pytest.raises(OSError) as caught:
        v4l2.query(path)
    assert caught.value.errno == number


def test_query_closes_its_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(OSError):
            v4l2.query("/dev/null")
    assert len(os.listdir("/proc/self/fd")) == before


def test_interrupt_ignores_a_file_that_is_no_camera(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("w") as file:
        v4l2.interrupt(str(path))
        file.write("still open")
