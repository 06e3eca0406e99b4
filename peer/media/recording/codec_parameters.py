"""What a container has to know of a picture before its first packet, read from the packet. PURE but for a decoder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import av
from av.video.codeccontext import VideoCodecContext

from ..frames import MAX_PIXELS, EncodedFrame

_NAL_UNIT: Final = re.compile(rb"\x00\x00\x01(.)", re.DOTALL)
_SLICES: Final = frozenset({1, 2, 3, 4, 5})
_SPS, _PPS = 7, 8


@dataclass(frozen=True, slots=True)
class VideoHead:
    """The begin of a video track. Sizes in pixels."""

    codec: str
    width: int
    height: int
    parameters: bytes = b""
    """The sequence parameter sets of H.264, which an MP4 has in its header, once."""


def read_head(frame: EncodedFrame) -> VideoHead | None:
    """The head of a track that begins with ``frame``, or ``None`` if none can begin there.

    The decoder itself says the size: one picture costs some 10 ms, once a file.
    """
    if not frame.key:
        return None
    if frame.codec == "h264" and not {_SPS, _PPS} <= _units(frame.data):
        return None
    decoder = av.CodecContext.create(frame.codec, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    decoder.options = {"max_pixels": str(MAX_PIXELS)}
    try:
        pictures = [*decoder.decode(av.Packet(frame.data)), *decoder.decode(None)]
    except av.FFmpegError:
        return None
    if not pictures:
        return None
    return VideoHead(frame.codec, pictures[0].width, pictures[0].height, parameters(frame))


def parameters(frame: EncodedFrame) -> bytes:
    """The sequence parameter sets in an H.264 access unit; of other codecs nothing."""
    if frame.codec != "h264":
        return b""
    starts = [*(match.start() for match in _NAL_UNIT.finditer(frame.data)), len(frame.data)]
    units = (frame.data[begin:end].rstrip(b"\x00") for begin, end in pairwise(starts))
    return b"".join(unit for unit in units if unit[3] & 0x1F == _SPS)


def is_media(frame: EncodedFrame) -> bool:
    """Whether ``frame`` could be what it says. An H.264 packet without a slice makes an MP4 unreadable."""
    return not _units(frame.data).isdisjoint(_SLICES) if frame.codec == "h264" else bool(frame.data)


def _units(data: bytes) -> set[int]:
    """The NAL unit types in an access unit (H.264 7.4.1)."""
    return {match[0] & 0x1F for match in _NAL_UNIT.findall(data)}
