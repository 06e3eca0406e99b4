"""A camera on the network by RTSP: over TCP, picture and sound in sync, opened again by itself when it is lost."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Generator
from fractions import Fraction
from typing import Final

import av
from av.container import InputContainer

from peer.errors import MediaError, redacted
from peer.media import picture
from peer.media.failure import NoSound
from peer.media.sources.audio_framer import Slicer
from peer.media.sources.capture_time import LiveClock
from peer.media.sources.constraints import Thinner, Wish
from peer.media.sources.decoding import Decoder, PicturesOnDemand, demux
from peer.media.sources.demand import Demand
from peer.media.sources.encoded import Packets, facts
from peer.media.sources.handoff import Captured

_OPTIONS: Final = {"rtsp_transport": "tcp", "fflags": "nobuffer", "analyzeduration": "500000"}
"""TCP, as nearly every camera is asked for it: RTP over UDP loses packets, and dies behind a NAT."""

_TIMEOUT: Final = 5.0
"""Seconds for the camera to answer, and between two packets."""


def name(url: str) -> str:
    """What ``url`` is called in messages and logs: without its password."""
    return redacted(url)


def read(url: str, wish: Wish, demand: Demand, stop: threading.Event) -> Generator[Captured, None, None]:
    """What the camera at ``url`` sends, until it stops, or ``stop``; decoded as far as ``demand`` goes.

    Raises:
        MediaError: it does not send what is wanted.
        av.error.FFmpegError: it cannot be reached or was lost.
    """
    allowed = "+".join(kind for kind, wanted in (("video", wish.video), ("audio", wish.audio)) if wanted)
    options = {**_OPTIONS, "allowed_media_types": allowed}
    with _open(url, options) as container:
        if wish.video and not container.streams.video:
            raise MediaError(name(url), "it sends no picture")
        if wish.audio and not container.streams.audio:
            raise NoSound(name(url), "it sends no sound", "try --audio none")
        yield from _frames(container, wish, stop, demand)


def _frames(
    container: InputContainer, wish: Wish, stop: threading.Event, demand: Demand
) -> Generator[Captured, None, None]:
    clock, slicer, thinner = LiveClock(), Slicer(), Thinner(wish.fps)
    sounds, pictures = Decoder(), PicturesOnDemand(demand)
    streams = [*container.streams.video[:1], *container.streams.audio[:1]]
    if container.streams.video:
        yield facts(container.streams.video[0])
    packets = {stream: Packets(stream) for stream in container.streams.video[:1]}
    for packet in demux(container, streams, stop):
        moment = clock.moment(_time(packet.pts, packet.time_base))
        if packet.stream.type == "video":
            encoded = packets[packet.stream].frame(packet, moment)
            if encoded is not None:
                yield encoded
            frames = pictures.decode(packet) or []
        else:
            frames = sounds.decode(packet) if demand.sound else []
        for frame in frames:
            moment = clock.moment(frame.time)
            if isinstance(frame, av.AudioFrame):
                yield from slicer.cut(frame, moment)
            elif thinner.takes(moment):
                yield picture.shape(frame, moment, wish.size)


def _time(pts: int | None, time_base: Fraction) -> float | None:
    return float(pts * time_base) if pts is not None else None


def _open(url: str, options: dict[str, str]) -> InputContainer:
    started = time.monotonic()
    try:
        return av.open(url, format="rtsp", options=options, timeout=_TIMEOUT)
    except av.error.InvalidDataError:  # what FFmpeg makes of its own time-out in the middle of the handshake, too
        if time.monotonic() - started >= _TIMEOUT:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
        raise MediaError(name(url), "what answers there does not speak RTSP", "check the port") from None
