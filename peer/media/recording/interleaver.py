"""Interleaver: orders the frames of both tracks by their time in the recording, from the first video frame on.

A recording starts at a key frame. Before it starts, it waits up to ``START_TIMEOUT`` for a frame of each negotiated
kind. It also waits up to ``REPORT_TIMEOUT`` for the sender reports that put both tracks on one clock. The first video
frame is at time zero; a recording without video starts with its first audio frame.

From then on, a frame is held back until the other track can have no earlier one. So when a recording is cut at a key
frame, all audio that belongs before the cut comes before it. A silent track holds up the other one for at most
``MAX_HOLD``.

Pure, except that a decoder checks the first key frame. Time is an argument.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from typing import Final, Literal, NamedTuple

from ..frames import EncodedFrame
from .av_sync import AvSync
from .codec_parameters import read_video_parameters

Kind = Literal["video", "audio"]

START_TIMEOUT: Final = 2.0
"""Maximum time from the first usable frame until the recording starts, in seconds, if a kind of media is missing."""

REPORT_TIMEOUT: Final = 1.0
"""Maximum time to wait for sender reports, in seconds. Without them the first frames are placed by their arrivals,
which are off by 100 ms on a busy machine until reports correct them."""

MAX_HOLD: Final = 0.5
"""Maximum duration of the frames held back, in seconds. Together with the half second of a cluster, it is what a
recording loses by ``kill -9``."""

_MAX_HELD: Final = 1000
"""Maximum number of frames held before the recording starts, and of one track afterwards, whatever their timestamps
say."""


_MAX_HELD_BYTES: Final = 16 << 20
"""As ``_MAX_HELD``, in bytes: more than two seconds at 50 Mbit/s. A remote chooses sizes and timestamps."""


class PlacedFrame(NamedTuple):
    """A frame with its time in the recording, in seconds."""

    time: float
    frame: EncodedFrame


class Interleaver:
    """The interleaver of one recording. ``kinds`` are the negotiated kinds of media."""

    def __init__(self, kinds: Collection[Kind]) -> None:
        self._kinds = frozenset(kinds)
        self._sync = AvSync()
        self._pending: list[EncodedFrame] = []
        """Frames held before the recording starts."""
        self._pending_since = 0.0
        self._held_bytes = 0
        """Size of all frames held."""
        self._with_report: set[Kind] = set()
        """Kinds for which a sender report has arrived."""
        self._origin = 0.0
        self._queues: dict[Kind, deque[PlacedFrame]] = {"video": deque(), "audio": deque()}
        self._newest: dict[Kind, float] = {"video": 0.0, "audio": 0.0}
        """Time of the newest frame of each kind in the recording."""
        self.codecs: dict[Kind, str] = {}
        """Codec of each kind: of the last frame returned, or, before that, of the first frame held."""
        self.started = False
        self.needs_key_frame = "video" in kinds
        """Whether video is dropped because the first key frame has not arrived yet."""

    def add(self, frame: EncodedFrame, now: float) -> Iterator[PlacedFrame]:
        """Add a frame. Return those that can be recorded now. ``now`` is in seconds of ``frame.arrival``'s clock."""
        if frame.ntp is not None:
            self._with_report.add(frame.kind)
        if not self.started and self._has_all_kinds() and self.codecs.get(frame.kind, frame.codec) != frame.codec:
            self._start()  # first, because the timestamps of the new codec are unrelated to those of held frames
        self._sync.observe(frame)
        if self.started:
            self._enqueue(frame)
            return self._ready()
        self._hold(frame)
        return self.check(now)

    def check(self, now: float) -> Iterator[PlacedFrame]:
        """Start the recording if a time-out has passed. Return the frames that can be recorded now."""
        if not self.started and self._pending:
            waited = now - self._pending_since
            has_reports = self._with_report >= self._kinds or len(self._kinds) == 1
            complete = self._has_all_kinds() and (has_reports or waited > REPORT_TIMEOUT)
            if complete or waited > START_TIMEOUT:
                self._start()
        return self._ready()

    def flush(self) -> Iterator[PlacedFrame]:
        """Return all remaining frames, at the end of the recording."""
        if not self.started and self._pending:
            self._start()
        for placed in sorted((*self._queues["video"], *self._queues["audio"]), key=_order):
            self.codecs[placed.frame.kind] = placed.frame.codec
            yield placed
        for held in self._queues.values():
            held.clear()
        self._held_bytes = 0

    def _hold(self, frame: EncodedFrame) -> None:
        """Hold a frame until the recording starts, but no video before a key frame."""
        if frame.kind == "video" and self.needs_key_frame:
            if read_video_parameters(frame) is None:
                return
            self.needs_key_frame = False
        if not self._pending:
            self._pending_since = frame.arrival
        self.codecs.setdefault(frame.kind, frame.codec)
        if len(self._pending) < _MAX_HELD and self._held_bytes + len(frame.data) <= _MAX_HELD_BYTES:
            self._pending.append(frame)
            self._held_bytes += len(frame.data)

    def _has_all_kinds(self) -> bool:
        """Whether a frame of each negotiated kind is held."""
        return bool(self.codecs) and self.codecs.keys() >= self._kinds

    def _start(self) -> None:
        self.started = True
        self.needs_key_frame = False
        first = next((frame for frame in self._pending if frame.kind == "video"), self._pending[0])
        self._origin = self._sync.place(first)
        self._held_bytes = 0
        for frame in self._pending:
            self._enqueue(frame)
        self._pending.clear()

    def _enqueue(self, frame: EncodedFrame) -> None:
        time = self._sync.place(frame) - self._origin
        if time >= 0:
            self._queues[frame.kind].append(PlacedFrame(time, frame))
            self._newest[frame.kind] = time
            self._held_bytes += len(frame.data)

    def _ready(self) -> Iterator[PlacedFrame]:
        while heads := [held[0] for held in self._queues.values() if held]:
            first = min(heads, key=_order)
            other: Kind = "audio" if first.frame.kind == "video" else "video"
            is_next = bool(self._queues[other]) or self._newest[other] > first.time
            if not is_next and other in self._kinds and not self._held_long_enough(first):
                return
            self.codecs[first.frame.kind] = first.frame.codec
            self._held_bytes -= len(first.frame.data)
            yield self._queues[first.frame.kind].popleft()

    def _held_long_enough(self, first: PlacedFrame) -> bool:
        """Whether ``first``, the head of its queue, has waited long enough for the other track."""
        kind = first.frame.kind
        is_full = len(self._queues[kind]) > _MAX_HELD or self._held_bytes > _MAX_HELD_BYTES
        return is_full or self._newest[kind] - first.time >= MAX_HOLD


def _order(placed: PlacedFrame) -> tuple[float, bool]:
    """Sort by time, video before audio: a file that starts with video has its audio after it."""
    return placed.time, placed.frame.kind == "audio"
