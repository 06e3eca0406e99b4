"""A file as a source: played in real time, video and audio in sync, once or in a loop.

Packets are read ahead as far as the decoders need. Everything due for delivery waits in three queues: encoded H.264,
by decoding time; decoded video and audio, by presentation time. Media without a reader is not decoded; its packets
take their place in the queues all the same, so playback keeps its pace.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import av
from av.container import InputContainer

from peer.errors import MediaError
from peer.media import picture
from peer.media.failure import NoAudio
from peer.media.frame_rate_limiter import FrameRateLimiter
from peer.media.frames import media_time
from peer.media.sources.audio_framer import AudioFramer
from peer.media.sources.constraints import Constraints
from peer.media.sources.decoding import DecodeFlags, OnDemandVideoDecoder, TolerantDecoder, demux
from peer.media.sources.encoded import PacketConverter, best_stream, inspect, open_file
from peer.media.sources.handoff import Captured, Media
from peer.media.sources.passthrough import StreamInfo

_MAX_QUEUED: Final = 64
"""Maximum items in one queue while another one is empty, as in a badly interleaved file."""

_MAX_LATE: Final = 0.1
"""Maximum lateness of a video frame that is still converted, in seconds. Beyond it this machine is too slow."""

_RESCHEDULE_AFTER: Final = 1.0
"""Lateness at which the schedule of all that follows is moved, in seconds."""

_DEFAULT_DURATION: Final = 0.04
"""Duration of a video frame that states none, in seconds."""


def check(path: str, constraints: Constraints) -> StreamInfo | None:
    """Open the file and verify that it holds what is required. Return the information about its video, if required.

    Raises:
        MediaError: the file has no video, or no audio (``NoAudio``).
        OSError, av.error.FFmpegError: the file cannot be opened or read.
    """
    with open_file(path) as container:
        if constraints.video and not container.streams.video:
            raise MediaError(path, "it has no video", "name another file, or --video none")
        if constraints.audio and not container.streams.audio:
            raise NoAudio(path, "it has no audio", "name another file, or --audio none")
        return inspect(container) if constraints.video else None


def play(
    path: str,
    constraints: Constraints,
    stop: threading.Event,
    *,
    loop: bool = False,
    flags: DecodeFlags | None = None,
) -> Generator[Captured, None, None]:
    """Yield the file's media, each frame at its time, until its end or until ``stop`` is set.

    With ``flags``, these decide what is decoded, and H.264 is also yielded encoded. Without, everything is decoded
    and nothing is yielded encoded.
    """
    framer = AudioFramer()
    start: float | None = None
    if constraints.video and flags is not None:
        with open_file(path) as container:
            yield inspect(container)
    while not stop.is_set():
        limiter = FrameRateLimiter(constraints.fps)
        playback = _Playback(constraints, flags)
        for time, item in playback.items(path, stop):
            if start is None:
                start = media_time()
            late = media_time() - (start + time)
            if late > _RESCHEDULE_AFTER:
                start += late
            elif stop.wait(max(0.0, -late)):
                return
            match item:
                case av.AudioFrame():
                    yield from framer.push(item, start + time)
                case av.VideoFrame() if late < _MAX_LATE and limiter.accepts(time):
                    yield picture.normalize(item, start + time, constraints.size)
                case _EncodedPacket(converter, packet, delay):
                    encoded = converter.convert(packet, start + time + delay)
                    if encoded is not None:
                        yield encoded
        if not loop:
            return
        if start is None or playback.duration == 0.0:
            raise MediaError(path, "it has nothing that can be played")
        start += playback.duration


@dataclass(frozen=True, slots=True)
class _EncodedPacket:
    """A packet of H.264, presented ``delay`` seconds after its decoding time."""

    converter: PacketConverter
    packet: Any
    delay: float


_Item = Media | _EncodedPacket | None
"""What waits for its time. ``None`` stands for a packet that was not decoded."""


class _Playback:
    """One pass through a file."""

    def __init__(self, constraints: Constraints, flags: DecodeFlags | None) -> None:
        self._constraints = constraints
        self._flags = flags or DecodeFlags()
        self._passthrough = flags is not None
        self._queues: dict[str, deque[tuple[float, _Item]]] = {}
        self._next_presentation = {"video": 0.0, "audio": 0.0}
        self._last_decoding: dict[str, float] = {}
        self._next_decoding: dict[str, float] = {}
        self._origin: float | None = None
        self._end = 0.0

    @property
    def duration(self) -> float:
        """Duration of the media read so far, in seconds."""
        return self._end - self._origin if self._origin is not None else 0.0

    def items(self, path: str, stop: threading.Event) -> Iterator[tuple[float, _Item]]:
        """Yield all items, merged by their time in seconds after the first one."""
        with open_file(path) as container:
            for time, item in self._merged(container, stop):
                self._origin = time if self._origin is None else self._origin
                yield time - self._origin, item

    def _merged(self, container: InputContainer, stop: threading.Event) -> Iterator[tuple[float, _Item]]:
        wanted: dict[Literal["video", "audio"], bool] = {
            "video": self._constraints.video,
            "audio": self._constraints.audio,
        }
        found = (best_stream(container, kind) for kind, required in wanted.items() if required)
        streams = [stream for stream in found if stream is not None]
        self._queues = {stream.type: deque() for stream in streams}
        audio_decoder, video_decoder = TolerantDecoder(), OnDemandVideoDecoder(self._flags)
        converters = [PacketConverter(stream) for stream in streams if stream.type == "video" and self._passthrough]
        if converters and converters[0].is_h264:
            self._queues["encoded"] = deque()
        for packet in demux(container, streams, stop):
            kind = packet.stream.type
            time, delay = self._times(packet) if packet.size > 0 else (self._next_decoding.get(kind, 0.0), 0.0)
            if packet.size > 0 and kind == "video" and "encoded" in self._queues:
                self._queues["encoded"].append((time, _EncodedPacket(converters[0], packet, delay)))
            if kind == "video":
                frames = video_decoder.decode(packet)
            else:
                frames = audio_decoder.decode(packet) if self._flags.audio else None
            if frames is None:
                self._queues[kind].append((time, None))
            else:
                self._queues[kind].extend(self._timed(frames))
            yield from self._ready()
        yield from sorted(itertools.chain(*self._queues.values()), key=lambda item: item[0])

    def _ready(self) -> Iterator[tuple[float, _Item]]:
        """Yield the items that no later packet can precede."""
        queues = self._queues.values()
        while all(queues) or any(len(queue) > _MAX_QUEUED for queue in queues):
            yield min((queue for queue in queues if queue), key=lambda queue: queue[0][0]).popleft()

    def _times(self, packet: Any) -> tuple[float, float]:
        """Decoding time of ``packet`` in seconds, and its delay until presentation. Missing times are extrapolated.

        Decoding times never decrease, except where the file itself jumps back by a second or more: packets that
        precede the first presented frame (as with B-frames) are decoded at once.
        """
        kind = packet.stream.type
        duration = float(packet.duration * packet.time_base) if packet.duration else _DEFAULT_DURATION
        expected = self._next_decoding.get(kind)
        presented = float(packet.pts * packet.time_base) if packet.pts is not None else expected or 0.0
        decoded = float(packet.dts * packet.time_base) if packet.dts is not None else expected or presented
        earliest = self._last_decoding.get(kind, presented)
        if earliest - _RESCHEDULE_AFTER < decoded < earliest:
            decoded = earliest
        self._last_decoding[kind], self._next_decoding[kind] = decoded, decoded + duration
        self._end = max(self._end, presented + duration)
        return decoded, presented - decoded

    def _timed(self, frames: list[Media]) -> Iterator[tuple[float, Media]]:
        """Yield each frame with its time in seconds. A frame without one follows the previous one of its kind."""
        for frame in frames:
            if isinstance(frame, av.VideoFrame):
                kind, duration = "video", _DEFAULT_DURATION
            else:
                kind, duration = "audio", frame.samples / frame.sample_rate
            time = frame.time if frame.time is not None else self._next_presentation[kind]
            self._next_presentation[kind] = time + duration
            self._end = max(self._end, time + duration)
            yield time, frame
