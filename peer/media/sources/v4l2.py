"""What a V4L2 camera can do, asked of the kernel, and which of it suits a wish best.

Structures and numbers: linux/videodev2.h. Nothing here starts a camera; one may ask while another program uses it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from peer.media.sources.constraints import Wish


def _request(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | ord("V") << 8 | number


_READ, _WRITE = 2, 1
_CAPABILITY: Final = struct.Struct("16s32s32sIII12x")
_FORMAT: Final = struct.Struct("III32sII12x")
_FRAME_SIZE: Final = struct.Struct("III6I8x")
_FRAME_INTERVAL: Final = struct.Struct("IIIII6I8x")
_QUERYCAP: Final = _request(_READ, 0, _CAPABILITY.size)
_ENUM_FMT: Final = _request(_READ | _WRITE, 2, _FORMAT.size)
_STREAMOFF: Final = _request(_WRITE, 19, 4)
_ENUM_FRAMESIZES: Final = _request(_READ | _WRITE, 74, _FRAME_SIZE.size)
_ENUM_FRAMEINTERVALS: Final = _request(_READ | _WRITE, 75, _FRAME_INTERVAL.size)

_VIDEO_CAPTURE: Final = 1
_DEVICE_CAPS: Final = 1 << 31
_DISCRETE: Final = 1
_ENTRIES: Final = 256
"""Answers of one kind that we read from a driver before we stop believing it."""

FORMATS: Final = {
    b"YU12": "yuv420p", b"NV12": "nv12", b"YUYV": "yuyv422", b"UYVY": "uyvy422", b"YV12": "yuv420p",
    b"422P": "yuv422p", b"MJPG": "mjpeg", b"JPEG": "mjpeg", b"H264": "h264", b"GREY": "gray",
    b"RGB3": "rgb24", b"BGR3": "bgr24",
}  # fmt: skip
"""The kernel's fourcc and FFmpeg's ``input_format``, for what we can decode."""

_PREFERENCE: Final = (
    "yuv420p", "nv12", "yuyv422", "uyvy422", "yuv422p", "mjpeg", "rgb24", "bgr24", "h264", "gray",
)  # fmt: skip
"""Least work and loss first: raw costs a copy, MJPEG a decoding, H.264 that and its latency; grey lacks colour."""

SMOOTH: Final = 15.0
"""Pictures a second below which a smaller picture is better than a slower one."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One format and size of a camera, and its rates. A range of sizes or rates shows as its two ends."""

    format: str
    """FFmpeg's name of it."""
    sizes: tuple[tuple[int, int], ...]
    """(width, height): the one size, or smallest and largest."""
    rates: tuple[float, ...]
    """Pictures a second: all there are, or slowest and fastest; empty if the driver does not say."""
    any_rate: bool = False
    """Whether everything between the rates is possible too."""
    step: tuple[int, int] = (1, 1)
    """Pixels between two sizes of a range."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a camera is asked for."""

    format: str
    width: int
    height: int
    fps: float | None


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the driver says of its device."""

    name: str
    captures: bool
    modes: tuple[Mode, ...]


def query(path: str) -> Abilities:
    """Ask the device at ``path``.

    Raises:
        OSError: ENOENT, EACCES, ENOTTY (not a V4L2 device) and so on.
    """
    device = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        answer = bytearray(_CAPABILITY.size)
        fcntl.ioctl(device, _QUERYCAP, answer)
        _, card, _, _, all_caps, own_caps = _CAPABILITY.unpack(answer)
        caps = own_caps if all_caps & _DEVICE_CAPS else all_caps
        captures = bool(caps & _VIDEO_CAPTURE)
        name = card.split(b"\0")[0].decode(errors="replace").strip()
        return Abilities(name or path, captures, _known(device) if captures else ())
    finally:
        os.close(device)


def interrupt(path: str) -> None:
    """Wake whoever of this process sits in a read of ``path``, by ending its streaming.

    FFmpeg waits in VIDIOC_DQBUF without a time-out; a second descriptor could not end that, the first one can.
    Drivers on videobuf2 obey (uvcvideo, the Pi's, vivid); v4l2loopback waits on, until it gets a picture.
    """
    real = os.path.realpath(path)
    for link in Path("/proc/self/fd").iterdir():
        try:
            if os.path.realpath(link) == real:
                fcntl.ioctl(int(link.name), _STREAMOFF, struct.pack("i", _VIDEO_CAPTURE))
        except OSError:  # closed meanwhile, or not streaming: it is awake
            continue


def choose(modes: tuple[Mode, ...], wish: Wish) -> Choice | None:
    """The mode that suits ``wish`` best: smooth first, then size, rate, least work. ``None`` if none is known.

    H.264 is taken where nothing else has the size and the rate, or where it is asked for: it can be passed on as it
    is, but its key frames come when the camera pleases, and viewers of another codec cost its decoding.
    """
    width, height = wish.size or (1280, 720)
    fps = wish.fps or 30.0
    suitable = [mode for mode in modes if mode.format in _PREFERENCE and (mode.format == "h264" or not wish.h264)]
    cost = partial(_cost, width=width, height=height, fps=fps)
    choices = sorted((_fit(mode, width, height, fps) for mode in suitable), key=cost)
    others = [choice for choice in choices if choice.format != "h264"]
    if others and _reaches(others[0], width, height, fps):
        return others[0]
    return choices[0] if choices else None


def _reaches(choice: Choice, width: int, height: int, fps: float) -> bool:
    return choice.width >= width and choice.height >= height and (choice.fps or fps) >= fps * 0.95


def _cost(choice: Choice, width: int, height: int, fps: float) -> tuple[float, ...]:
    rate = choice.fps if choice.fps is not None else fps
    covered = min(choice.width / width, 1) * min(choice.height / height, 1)
    excess = choice.width * choice.height / (width * height)
    return (
        rate < min(fps, SMOOTH) * 0.95,
        round(1 - covered, 3),
        round(excess, 3),
        round(max(0.0, fps * 0.95 - rate)),
        _PREFERENCE.index(choice.format),
        rate,
    )


def _fit(mode: Mode, width: int, height: int, fps: float) -> Choice:
    (low_x, low_y), (high_x, high_y) = mode.sizes[0], mode.sizes[-1]
    wide = low_x + (min(max(width, low_x), high_x) - low_x) // mode.step[0] * mode.step[0]
    high = low_y + (min(max(height, low_y), high_y) - low_y) // mode.step[1] * mode.step[1]
    if not mode.rates:
        return Choice(mode.format, wide, high, None)
    if mode.any_rate:
        return Choice(mode.format, wide, high, min(max(fps, min(mode.rates)), max(mode.rates)))
    enough = [rate for rate in mode.rates if rate >= fps * 0.95]
    return Choice(mode.format, wide, high, min(enough) if enough else max(mode.rates))


def _known(device: int) -> tuple[Mode, ...]:
    """Each mode once: YU12 and YV12 are one to FFmpeg."""
    return tuple(dict.fromkeys(_modes(device)))


def _modes(device: int) -> Iterator[Mode]:
    for index in range(_ENTRIES):
        answer = _ask(device, _ENUM_FMT, _FORMAT, index, _VIDEO_CAPTURE, 0, b"", 0, 0)
        if answer is None:
            return
        fourcc = struct.pack("I", answer[4])
        if fourcc in FORMATS:
            yield from _sizes(device, answer[4], FORMATS[fourcc])


def _sizes(device: int, fourcc: int, name: str) -> Iterator[Mode]:
    for index in range(_ENTRIES):
        answer = _ask(device, _ENUM_FRAMESIZES, _FRAME_SIZE, index, fourcc, 0, 0, 0, 0, 0, 0, 0)
        if answer is None:
            return
        if answer[2] == _DISCRETE:
            width, height = answer[3:5]
            rates, any_rate = _rates(device, fourcc, width, height)
            yield Mode(name, ((width, height),), rates, any_rate)
        else:
            low_x, high_x, step_x, low_y, high_y, step_y = answer[3:9]
            rates, any_rate = _rates(device, fourcc, high_x, high_y)
            yield Mode(name, ((low_x, low_y), (high_x, high_y)), rates, any_rate, (max(1, step_x), max(1, step_y)))
            return


def _rates(device: int, fourcc: int, width: int, height: int) -> tuple[tuple[float, ...], bool]:
    rates: list[float] = []
    for index in range(_ENTRIES):
        answer = _ask(
            device, _ENUM_FRAMEINTERVALS, _FRAME_INTERVAL, index, fourcc, width, height, 0, 0, 0, 0, 0, 0, 0
        )
        if answer is None:
            break
        if answer[4] != _DISCRETE:
            shortest, longest = answer[5:7], answer[7:9]
            return (_rate(*longest), _rate(*shortest)), True
        rates.append(_rate(*answer[5:7]))
    return tuple(sorted(set(rates))), False


def _rate(numerator: int, denominator: int) -> float:
    return round(denominator / numerator, 3) if numerator else 0.0


def _ask(device: int, request: int, layout: struct.Struct, *fields: int | bytes) -> tuple[int, ...] | None:
    """One answer of an enumeration; ``None`` at its end, or from a driver that does not know the question."""
    answer = bytearray(layout.pack(*fields))
    try:
        fcntl.ioctl(device, request, answer)
    except OSError as problem:
        if problem.errno in (errno.EINVAL, errno.ENOTTY):
            return None
        raise
    return layout.unpack(answer)
