"""A file as a source: played in real time, picture and sound in step, once or for ever.

Packets are read ahead as far as the decoders need it, and what comes of them waits for its moment in lanes: H.264 as
it is, by its time of decoding; decoded pictures and sound, by their time of presentation. What nobody wants is not
decoded; its packets keep the time all the same.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, Final

import av
from av.container import InputContainer

from peer.errors import MediaError
from peer.media import picture
from peer.media.failure import NoSound
from peer.media.frames import media_time
from peer.media.sources.audio_framer import Slicer
from peer.media.sources.constraints import Thinner, Wish
from peer.media.sources.decoding import Decoder, PicturesOnDemand, demux
from peer.media.sources.demand import Demand
from peer.media.sources.encoded import Packets, inspect
from peer.media.sources.handoff import Captured, Media
from peer.media.sources.passthrough import Facts

_AHEAD: Final = 64
"""What waits in one lane for the others, in a file that is badly interleaved."""

_LATE: Final = 0.1
"""Seconds after its moment at which a picture is no longer worth its conversion: this machine is too slow."""

_HOPELESS: Final = 1.0
"""Seconds behind at which the moments of all that follows are moved instead."""

_LAST_PICTURE: Final = 0.04
"""Seconds for which a picture without a duration of its own stands."""


def check(path: str, wish: Wish) -> Facts | None:
    """Open the file and look for what is wanted of it. What is known of its pictures, if they are wanted.

    Raises:
        MediaError: it has no picture, or no sound (``NoSound``).
        OSError, av.error.FFmpegError: it cannot be opened or read.
    """
    with av.open(path) as container:
        if wish.video and not container.streams.video:
            raise MediaError(path, "there is no picture in it", "name another file, or --video none")
        if wish.audio and not container.streams.audio:
            raise NoSound(path, "there is no sound in it", "name another file, or --audio none")
        return inspect(container) if wish.video else None


def play(
    path: str, wish: Wish, stop: threading.Event, *, loop: bool = False, demand: Demand | None = None
) -> Generator[Captured, None, None]:
    """What is in the file, each at its moment, until its end, or ``stop``.

    With a ``demand`` it is decoded as far as that goes, and H.264 handed out as it is, too; without one all of it is
    decoded, and nothing else handed out.
    """
    slicer = Slicer()
    start: float | None = None
    if wish.video and demand is not None:
        with av.open(path) as container:
            yield inspect(container)
    while not stop.is_set():
        limit = Thinner(wish.fps)
        reading = _Reading(wish, demand)
        for time, item in reading.in_order(path, stop):
            if start is None:
                start = media_time()
            behind = media_time() - (start + time)
            if behind > _HOPELESS:
                start += behind
            elif stop.wait(max(0.0, -behind)):
                return
            match item:
                case av.AudioFrame():
                    yield from slicer.cut(item, start + time)
                case av.VideoFrame() if behind < _LATE and limit.takes(time):
                    yield picture.shape(item, start + time, wish.size)
                case _Coded(packets, packet, wait):
                    encoded = packets.frame(packet, start + time + wait)
                    if encoded is not None:
                        yield encoded
        if not loop:
            return
        if start is None or reading.duration == 0.0:
            raise MediaError(path, "nothing in it can be played")
        start += reading.duration


@dataclass(frozen=True, slots=True)
class _Coded:
    """A packet of H.264, which is shown ``wait`` seconds after it is decoded."""

    packets: Packets
    packet: Any
    wait: float


_Item = Media | _Coded | None
"""What waits for its moment; ``None``, in place of a packet that was not decoded."""


class _Reading:
    """One pass through a file."""

    def __init__(self, wish: Wish, demand: Demand | None) -> None:
        self._wish = wish
        self._demand = demand or Demand()
        self._encoded = demand is not None
        self._lanes: dict[str, deque[tuple[float, _Item]]] = {}
        self._following = {"video": 0.0, "audio": 0.0}
        self._decoded: dict[str, float] = {}
        self._next: dict[str, float] = {}
        self._origin: float | None = None
        self._end = 0.0

    @property
    def duration(self) -> float:
        """Seconds of what was read so far."""
        return self._end - self._origin if self._origin is not None else 0.0

    def in_order(self, path: str, stop: threading.Event) -> Iterator[tuple[float, _Item]]:
        """All items, merged by their time in seconds from the first one."""
        with av.open(path) as container:
            for time, item in self._merged(container, stop):
                self._origin = time if self._origin is None else self._origin
                yield time - self._origin, item

    def _merged(self, container: InputContainer, stop: threading.Event) -> Iterator[tuple[float, _Item]]:
        streams: list[Any] = [*container.streams.video[:1]] if self._wish.video else []
        streams += [*container.streams.audio[:1]] if self._wish.audio else []
        self._lanes = {stream.type: deque() for stream in streams}
        sounds, pictures = Decoder(), PicturesOnDemand(self._demand)
        packets = [Packets(stream) for stream in streams if stream.type == "video" and self._encoded]
        if packets and packets[0].delivers:
            self._lanes["encoded"] = deque()
        for packet in demux(container, streams, stop):
            kind = packet.stream.type
            time, wait = self._when(packet) if packet.size > 0 else (self._next.get(kind, 0.0), 0.0)
            if packet.size > 0 and kind == "video" and "encoded" in self._lanes:
                self._lanes["encoded"].append((time, _Coded(packets[0], packet, wait)))
            if kind == "video":
                frames = pictures.decode(packet)
            else:
                frames = sounds.decode(packet) if self._demand.sound else None
            if frames is None:
                self._lanes[kind].append((time, None))
            else:
                self._lanes[kind].extend(self._timed(frames))
            yield from self._due()
        yield from sorted(itertools.chain(*self._lanes.values()), key=lambda item: item[0])

    def _due(self) -> Iterator[tuple[float, _Item]]:
        """What nothing can come before any more."""
        lanes = self._lanes.values()
        while all(lanes) or any(len(lane) > _AHEAD for lane in lanes):
            yield min((lane for lane in lanes if lane), key=lambda lane: lane[0][0]).popleft()

    def _when(self, packet: Any) -> tuple[float, float]:
        """Seconds at which ``packet`` is decoded, and from then until it is shown; by the one before, if it has none.

        What is decoded before the first picture is shown (B-frames take that) is decoded at once.
        """
        kind = packet.stream.type
        duration = float(packet.duration * packet.time_base) if packet.duration else _LAST_PICTURE
        following = self._next.get(kind)
        shown = float(packet.pts * packet.time_base) if packet.pts is not None else following or 0.0
        decoded = float(packet.dts * packet.time_base) if packet.dts is not None else following or shown
        earliest = self._decoded.get(kind, shown)
        if earliest - _HOPELESS < decoded < earliest:  # else the file jumps
            decoded = earliest
        self._decoded[kind], self._next[kind] = decoded, decoded + duration
        self._end = max(self._end, shown + duration)
        return decoded, shown - decoded

    def _timed(self, frames: list[Media]) -> Iterator[tuple[float, Media]]:
        """Each with its time in seconds; one without a time follows the one before of its kind."""
        for frame in frames:
            if isinstance(frame, av.VideoFrame):
                kind, duration = "video", _LAST_PICTURE
            else:
                kind, duration = "audio", frame.samples / frame.sample_rate
            time = frame.time if frame.time is not None else self._following[kind]
            self._following[kind] = time + duration
            self._end = max(self._end, time + duration)
            yield time, frame
