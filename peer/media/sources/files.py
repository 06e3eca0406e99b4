"""A file as a source: played in real time, video and audio in sync, once or in a loop.

Packets are read ahead as far as the decoders need. Everything due for delivery waits in three queues: encoded H.264,
by decoding time; decoded video and audio, by presentation time. Media without a reader is not decoded; its packets
take their place in the queues all the same, so playback keeps its pace.

While no video frame is due, the last one is repeated: the cover of a song, or the last picture of a film that has
ended. Jumps of the file's clock are removed from the schedule.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Literal

import av
from av.container import InputContainer

from peer.errors import MediaError
from peer.media import picture
from peer.media.failure import NoAudio
from peer.media.frame_rate_limiter import FrameRateLimiter
from peer.media.frames import VIDEO_TIME_BASE, media_time
from peer.media.sources.audio_framer import AudioFramer
from peer.media.sources.constraints import Constraints
from peer.media.sources.decoding import DecodeFlags, OnDemandVideoDecoder, TolerantDecoder, demux
from peer.media.sources.encoded import PacketConverter, PixelAspect, best_stream, inspect, open_file
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

_REPEAT_INTERVAL: Final = 0.5
"""Time without a video frame after which the last one is repeated, in seconds. A new viewer sees it that soon."""

_MAX_GAP: Final = 1.0
"""Time without any media that counts as a jump of the file's clock, in seconds, where the container's clock may jump
(MPEG-TS)."""

_CLOCK_MAY_JUMP: Final = 0x200
"""FFmpeg's AVFMT_TS_DISCONT: the container allows jumps of its clock."""

_MAX_STEP_BACK: Final = 1.0
"""Time by which a stream's timestamps may go back before that counts as a jump of the file's clock, in seconds."""


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
    hold: bool = False,
    flags: DecodeFlags | None = None,
) -> Generator[Captured, None, None]:
    """Yield the file's media, each frame at its time, until its end or until ``stop`` is set.

    With ``hold``, the last video frame of a file that is not looped is repeated until ``stop`` is set.

    With ``flags``, these decide what is decoded, and H.264 is also yielded encoded. Without, everything is decoded
    and nothing is yielded encoded.
    """
    framer = AudioFramer()
    start: float | None = None
    shown: av.VideoFrame | None = None
    hold = hold and constraints.video and not loop
    if constraints.video and flags is not None:
        with open_file(path) as container:
            yield inspect(container)
    while not stop.is_set():
        limiter = FrameRateLimiter(constraints.fps)
        playback = _Playback(constraints, flags)
        for time, item in playback.items(path, stop, hold=hold):
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
                    shown = picture.normalize(item, start + time, constraints.size, playback.pixel_aspect)
                    yield shown
                case _Repeat(av.VideoFrame() as newest):
                    shown = picture.normalize(newest, start + time, constraints.size, playback.pixel_aspect)
                    yield shown
                case _Repeat() if shown is not None:
                    yield picture.copy(shown, round((start + time) / VIDEO_TIME_BASE))
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


@dataclass(frozen=True, slots=True)
class _Repeat:
    """The time to repeat the last video frame, or to show ``newest``, which was not decoded before."""

    newest: av.VideoFrame | None


_Item = Media | _EncodedPacket | _Repeat | None
"""Content of an entry that is yielded at its time. ``None``: a packet that was not decoded."""

_Entry = tuple[int, float, _Item]
"""An item with its time in seconds and the section of the file to which that time belongs."""


