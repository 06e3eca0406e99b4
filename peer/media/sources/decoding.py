"""Decoding of an input's packets. Skips damaged packets; decodes video only while it has a reader."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator
from typing import Any, Final

import av
from av.container import InputContainer

from peer.media.sources.handoff import Media

_MAX_DAMAGED: Final = 60
"""Maximum undecodable packets in a row before the input counts as broken. UVC cameras start with truncated JPEGs. A
stream that is joined midway starts with frames whose reference frames were never received."""

_MAX_CACHED_BYTES: Final = 4 << 20
_MAX_CACHED_PACKETS: Final = 150
"""Maximum size, in bytes, and number of the packets cached since the last key frame: 5 s at 6 Mbit/s and 30 frames
per second. All of them are decoded to show the first frame. A longer group of pictures is not cached; decoding then
waits for the next key frame."""

_KEY_FRAME_WAIT: Final = 300
"""Maximum packets for which decoding waits for a key frame. Streams with intra refresh (a key frame spread over many
frames, stripe by stripe) never mark one."""


class DecodeFlags:
    """Which kinds of media are decoded now. The event loop sets them; a capture thread reads them for each packet.
    The thread sets the other attributes."""

    def __init__(self, *, video: bool = True, audio: bool = True) -> None:
        self.video = video
        self.audio = audio
        self.audio_optional = False
        """Whether a stream without audio is accepted although audio was requested."""
        self.decoded_packets = 0
        """Video packets decoded so far."""
        self.ended = False
        """Whether the input has ended and its last video frame is repeated."""


def decode(container: InputContainer, streams: list[Any], stop: threading.Event) -> Generator[Media, None, None]:
    """Yield the frames of ``streams`` in packet order, until the input ends or ``stop`` is set.

    Raises:
        av.error.FFmpegError: the input failed, or delivers only damaged packets.
    """
    decoders = {stream: TolerantDecoder() for stream in streams}
    for packet in demux(container, streams, stop):
        yield from decoders[packet.stream].decode(packet)


def demux(container: InputContainer, streams: list[Any], stop: threading.Event) -> Generator[Any, None, None]:
    """Yield the packets of ``streams``, until the input ends or ``stop`` is set."""
    for packet in container.demux(streams):
        if stop.is_set():
            return
        yield packet


class TolerantDecoder:
    """Decoder of one stream that skips damaged packets, up to ``_MAX_DAMAGED`` in a row."""

    def __init__(self) -> None:
        self._damaged = 0

    def decode(self, packet: Any) -> list[Media]:
        """Return the frames that ``packet`` completes.

        Raises:
            av.error.FFmpegError: more than ``_MAX_DAMAGED`` packets in a row were damaged.
        """
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            self._damaged += 1
            if self._damaged > _MAX_DAMAGED:
                raise
            return []
        if frames:
            self._damaged = 0
        return [frame for frame in frames if isinstance(frame, av.VideoFrame | av.AudioFrame)]


class OnDemandVideoDecoder:
    """Decoder of one video stream that works only while ``flags.video`` is set.

    Packets since the last key frame are cached, within bounds. When the flag is set again, the decoder decodes all of
    them at once and returns only the newest frame, so a new reader does not wait seconds for the next key frame.
    """

    def __init__(self, flags: DecodeFlags) -> None:
        self._flags = flags
        self._decoder = TolerantDecoder()
        self._cache: deque[Any] = deque()
        self._cached_bytes = 0
        self._without_cache = 0
        """Number of packets since the cache overflowed; 0 while it reaches back to the last key frame."""
        self._decoding = False
        self._undecoded = False
        """Whether the last packet was not decoded."""

    def decode(self, packet: Any) -> list[Media] | None:
        """Return the frames that ``packet`` completes, or ``None`` if it was not decoded.

        Raises:
            av.error.FFmpegError: the stream delivers only damaged packets.
        """
        if packet.size > 0:  # an empty packet ends the input and flushes the decoder
            self._store(packet)
            self._undecoded = True
        if not self._flags.video:
            if self._decoding:
                packet.stream.codec_context.flush_buffers()
                self._decoding = False
            return None
        if self._decoding:
            return self._decode(packet)
        if packet.size == 0 or 0 < self._without_cache <= _KEY_FRAME_WAIT:
            return None
        self._decoding = True
        return [frame for cached in self._cache or [packet] for frame in self._decode(cached)][-1:]

    def newest(self) -> av.VideoFrame | None:
        """Return the frame of the newest packet, or ``None`` if it was decoded before or cannot be decoded.

        It serves readers that come while the input pauses: ``decode`` returns nothing to them before the next packet.
        """
        if not self._undecoded or not self._flags.video or not self._cache:
            return None
        self._undecoded = False
        packets = list(self._cache)
        context = packets[-1].stream.codec_context
        context.flush_buffers()
        frames: list[Any] = [frame for packet in packets for frame in self._decode(packet)]
        frames += context.decode(None)
        context.flush_buffers()  # the next packet is decoded from the cache again
        self._decoding = False
        return frames[-1] if frames else None

    def _decode(self, packet: Any) -> list[Media]:
        self._undecoded = False
        self._flags.decoded_packets += packet.size > 0
        return self._decoder.decode(packet)

    def _store(self, packet: Any) -> None:
        if packet.is_keyframe:
            self._cache.clear()
            self._cached_bytes = self._without_cache = 0
        if self._without_cache:
            self._without_cache += 1
            return
        self._cache.append(packet)
        self._cached_bytes += packet.size
        if self._cached_bytes > _MAX_CACHED_BYTES or len(self._cache) > _MAX_CACHED_PACKETS:
            self._cache.clear()
            self._cached_bytes = 0
            self._without_cache = 1
