"""Frames of a live container (RTSP, or the output of a program), stamped with their capture time."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Any, Final

import av
from av.container import InputContainer

from peer.media import picture
from peer.media.frame_rate_limiter import FrameRateLimiter
from peer.media.frames import media_time
from peer.media.sources.audio_framer import AudioFramer
from peer.media.sources.capture_time import CaptureClock
from peer.media.sources.constraints import Constraints
from peer.media.sources.decoding import DecodeFlags, OnDemandVideoDecoder, TolerantDecoder, demux
from peer.media.sources.encoded import PacketConverter, PixelAspect, stream_info
from peer.media.sources.handoff import Captured

_NO_TIMESTAMPS: Final = 0x80
"""FFmpeg's AVFMT_NOTIMESTAMPS: a raw stream, whose timestamps are made up from a frame rate of 25."""


def live_frames(
    container: InputContainer, constraints: Constraints, flags: DecodeFlags, stop: threading.Event
) -> Generator[Captured, None, None]:
    """Yield the container's media until it ends or ``stop`` is set. ``flags`` decide what is decoded.

    In a raw stream, the time of arrival stands in for the capture time.

    Raises:
        av.error.FFmpegError: the stream failed, or delivers only damaged packets.
    """
    framer, limiter = AudioFramer(), FrameRateLimiter(constraints.fps)
    audio_decoder, video_decoder = TolerantDecoder(), OnDemandVideoDecoder(flags)
    clock = None if container.format.flags & _NO_TIMESTAMPS else CaptureClock()
    streams = [*container.streams.video[:1], *container.streams.audio[:1]]
    if container.streams.video:
        yield stream_info(container.streams.video[0])
        pixel_aspect = PixelAspect(container.streams.video[0])
    converters = {stream: PacketConverter(stream) for stream in container.streams.video[:1]}
    for packet in demux(container, streams, stop):
        packet_time = _capture_time(clock, packet)
        if packet.stream.type == "video":
            encoded = converters[packet.stream].convert(packet, packet_time)
            if encoded is not None:
                yield encoded
            frames = video_decoder.decode(packet) or []
        else:
            frames = audio_decoder.decode(packet) if flags.audio else []
        for frame in frames:
            capture_time = packet_time if clock is None else clock.capture_time(frame.time)
            if isinstance(frame, av.AudioFrame):
                yield from framer.push(frame, capture_time)
            elif limiter.accepts(capture_time):
                yield picture.normalize(frame, capture_time, constraints.size, pixel_aspect.current)


def _capture_time(clock: CaptureClock | None, packet: Any) -> float:
    if clock is None:
        return media_time()
    return clock.capture_time(float(packet.pts * packet.time_base) if packet.pts is not None else None)
