"""Video frames in the format used inside the program: yuv420p, even width and height, stamped on the media clock."""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import Final

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import PictureType
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter

from peer.media import bitmap_font
from peer.media.frames import VIDEO_TIME_BASE, is_anamorphic

_SQUARE: Final = Fraction(1)


class _Conversion(threading.local):
    """One reformatter per thread. ``VideoFrame.reformat`` makes a new one for each frame, which takes 0.7 ms instead
    of 0.02 ms at 320x180, and 1.2 ms instead of 0.5 ms at 1280x720."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()


_conversion: Final = _Conversion()


def even_size(width: int, height: int, max_size: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return the size scaled down to ``max_size`` at the same aspect ratio, rounded down to even numbers."""
    if max_size is not None:
        scale = min(1.0, max_size[0] / width, max_size[1] / height)
        width, height = round(width * scale), round(height * scale)
    return max(2, width // 2 * 2), max(2, height // 2 * 2)


def normalize(
    frame: av.VideoFrame,
    capture_time: float,
    max_size: tuple[int, int] | None = None,
    pixel_aspect: Fraction = _SQUARE,
) -> av.VideoFrame:
    """Return ``frame`` upright, in yuv420p with square pixels, of an even size within ``max_size``, stamped with
    ``capture_time``.

    ``capture_time`` is in seconds of ``media_time()``. ``pixel_aspect`` is the width of a pixel of ``frame`` divided
    by its height.
    """
    quarter_turns = round(frame.rotation / 90) % 4
    if quarter_turns % 2 and max_size is not None:
        max_size = (max_size[1], max_size[0])
    stretched = round(frame.width * pixel_aspect) if is_anamorphic(pixel_aspect) else frame.width
    width, height = even_size(stretched, frame.height, max_size)
    # Cameras deliver full-range JPEG levels; every WebRTC decoder assumes limited range.
    # One thread, because several would take a third more processor time.
    reformat = _conversion.reformatter.reformat
    converted = reformat(frame, width, height, "yuv420p", dst_color_range="MPEG", threads=1)
    return stamp(converted, capture_time) if quarter_turns == 0 else _rotated(converted, quarter_turns, capture_time)


def stamp(frame: av.VideoFrame, capture_time: float) -> av.VideoFrame:
    """Set the capture time of ``frame`` in place, and leave its picture type to the encoder.

    Raw, MJPEG and file decoders mark frames I, B or P, and the VP8 encoder follows that: each I becomes a key frame,
    which takes twice the bitrate and 2.5 times the processor time.
    """
    frame.pict_type = PictureType.NONE
    frame.pts = round(capture_time / VIDEO_TIME_BASE)
    frame.time_base = VIDEO_TIME_BASE
    return frame


def copy(frame: av.VideoFrame, pts: int) -> av.VideoFrame:
    """Return a deep copy of ``frame``, stamped ``pts`` in ``VIDEO_TIME_BASE``.

    An encoder may modify its input (``pict_type`` is set to I to force a key frame, and stays), but the frame in a
    fan-out is shared by all readers.
    """
    other = av.VideoFrame(frame.width, frame.height, "yuv420p")
    for source, target in zip(frame.planes, other.planes, strict=True):
        _rows(target)[:] = _rows(source)
    other.pts, other.time_base = pts, VIDEO_TIME_BASE
    return other


def from_i420(planes: npt.NDArray[np.uint8], capture_time: float) -> av.VideoFrame:
    """Return a frame made of its three planes in sequence, shape (height * 3 / 2, width), with that capture time."""
    width, height = planes.shape[1], planes.shape[0] * 2 // 3
    frame = av.VideoFrame(width, height, "yuv420p")
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    for plane, data in zip(frame.planes, (planes[:height], *chroma), strict=True):
        _rows(plane)[:] = data
    return stamp(frame, capture_time)


def _rotated(frame: av.VideoFrame, quarter_turns: int, capture_time: float) -> av.VideoFrame:
    """Return ``frame`` rotated counterclockwise. Phones record sideways and note the rotation in the file."""
    size = (frame.height, frame.width) if quarter_turns % 2 else (frame.width, frame.height)
    other = av.VideoFrame(*size, "yuv420p")
    for source, target in zip(frame.planes, other.planes, strict=True):
        _rows(target)[:] = np.rot90(_rows(source), quarter_turns)
    return stamp(other, capture_time)


def _rows(plane: VideoPlane) -> npt.NDArray[np.uint8]:
    """Return a view of ``plane``, shape (height, width), without the padding at the end of each line."""
    memory: npt.NDArray[np.uint8] = np.frombuffer(plane, np.uint8)  # type: ignore[call-overload]  # a buffer it is
    return memory[: plane.height * plane.line_size].reshape(plane.height, plane.line_size)[:, : plane.width]


def card(width: int, height: int, text: str) -> av.VideoFrame:
    """Return the card: a dark frame with ``text`` in its center, sent while a source delivers nothing."""
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    luma = planes[:height]
    luma[:] = 40
    scale = max(1, width // (2 * bitmap_font.CELL_WIDTH * max(1, len(text))))
    top = max(0, (height - bitmap_font.CELL_HEIGHT * scale) // 2)
    left = max(0, (width - bitmap_font.CELL_WIDTH * scale * len(text)) // 2)
    bitmap_font.draw_text(luma, text, top=top, left=left, scale=scale, value=150)
    return from_i420(planes, 0.0)
