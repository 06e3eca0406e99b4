"""Pictures in the one shape that travels inside of the program: yuv420p, even sizes, stamped on the media clock."""

from __future__ import annotations

import threading
from typing import Final

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import PictureType
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter

from peer.media import bitmap_font
from peer.media.frames import VIDEO_TIME_BASE


class _Conversion(threading.local):
    """What ``shape`` converts with, one a capture thread. ``VideoFrame.reformat`` makes a new one for each picture:
    0.7 ms instead of 0.02 at 320x180, 1.2 instead of 0.5 at 1280x720."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()


_conversion: Final = _Conversion()


def even(width: int, height: int, wish: tuple[int, int] | None = None) -> tuple[int, int]:
    """The size at which a picture is sent: within ``wish``, its shape kept, both sides even."""
    if wish is not None:
        scale = min(1.0, wish[0] / width, wish[1] / height)
        width, height = round(width * scale), round(height * scale)
    return max(2, width // 2 * 2), max(2, height // 2 * 2)


def shape(frame: av.VideoFrame, moment: float, wish: tuple[int, int] | None = None) -> av.VideoFrame:
    """``frame`` upright, yuv420p, of an even size within ``wish``, stamped ``moment`` seconds of ``media_time()``."""
    turns = round(frame.rotation / 90) % 4
    if turns % 2 and wish is not None:
        wish = (wish[1], wish[0])
    width, height = even(frame.width, frame.height, wish)
    # Cameras send full-range JPEG levels; every WebRTC decoder takes what it gets for limited range.
    # Spread over threads it would take a third more processor time.
    convert = _conversion.reformatter.reformat
    picture = convert(frame, width, height, "yuv420p", dst_color_range="MPEG", threads=1)
    return stamp(picture, moment) if turns == 0 else _turned(picture, turns, moment)


def stamp(frame: av.VideoFrame, moment: float) -> av.VideoFrame:
    """Set the time of ``frame``, and let the encoder choose its picture type.

    Raw, MJPEG and file decoders mark pictures I, B or P and the VP8 encoder obeys: each I becomes a key frame,
    twice the bitrate and 2.5 times the CPU.
    """
    frame.pict_type = PictureType.NONE
    frame.pts = round(moment / VIDEO_TIME_BASE)
    frame.time_base = VIDEO_TIME_BASE
    return frame


def copy(frame: av.VideoFrame, pts: int) -> av.VideoFrame:
    """A picture of its own with the same content, stamped ``pts`` in ``VIDEO_TIME_BASE``.

    An encoder may write to the frame that it is given (aiortc sets ``pict_type`` to I to force a key frame and
    leaves it so), and the frame in a fan-out belongs to everybody.
    """
    other = av.VideoFrame(frame.width, frame.height, "yuv420p")
    for source, target in zip(frame.planes, other.planes, strict=True):
        _rows(target)[:] = _rows(source)
    other.pts, other.time_base = pts, VIDEO_TIME_BASE
    return other


def from_i420(planes: npt.NDArray[np.uint8], moment: float) -> av.VideoFrame:
    """A picture from its three planes one after the other, shape (height * 3 / 2, width), stamped ``moment``."""
    width, height = planes.shape[1], planes.shape[0] * 2 // 3
    frame = av.VideoFrame(width, height, "yuv420p")
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    for plane, data in zip(frame.planes, (planes[:height], *chroma), strict=True):
        _rows(plane)[:] = data
    return stamp(frame, moment)


def _turned(frame: av.VideoFrame, turns: int, moment: float) -> av.VideoFrame:
    """``frame`` turned to the left by ``turns`` quarters: phones film on their side and only note it in the file."""
    sides = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
    other = av.VideoFrame(*sides, "yuv420p")
    for source, target in zip(frame.planes, other.planes, strict=True):
        _rows(target)[:] = np.rot90(_rows(source), turns)
    return stamp(other, moment)


def _rows(plane: VideoPlane) -> npt.NDArray[np.uint8]:
    """The memory of ``plane`` itself, shape (height, width), without the padding at the end of each line."""
    memory: npt.NDArray[np.uint8] = np.frombuffer(plane, np.uint8)  # type: ignore[call-overload]  # a buffer it is
    return memory[: plane.height * plane.line_size].reshape(plane.height, plane.line_size)[:, : plane.width]


def card(width: int, height: int, text: str) -> av.VideoFrame:
    """A dark picture with ``text`` in its middle: what is sent while a source has nothing to show."""
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    luma = planes[:height]
    luma[:] = 40
    scale = max(1, width // (2 * bitmap_font.COLUMNS * max(1, len(text))))
    top = max(0, (height - bitmap_font.ROWS * scale) // 2)
    left = max(0, (width - bitmap_font.COLUMNS * scale * len(text)) // 2)
    bitmap_font.write(luma, text, top=top, left=left, scale=scale, ink=150)
    return from_i420(planes, 0.0)
