"""The frames of both tracks in the order of their places, from the first picture on. PURE: time is an argument.

Nothing comes out before the beginning: a key frame, once each kind that the call negotiated has been heard from, or
``START_WAIT`` after the first of them. For ``REPORT_WAIT`` it waits for the sender's reports too, which put both on
one clock. Zero is the first picture; sound alone begins by itself.

From then on a frame waits until the other track cannot have an earlier one any more. That is what lets a recording
be cut at a key frame, with all sound that belongs before it before it. A track that is silent holds up the other
for ``PATIENCE`` only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from typing import Final, Literal, NamedTuple

from ..frames import EncodedFrame
from .av_sync import Timeline
from .codec_parameters import read_head

Kind = Literal["video", "audio"]

START_WAIT: Final = 2.0
"""Seconds from the first usable frame in which the other kind may still come to be waited for."""

REPORT_WAIT: Final = 1.0
"""Seconds in which sender reports may still come to be waited for. Without them skew is what arrivals say at first:
100 ms on a busy machine, mended later."""

PATIENCE: Final = 0.5
"""Seconds of one track that wait for the other: with the half second of a cluster, what ``kill -9`` costs."""

_WAITING: Final = 1000
"""Frames kept while a recording waits to begin, and of one track while it waits for the other, whatever their
timestamps say."""


class Placed(NamedTuple):
    """A frame, and where in the recording it belongs, in seconds."""

    at: float
    frame: EncodedFrame


class Lineup:
    """``kinds`` is what the call negotiated."""

    def __init__(self, kinds: Collection[Kind]) -> None:
        self._kinds = frozenset(kinds)
        self._timeline = Timeline()
        self._waiting: list[EncodedFrame] = []
        self._since = 0.0
        self._reported: set[Kind] = set()
        self._origin = 0.0
        self._lines: dict[Kind, deque[Placed]] = {"video": deque(), "audio": deque()}
        self._latest: dict[Kind, float] = {"video": 0.0, "audio": 0.0}
        self.codecs: dict[Kind, str] = {}
        """What each kind that came out last was in; at the beginning, what it will come out in."""
        self.began = False
        self.wants_key_frame = "video" in kinds
        """Whether it cannot begin, or not with a picture, until a key frame comes."""

    def add(self, frame: EncodedFrame, now: float) -> Iterator[Placed]:
        """What can be recorded now that ``frame`` is there, ``now`` on the clock of its arrival."""
        if frame.ntp is not None:
            self._reported.add(frame.kind)
        if not self.began and self._is_whole() and self.codecs.get(frame.kind, frame.codec) != frame.codec:
            self._begin()  # before the timeline learns of timestamps that have nothing to do with those that wait
        self._timeline.observe(frame)
        if self.began:
            self._join(frame)
            return self._ready()
        self._keep(frame)
        return self.look(now)

    def look(self, now: float) -> Iterator[Placed]:
        """What can be recorded because ``now`` it is time to begin."""
        if not self.began and self._waiting:
            waited = now - self._since
            reported = self._reported >= self._kinds or len(self._kinds) == 1
            if (self._is_whole() and (reported or waited > REPORT_WAIT)) or waited > START_WAIT:
                self._begin()
        return self._ready()

    def rest(self) -> Iterator[Placed]:
        """All that waits: nothing more will come."""
        if not self.began and self._waiting:
            self._begin()
        for placed in sorted((*self._lines["video"], *self._lines["audio"]), key=_order):
            self.codecs[placed.frame.kind] = placed.frame.codec
            yield placed
        for line in self._lines.values():
            line.clear()

    def _keep(self, frame: EncodedFrame) -> None:
        if frame.kind == "video" and self.wants_key_frame:
            if read_head(frame) is None:
                return
            self.wants_key_frame = False
        if not self._waiting:
            self._since = frame.arrival
        self.codecs.setdefault(frame.kind, frame.codec)
        if len(self._waiting) < _WAITING:
            self._waiting.append(frame)

    def _is_whole(self) -> bool:
        """Whether each kind that the call negotiated has been heard from."""
        return bool(self.codecs) and self.codecs.keys() >= self._kinds

    def _begin(self) -> None:
        self.began = True
        self.wants_key_frame = False
        first = next((frame for frame in self._waiting if frame.kind == "video"), self._waiting[0])
        self._origin = self._timeline.place(first)
        for frame in self._waiting:
            self._join(frame)
        self._waiting.clear()

    def _join(self, frame: EncodedFrame) -> None:
        at = self._timeline.place(frame) - self._origin
        if at >= 0:
            self._lines[frame.kind].append(Placed(at, frame))
            self._latest[frame.kind] = at

    def _ready(self) -> Iterator[Placed]:
        while heads := [line[0] for line in self._lines.values() if line]:
            first = min(heads, key=_order)
            other: Kind = "audio" if first.frame.kind == "video" else "video"
            passed = bool(self._lines[other]) or self._latest[other] > first.at
            if not passed and other in self._kinds and not self._is_late(first):
                return
            self.codecs[first.frame.kind] = first.frame.codec
            yield self._lines[first.frame.kind].popleft()

    def _is_late(self, first: Placed) -> bool:
        """Whether ``first`` of its line has waited for the other track for long enough."""
        kind = first.frame.kind
        return self._latest[kind] - first.at >= PATIENCE or len(self._lines[kind]) > _WAITING


def _order(placed: Placed) -> tuple[float, bool]:
    """By place, the picture before the sound: where a file begins with a picture, its sound is behind it."""
    return placed.at, placed.frame.kind == "audio"
