"""Conversion of a container's H.264 packets to encoded frames for passthrough, stamped on the media clock."""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction
from itertools import islice, pairwise
from typing import Any, Final, Literal

import av
from av.container import InputContainer

from peer.codecs.h264 import AnnexBConverter
from peer.media.frames import VIDEO_TIME_BASE, EncodedFrame
from peer.media.sources.passthrough import StreamInfo

_MAX_PACKETS_TO_FIRST_FRAME: Final = 100
"""Maximum packets read from a file to find its first decodable frame."""


def open_file(path: str) -> InputContainer:
    """Open a file to read it. Its name may have a colon, which FFmpeg would read as the end of a protocol's name.

    Raises:
        OSError, av.error.FFmpegError: the file cannot be opened.
    """
    return av.open(f"file:{path}")


def best_stream(container: InputContainer, kind: Literal["video", "audio"]) -> Any:
    """Return the stream that a player would choose: the default one, rather than the first; ``None`` without any."""
    return container.streams.best(kind)


def stream_info(stream: Any) -> StreamInfo:
    """Return the information about ``stream`` in the container's header. No packet is read."""
    extradata = bytes(stream.codec_context.extradata or b"")
    return StreamInfo(stream.codec_context.name, extradata, pixel_aspect=PixelAspect(stream).current)


class PixelAspect:
    """The pixel aspect ratio of one video stream. A container's ratio overrides that of its codec, unless the latter
    changes within the stream, as when television switches between 4:3 and 16:9."""

    def __init__(self, stream: Any) -> None:
        self._codec = stream.codec_context
        self._first = self._codec.sample_aspect_ratio
        self._container = stream.sample_aspect_ratio

    @property
    def current(self) -> Fraction:
        """Width of a pixel divided by its height, for the frame decoded last."""
        decoded = self._codec.sample_aspect_ratio
        changed = bool(self._first) and decoded != self._first
        return (decoded if changed else self._container or decoded) or Fraction(1)


def inspect(container: InputContainer) -> StreamInfo:
    """Return the information about a file's video. For H.264, one frame is decoded, because only that shows the
    rotation.

    Raises:
        OSError, av.error.FFmpegError: the file cannot be read.
    """
    stream = best_stream(container, "video")
    info = stream_info(stream)
    if info.codec != "h264":
        return info
    packets = islice(container.demux(stream), _MAX_PACKETS_TO_FIRST_FRAME)
    first = next((frame for packet in packets for frame in _decode(packet)), None)
    return replace(info, rotation=first.rotation if first is not None else 0, key_interval=_key_interval(stream))


def _decode(packet: Any) -> list[Any]:
    try:
        return list(packet.decode())
    except av.error.InvalidDataError:
        return []


def _key_interval(stream: Any) -> float | None:
    """Longest interval between two key frames, in seconds; ``None`` if the index lists key frames only (MKV, FLV)."""
    entries = list(stream.index_entries)
    keys = [entry.timestamp for entry in entries if entry.is_keyframe]
    if not keys or len(keys) == len(entries):
        return None
    longest = max(second - first for first, second in pairwise([*keys, entries[-1].timestamp]))
    return float(longest * stream.time_base)


class PacketConverter:
    """Converter of one video stream's packets, in decoding order. It converts nothing unless the codec is H.264."""

    def __init__(self, stream: Any) -> None:
        self._annex_b: AnnexBConverter | None = None
        if stream.codec_context.name == "h264":
            self._annex_b = AnnexBConverter(bytes(stream.codec_context.extradata or b""))
        self._pts: int | None = None
        self._timestamp = -1

    @property
    def is_h264(self) -> bool:
        """Whether ``convert`` can return frames."""
        return self._annex_b is not None

    def convert(self, packet: Any, presentation_time: float) -> EncodedFrame | None:
        """Return ``packet`` as an encoded frame with that ``media_time()``, or ``None`` if it holds no frame."""
        if self._annex_b is None or packet.size == 0:
            return None
        data, key = self._annex_b.convert(bytes(packet))
        if not data:
            return None
        timestamp = round(presentation_time / VIDEO_TIME_BASE)
        if packet.pts is None or self._pts is None or packet.pts > self._pts:
            timestamp = max(timestamp, self._timestamp + 1)  # packets that arrive in a burst share one time
        self._pts, self._timestamp = packet.pts, timestamp
        return EncodedFrame(
            kind="video",
            codec="h264",
            data=data,
            timestamp=timestamp,
            clock_rate=VIDEO_TIME_BASE.denominator,
            key=key,
            arrival=time.monotonic(),
            ntp=None,
        )
