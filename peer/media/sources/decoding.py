"""Inputs decoded frame by frame, with the patience that live inputs need, and only while somebody wants it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator
from typing import Any, Final

import av
from av.container import InputContainer

from peer.media.sources.demand import Demand
from peer.media.sources.handoff import Media

_DAMAGED: Final = 60
"""Packets in a row that cannot be decoded before the input counts as broken: UVC cameras start with torn JPEGs, a
stream that is joined in its middle with pictures that refer to ones we never saw."""

_CACHE_BYTES: Final = 4 << 20
_CACHE_PACKETS: Final = 150
"""What is kept of the packets since the last key frame: 5 s at 30 pictures a second and 6 Mbit/s. Decoding them is
what the first picture costs; who needs more than that waits for the next key frame."""

_PATIENCE: Final = 300
"""Packets that are waited for a key frame. There are streams that mark none: they refresh the picture in stripes."""


def decode(container: InputContainer, streams: list[Any], stop: threading.Event) -> Generator[Media, None, None]:
    """The frames of ``streams`` in the order of their packets, until the input ends, or ``stop``.

    Raises:
        av.error.FFmpegError: the input failed, or gives nothing but damaged packets.
    """
    decoders = {stream: Decoder() for stream in streams}
    for packet in demux(container, streams, stop):
        yield from decoders[packet.stream].decode(packet)


def demux(container: InputContainer, streams: list[Any], stop: threading.Event) -> Generator[Any, None, None]:
    """The packets of ``streams``, until the input ends, or ``stop``."""
    for packet in container.demux(streams):
        if stop.is_set():
            return
        yield packet


class Decoder:
    """Of one stream. It forgives damage."""

    def __init__(self) -> None:
        self._damaged = 0

    def decode(self, packet: Any) -> list[Media]:
        """The frames that ``packet`` completes.

        Raises:
            av.error.FFmpegError: this stream gives nothing but damaged packets.
        """
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            self._damaged += 1
            if self._damaged > _DAMAGED:
                raise
            return []
        if frames:
            self._damaged = 0
        return [frame for frame in frames if isinstance(frame, av.VideoFrame | av.AudioFrame)]


class PicturesOnDemand:
    """The decoder of one stream of pictures, at work while they are wanted.

    The packets since the last key frame are kept, within bounds. When pictures are wanted again, all of them are
    decoded at once and their last picture handed out: nobody waits for a key frame that may be seconds away.
    """

    def __init__(self, demand: Demand) -> None:
        self._demand = demand
        self._decoder = Decoder()
        self._kept: deque[Any] = deque()
        self._octets = 0
        self._keyless = 0
        """Packets since something was missing between the last key frame and now; 0: nothing is."""
        self._working = False

    def decode(self, packet: Any) -> list[Media] | None:
        """The pictures that ``packet`` completes; ``None``: it was not decoded.

        Raises:
            av.error.FFmpegError: the stream gives nothing but damaged packets.
        """
        if packet.size > 0:  # else the end of the input asks for what the decoder still holds
            self._keep(packet)
        if not self._demand.pictures:
            if self._working:
                packet.stream.codec_context.flush_buffers()
                self._working = False
            return None
        if self._working:
            return self._decode(packet)
        if packet.size == 0 or 0 < self._keyless <= _PATIENCE:
            return None
        self._working = True
        return [picture for kept in self._kept or [packet] for picture in self._decode(kept)][-1:]

    def _decode(self, packet: Any) -> list[Media]:
        self._demand.decoded += packet.size > 0
        return self._decoder.decode(packet)

    def _keep(self, packet: Any) -> None:
        if packet.is_keyframe:
            self._kept.clear()
            self._octets = self._keyless = 0
        if self._keyless:
            self._keyless += 1
            return
        self._kept.append(packet)
        self._octets += packet.size
        if self._octets > _CACHE_BYTES or len(self._kept) > _CACHE_PACKETS:
            self._kept.clear()
            self._octets = 0
            self._keyless = 1