class _Playback:
    """One pass through a file.

    A jump back of the file's clock begins a new section. Streams do not jump at the same packet, so each item is
    merged by its section first.
    """

    def __init__(self, constraints: Constraints, flags: DecodeFlags | None) -> None:
        self._constraints = constraints
        self._flags = flags or DecodeFlags()
        self._flags.ended = False
        self._passthrough = flags is not None
        self._video_decoder = OnDemandVideoDecoder(self._flags)
        self._queues: dict[str, deque[_Entry]] = {}
        self._sections: dict[str, int] = {}
        """Current section of each stream."""
        self._next_presentation = {"video": 0.0, "audio": 0.0}
        self._last_decoding: dict[str, float] = {}
        self._next_decoding: dict[str, float] = {}
        self._shifts: dict[int, float] = {}
        """Difference between playing time and the file's time, in seconds, by section."""
        self._ends: dict[int, float] = {}
        """End of the media read so far, in seconds of the file's time, by section."""
        self._pixel_aspect: PixelAspect | None = None
        self._position = 0.0
        self._last_video = 0.0
        """Playing time of the last item, and of the last video frame or packet, in seconds."""

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of a pixel of the video divided by its height."""
        return self._pixel_aspect.current if self._pixel_aspect is not None else Fraction(1)

    @property
    def duration(self) -> float:
        """Duration of the media played so far, in seconds."""
        return max((self._ends.get(section, 0.0) + shift for section, shift in self._shifts.items()), default=0.0)

    def items(self, path: str, stop: threading.Event, *, hold: bool) -> Iterator[tuple[float, _Item]]:
        """Yield all items, merged by their playing time, which starts at zero. See ``play`` for ``hold``."""
        with open_file(path) as container:
            may_jump = bool(container.format.flags & _CLOCK_MAY_JUMP)
            for section, file_time, item in self._merged(container, stop):
                time = file_time + self._shifts.setdefault(section, self._position - file_time)
                if may_jump and time > self._position + _MAX_GAP:
                    self._shifts[section] -= time - self._position
                    time = self._position
                if self._constraints.video:
                    yield from self._repeats(time)
                if not isinstance(item, av.AudioFrame):
                    self._last_video = max(self._last_video, time)
                self._position = max(self._position, time)
                yield time, item
            if hold:
                self._flags.ended = True
                yield from self._repeats(math.inf)

    def _repeats(self, until: float) -> Iterator[tuple[float, _Item]]:
        """Yield repetitions of the last video frame from the last one on, to fill the gap ``until`` the next item."""
        while self._last_video + _REPEAT_INTERVAL < until:
            self._last_video += _REPEAT_INTERVAL
            if not self._flags.video:
                yield self._last_video, None
            else:
                yield self._last_video, _Repeat(self._video_decoder.newest())

    def _merged(self, container: InputContainer, stop: threading.Event) -> Iterator[_Entry]:
        wanted: dict[Literal["video", "audio"], bool] = {
            "video": self._constraints.video,
            "audio": self._constraints.audio,
        }
        found = (best_stream(container, kind) for kind, required in wanted.items() if required)
        streams = [stream for stream in found if stream is not None]
        self._queues = {stream.type: deque() for stream in streams}
        self._pixel_aspect = next((PixelAspect(stream) for stream in streams if stream.type == "video"), None)
        audio_decoder = TolerantDecoder()
        converters = [PacketConverter(stream) for stream in streams if stream.type == "video" and self._passthrough]
        if converters and converters[0].is_h264:
            self._queues["encoded"] = deque()
        for packet in demux(container, streams, stop):
            kind = packet.stream.type
            time, delay = self._times(packet) if packet.size > 0 else (self._next_decoding.get(kind, 0.0), 0.0)
            section = self._sections.get(kind, 0)
            if packet.size > 0 and kind == "video" and "encoded" in self._queues:
                self._queues["encoded"].append((section, time, _EncodedPacket(converters[0], packet, delay)))
            if kind == "video":
                frames = self._video_decoder.decode(packet)
            else:
                frames = audio_decoder.decode(packet) if self._flags.audio else None
            if frames is None:
                self._queues[kind].append((section, time, None))
            else:
                self._queues[kind].extend(self._timed(frames, section, time))
            yield from self._ready()
        yield from sorted(itertools.chain(*self._queues.values()), key=_due)

    def _ready(self) -> Iterator[_Entry]:
        """Yield the items that no later packet can precede."""
        queues = self._queues.values()
        while all(queues) or any(len(queue) > _MAX_QUEUED for queue in queues):
            yield min((queue for queue in queues if queue), key=lambda queue: _due(queue[0])).popleft()

    def _times(self, packet: Any) -> tuple[float, float]:
        """Decoding time of ``packet`` in seconds, and its delay until presentation. Missing times are extrapolated.

        Decoding times never decrease within a section: packets that precede the first presented frame (as with
        B-frames) are decoded at once.
        """
        kind = packet.stream.type
        duration = float(packet.duration * packet.time_base) if packet.duration else _DEFAULT_DURATION
        expected = self._next_decoding.get(kind)
        presented = float(packet.pts * packet.time_base) if packet.pts is not None else expected or 0.0
        decoded = float(packet.dts * packet.time_base) if packet.dts is not None else expected or presented
        earliest = self._last_decoding.get(kind, presented)
        if decoded <= earliest - _MAX_STEP_BACK:
            self._sections[kind] = self._sections.get(kind, 0) + 1
        elif decoded < earliest:
            decoded = earliest
        self._last_decoding[kind], self._next_decoding[kind] = decoded, decoded + duration
        self._extend(self._sections.get(kind, 0), presented + duration)
        return decoded, presented - decoded

    def _timed(self, frames: list[Media], section: int, decoding_time: float) -> Iterator[_Entry]:
        """Yield each frame with its time in seconds. A frame without one follows the previous one of its kind.

        The packet just decoded belongs to ``section`` and ``decoding_time``. A decoder returns frames late, so a
        frame of a much later time belongs to the section before a jump back.
        """
        for frame in frames:
            if isinstance(frame, av.VideoFrame):
                kind, duration = "video", _DEFAULT_DURATION
            else:
                kind, duration = "audio", frame.samples / frame.sample_rate
            time = frame.time if frame.time is not None else self._next_presentation[kind]
            self._next_presentation[kind] = time + duration
            own = section - 1 if section > 0 and time > decoding_time + _MAX_STEP_BACK else section
            self._extend(own, time + duration)
            yield own, time, frame

    def _extend(self, section: int, end: float) -> None:
        self._ends[section] = max(self._ends.get(section, end), end)


def _due(entry: _Entry) -> tuple[int, float]:
    return entry[:2]
