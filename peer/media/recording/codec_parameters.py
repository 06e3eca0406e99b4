"""Codec parameters of a video track, which a container needs before the first packet, read from a key frame.

Pure, except that a decoder determines the size.
"""

from __future__ import annotations

from dataclasses import dataclass

import av
from av.video.codeccontext import VideoCodecContext

from ...codecs.h264 import IDR, PPS, SLICE, SPS, nal_units
from ..frames import MAX_PIXELS, EncodedFrame

_START_CODE = b"\0\0\1"


@dataclass(frozen=True, slots=True)
class VideoParameters:
    """Parameters of a video track. Sizes in pixels."""

    codec: str
    """FFmpeg's name of the codec."""
    width: int
    height: int
    parameter_sets: bytes = b""
    """The SPS units of H.264, which an MP4 file holds once, in its header."""


def read_video_parameters(frame: EncodedFrame) -> VideoParameters | None:
    """Return the parameters of a track that starts with ``frame``, or ``None`` if a track cannot start with it.

    The frame is decoded to find its size. That takes about 10 ms, once per file.
    """
    if not frame.key:
        return None
    if frame.codec == "h264" and not {SPS, PPS} <= {unit[0] & 31 for unit in nal_units(frame.data)}:
        return None
    decoder = av.CodecContext.create(frame.codec, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    decoder.options = {"max_pixels": str(MAX_PIXELS)}
    try:
        decoded = [*decoder.decode(av.Packet(frame.data)), *decoder.decode(None)]
    except av.FFmpegError:
        return None
    if not decoded:
        return None
    return VideoParameters(frame.codec, decoded[0].width, decoded[0].height, sequence_parameter_sets(frame))


def sequence_parameter_sets(frame: EncodedFrame) -> bytes:
    """Return the SPS units of an H.264 access unit, with start codes; nothing for other codecs."""
    if frame.codec != "h264":
        return b""
    return b"".join(_START_CODE + unit for unit in nal_units(frame.data) if unit[0] & 31 == SPS)


def is_media(frame: EncodedFrame) -> bool:
    """Whether ``frame`` has any media in it. An H.264 packet without a slice makes an MP4 file unreadable."""
    if frame.codec != "h264":
        return bool(frame.data)
    return any(SLICE <= unit[0] & 31 <= IDR for unit in nal_units(frame.data))
