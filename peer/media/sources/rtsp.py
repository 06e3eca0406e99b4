"""An RTSP camera as a source: over TCP, or UDP if the camera refuses TCP; video and audio in sync."""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from collections.abc import Generator
from fractions import Fraction
from typing import Final
from urllib.parse import quote

import av
from av.container import InputContainer

from peer.errors import MediaError, redacted
from peer.media import picture
from peer.media.failure import NoAudio
from peer.media.frame_rate_limiter import FrameRateLimiter
from peer.media.sources.audio_framer import AudioFramer
from peer.media.sources.capture_time import CaptureClock
from peer.media.sources.constraints import Constraints
from peer.media.sources.decoding import DecodeFlags, OnDemandVideoDecoder, TolerantDecoder, demux
from peer.media.sources.encoded import PacketConverter, PixelAspect, stream_info
from peer.media.sources.handoff import Captured

_OPTIONS: Final = {
    "rtsp_transport": "tcp+udp",
    "rtsp_flags": "prefer_tcp",
    "fflags": "nobuffer",
    "analyzeduration": "500000",
}
"""RTP over TCP, which nearly every camera supports: over UDP it loses packets, and does not get through a NAT. UDP is
used if the camera refuses TCP (461 Unsupported Transport, RFC 2326 section 11.3.14)."""

_RAW_SLASH: Final = re.compile(r"(rtsps?://[^/?#:@\s]*:)(?!\d{1,5}[/?#])([^@\s]*[/?#]\S*)@(?=[^@\s]*$)")
"""A password with a raw slash, question mark or number sign, where the port of a URL would be."""

_LONE_PERCENT: Final = re.compile(r"%(?![0-9a-fA-F]{2})")

_TIMEOUT: Final = 5.0
"""Maximum time for the camera to answer, and between two packets, in seconds."""


def name(url: str) -> str:
    """Return ``url`` for messages and logs, without its password."""
    return redacted(url)


def escaped(url: str) -> str:
    """Return ``url`` with a password that FFmpeg finds: a raw slash in it would end the host."""
    return _RAW_SLASH.sub(lambda match: f"{match[1]}{quote(_LONE_PERCENT.sub('%25', match[2]), safe='%')}@", url)


def read(
    url: str, constraints: Constraints, flags: DecodeFlags, stop: threading.Event
) -> Generator[Captured, None, None]:
    """Yield the camera's media until it ends or ``stop`` is set. ``flags`` decide what is decoded.

    Raises:
        MediaError: the camera does not send a kind of media that the constraints require.
        av.error.FFmpegError: the camera cannot be reached, or the connection was lost.
    """
    kinds = (("video", constraints.video), ("audio", constraints.audio))
    allowed = "+".join(kind for kind, wanted in kinds if wanted)
    options = {**_OPTIONS, "allowed_media_types": allowed}
    with _open(url, options) as container:
        if constraints.video and not container.streams.video:
            raise MediaError(name(url), "it sends no video")
        if constraints.audio and not flags.audio_optional and not container.streams.audio:
            raise NoAudio(name(url), "it sends no audio", "try --audio none")
        yield from _frames(container, constraints, stop, flags)


def _frames(
    container: InputContainer, constraints: Constraints, stop: threading.Event, flags: DecodeFlags
) -> Generator[Captured, None, None]:
    clock, framer, limiter = CaptureClock(), AudioFramer(), FrameRateLimiter(constraints.fps)
    audio_decoder, video_decoder = TolerantDecoder(), OnDemandVideoDecoder(flags)
    streams = [*container.streams.video[:1], *container.streams.audio[:1]]
    if container.streams.video:
        yield stream_info(container.streams.video[0])
        pixel_aspect = PixelAspect(container.streams.video[0])
    converters = {stream: PacketConverter(stream) for stream in container.streams.video[:1]}
    for packet in demux(container, streams, stop):
        packet_time = clock.capture_time(_seconds(packet.pts, packet.time_base))
        if packet.stream.type == "video":
            encoded = converters[packet.stream].convert(packet, packet_time)
            if encoded is not None:
                yield encoded
            frames = video_decoder.decode(packet) or []
        else:
            frames = audio_decoder.decode(packet) if flags.audio else []
        for frame in frames:
            capture_time = clock.capture_time(frame.time)
            if isinstance(frame, av.AudioFrame):
                yield from framer.push(frame, capture_time)
            elif limiter.accepts(capture_time):
                yield picture.normalize(frame, capture_time, constraints.size, pixel_aspect.current)


def _seconds(pts: int | None, time_base: Fraction) -> float | None:
    return float(pts * time_base) if pts is not None else None


def _open(url: str, options: dict[str, str]) -> InputContainer:
    started = time.monotonic()
    try:
        return av.open(escaped(url), format="rtsp", options=options, timeout=_TIMEOUT)
    except av.error.HTTPUnauthorizedError:
        if name(url) == url:
            raise
        raise MediaError(name(url), "the name or the password is wrong", "check both", cause="unauthorized") from None
    except av.error.InvalidDataError:  # FFmpeg also raises this for its own time-out during the handshake
        if time.monotonic() - started >= _TIMEOUT:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
        raise MediaError(name(url), "the server at this address does not speak RTSP", "check the port") from None
