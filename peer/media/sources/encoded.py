"""The packets of a container as encoded frames: H.264 that can be sent as it is, stamped on the media clock."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any, Final

import av
from av.container import InputContainer

from peer.codecs.h264 import AccessUnits
from peer.media.frames import VIDEO_TIME_BASE, EncodedFrame
from peer.media.sources.passthrough import Facts

_LOOK: Final = 100
"""Packets in which the first picture of a file has to be."""


def facts(stream: Any) -> Facts:
    """What the container says of ``stream``, as far as it is known without reading on."""
    return Facts(stream.codec_context.name, bytes(stream.codec_context.extradata or b""))


def inspect(container: InputContainer) -> Facts:
    """What a file says of its pictures. One of them is decoded: only that tells which side is up.

    Raises:
        OSError, av.error.FFmpegError: it cannot be read.
    """
    stream = container.streams.video[0]
    known = facts(stream)
    if known.codec != "h264":
        return known
    first = next((frame for packet in islice(container.demux(stream), _LOOK) for frame in _pictures(packet)), None)
    return replace(known, rotation=first.rotation if first is not None else 0, key_interval=_key_interval(stream))


def _pictures(packet: Any) -> list[Any]:
    try:
        return list(packet.decode())
    except av.error.InvalidDataError:
        return []


def _key_interval(stream: Any) -> float | None:
    """Seconds, the longest between two key frames; ``None`` where not every picture is in the index (MKV, FLV)."""
    entries = list(stream.index_entries)
    keys = [entry.timestamp for entry in entries if entry.is_keyframe]
    if not keys or len(keys) == len(entries):
        return None
    longest = max(second - first for first, second in pairwise([*keys, entries[-1].timestamp]))
    return float(longest * stream.time_base)


class Packets:
    """Of one video stream, in the order of decoding. Nothing comes of a stream that is not H.264."""

    def __init__(self, stream: Any) -> None:
        self._units: AccessUnits | None = None
        if stream.codec_context.name == "h264":
            self._units = AccessUnits(bytes(stream.codec_context.extradata or b""))
        self._pts: int | None = None
        self._timestamp = -1

    @property
    def delivers(self) -> bool:
        """Whether anything may come of it."""
        return self._units is not None

    def frame(self, packet: Any, moment: float) -> EncodedFrame | None:
        """``packet``, to be shown at ``moment`` of ``media_time()``; ``None``: there is no picture in it."""
        if self._units is None or packet.size == 0:
            return None
        data, key = self._units.convert(bytes(packet))
        if not data:
            return None
        timestamp = round(moment / VIDEO_TIME_BASE)
        if packet.pts is None or self._pts is None or packet.pts > self._pts:
            timestamp = max(timestamp, self._timestamp + 1)  # a stream that comes in a burst has one moment for all
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
