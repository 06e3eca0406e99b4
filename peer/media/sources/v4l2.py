"""A V4L2 camera's capture modes, queried from the kernel, and the choice of one by the capture constraints.

Structures and numbers are those of linux/videodev2.h. Nothing here starts a camera, so it works while another program
uses the device.
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

from peer.media.sources.constraints import Constraints


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
_MAX_ENTRIES: Final = 256
"""Maximum entries read from one enumeration: a broken driver may never end it."""

FORMATS: Final = {
    b"YU12": "yuv420p", b"NV12": "nv12", b"YUYV": "yuyv422", b"UYVY": "uyvy422", b"YV12": "yuv420p",
    b"422P": "yuv422p", b"MJPG": "mjpeg", b"JPEG": "mjpeg", b"H264": "h264", b"GREY": "gray",
    b"RGB3": "rgb24", b"BGR3": "bgr24",
}  # fmt: skip
"""FFmpeg's ``input_format`` for each fourcc code of a format that we can decode."""

_PREFERENCE: Final = (
    "yuv420p", "nv12", "yuyv422", "uyvy422", "yuv422p", "mjpeg", "rgb24", "bgr24", "h264", "gray",
)  # fmt: skip
"""Formats by cost, cheapest first: raw takes a copy, MJPEG decoding, H.264 decoding and latency. Gray lacks color."""

MIN_FPS: Final = 15.0
"""Frame rate below which a smaller size is preferred to a lower rate, in frames per second."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One format and size of a camera, with its frame rates. A range of sizes or rates is given by its two ends."""

    format: str
    """FFmpeg's name of the format."""
    sizes: tuple[tuple[int, int], ...]
    """(width, height) of the only size, or of the smallest and the largest."""
    rates: tuple[float, ...]
    """Frames per second: all rates, or the lowest and the highest; empty if the driver does not list them."""
    any_rate: bool = False
    """Whether every rate between the two is possible."""
    step: tuple[int, int] = (1, 1)
    """Step between two sizes of a range, in pixels."""


@dataclass(frozen=True, slots=True)
class CaptureFormat:
    """The format, size and frame rate requested from a camera; ``fps`` is ``None`` for the driver's default."""

    format: str
    width: int
    height: int
    fps: float | None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the driver reports about its device."""

    name: str
    captures: bool
    modes: tuple[Mode, ...]


def query(path: str) -> Capabilities:
    """Query the device at ``path``.

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
        return Capabilities(name or path, captures, _unique_modes(device) if captures else ())
    finally:
        os.close(device)


def interrupt(path: str) -> None:
    """Wake the thread of this process that is blocked in a read of ``path``, by stopping the stream.

    FFmpeg waits in VIDIOC_DQBUF without a time-out. Only the descriptor that started the stream can stop it, so every
    descriptor of this process that refers to ``path`` is tried. Drivers built on videobuf2 then return from the read
    (uvcvideo, the Raspberry Pi's, vivid); v4l2loopback waits until it receives a frame.
    """
    real = os.path.realpath(path)
    for link in Path("/proc/self/fd").iterdir():
        try:
            if os.path.realpath(link) == real:
                fcntl.ioctl(int(link.name), _STREAMOFF, struct.pack("i", _VIDEO_CAPTURE))
        except OSError:  # closed in the meantime, or not streaming
            continue


def choose(modes: tuple[Mode, ...], constraints: Constraints) -> CaptureFormat | None:
    """Choose the best mode for ``constraints``; ``None`` if no usable mode is known.

    Criteria, most important first: at least ``MIN_FPS``, size, frame rate, format by ``_PREFERENCE``.

    H.264 is chosen only if required, or if no other format reaches size and frame rate. It allows passthrough, but
    the camera alone decides when it sends key frames, and it must be decoded for viewers of another codec.
    """
    width, height = constraints.size or (1280, 720)
    fps = constraints.fps or 30.0
    formats = ("h264",) if constraints.h264 else _PREFERENCE
    suitable = [mode for mode in modes if mode.format in formats]
    cost = partial(_cost, width=width, height=height, fps=fps)
    candidates = sorted((_fit(mode, width, height, fps) for mode in suitable), key=cost)
    others = [candidate for candidate in candidates if candidate.format != "h264"]
    if others and _reaches(others[0], width, height, fps):
        return others[0]
    return candidates[0] if candidates else None


def _reaches(candidate: CaptureFormat, width: int, height: int, fps: float) -> bool:
    return candidate.width >= width and candidate.height >= height and (candidate.fps or fps) >= fps * 0.95


def _cost(candidate: CaptureFormat, width: int, height: int, fps: float) -> tuple[float, ...]:
    rate = candidate.fps if candidate.fps is not None else fps
    covered = min(candidate.width / width, 1) * min(candidate.height / height, 1)
    excess = candidate.width * candidate.height / (width * height)
    return (
        rate < min(fps, MIN_FPS) * 0.95,
        round(1 - covered, 3),
        round(excess, 3),
        round(max(0.0, fps * 0.95 - rate)),
        _PREFERENCE.index(candidate.format),
        rate,
    )


def _fit(mode: Mode, width: int, height: int, fps: float) -> CaptureFormat:
    (low_x, low_y), (high_x, high_y) = mode.sizes[0], mode.sizes[-1]
    fit_width = low_x + (min(max(width, low_x), high_x) - low_x) // mode.step[0] * mode.step[0]
    fit_height = low_y + (min(max(height, low_y), high_y) - low_y) // mode.step[1] * mode.step[1]
    if not mode.rates:
        return CaptureFormat(mode.format, fit_width, fit_height, None)
    if mode.any_rate:
        return CaptureFormat(mode.format, fit_width, fit_height, min(max(fps, min(mode.rates)), max(mode.rates)))
    enough = [rate for rate in mode.rates if rate >= fps * 0.95]
    return CaptureFormat(mode.format, fit_width, fit_height, min(enough) if enough else max(mode.rates))


def _unique_modes(device: int) -> tuple[Mode, ...]:
    """Each mode once: YU12 and YV12 are the same format to FFmpeg."""
    return tuple(dict.fromkeys(_modes(device)))


def _modes(device: int) -> Iterator[Mode]:
    for index in range(_MAX_ENTRIES):
        answer = _query_entry(device, _ENUM_FMT, _FORMAT, index, _VIDEO_CAPTURE, 0, b"", 0, 0)
        if answer is None:
            return
        fourcc = struct.pack("I", answer[4])
        if fourcc in FORMATS:
            yield from _sizes(device, answer[4], FORMATS[fourcc])


def _sizes(device: int, fourcc: int, name: str) -> Iterator[Mode]:
    for index in range(_MAX_ENTRIES):
        answer = _query_entry(device, _ENUM_FRAMESIZES, _FRAME_SIZE, index, fourcc, 0, 0, 0, 0, 0, 0, 0)
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
    for index in range(_MAX_ENTRIES):
        answer = _query_entry(
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


def _query_entry(device: int, request: int, layout: struct.Struct, *fields: int | bytes) -> tuple[int, ...] | None:
    """Read one entry of an enumeration; ``None`` at its end, or if the driver does not support the request."""
    answer = bytearray(layout.pack(*fields))
    try:
        fcntl.ioctl(device, request, answer)
    except OSError as problem:
        if problem.errno in (errno.EINVAL, errno.ENOTTY):
            return None
        raise
    return layout.unpack(answer)
