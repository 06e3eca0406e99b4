"""Sound and picture on one axis: where in a recording a frame belongs.

Each track's own pace is its RTP timestamps: they are even where arrivals are not. What is unknown is the shift
between a track's timestamps and the axis, and it has two sources:

1. Arrivals. The frame with the least delay among those of the first two seconds tells best (a first key frame is
   large, and late by as much as the sender paces it).
2. The sender's reports (RFC 3550 6.4.1), once both tracks have them: exact, and the picture then follows the sound.
   Sound is the one that stays, because an ear hears what an eye does not see.

A shift that turns out to be wrong after the first frame was placed is mended by slewing, so that nothing jumps and
nothing runs backwards. Pure: no clock, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..frames import EncodedFrame

SLEW: Final = {"video": 0.25, "audio": 0.05}
"""Seconds of correction a second: a picture a few milliseconds early is not seen, stretched sound is heard."""

SETTLE: Final = 2.0
"""Seconds from a track's first frame in which its arrivals still say what its shift is."""

_BELIEVABLE: Final = 5.0
"""Seconds. Reports that differ from the arrivals by more than this come from a clock that was set meanwhile."""

_LEAP: Final = 5.0
"""Seconds by which timestamps may run ahead of arrivals before they count as restarted: a burst after a stall."""


@dataclass(slots=True)
class _Track:
    """In seconds. ``shift``: axis minus media; ``floor``: the least such by arrival; ``lead``: sender minus media."""

    since: float
    arrival: float
    media: float
    floor: float
    shift: float | None = None
    placed: float = 0.0
    lead: float | None = None


class Timeline:
    """Every frame is observed as it comes, and placed when it is written. The axis is ``time.monotonic()``."""

    def __init__(self) -> None:
        self._tracks: dict[str, _Track] = {}

    def observe(self, frame: EncodedFrame) -> None:
        """Learn from ``frame``. In the order of arrival within its kind."""
        media = frame.timestamp / frame.clock_rate
        delay = frame.arrival - media
        track = self._tracks.get(frame.kind)
        if track is None:
            track = self._tracks[frame.kind] = _Track(frame.arrival, frame.arrival, media, delay)
        passed, told = frame.arrival - track.arrival, media - track.media
        if told < -1 or told > passed + _LEAP:  # the sender began a new stream of timestamps
            self._restart(track, passed - told)
        elif frame.arrival - track.since <= SETTLE:
            track.floor = min(track.floor, delay)
        track.arrival, track.media = frame.arrival, media
        if frame.ntp is not None:
            track.lead = frame.ntp - media

    def place(self, frame: EncodedFrame) -> float:
        """Seconds on the axis. It was observed before; frames of one kind are placed in order."""
        track = self._tracks[frame.kind]
        media = frame.timestamp / frame.clock_rate
        target = self._target(frame.kind, track)
        if track.shift is None:
            track.shift = target
        else:
            most = max(media - track.placed, 0.0) * SLEW[frame.kind]
            track.shift += min(max(target - track.shift, -most), most)
        track.placed = media
        return media + track.shift

    def _target(self, kind: str, track: _Track) -> float:
        sound = self._tracks.get("audio")
        if kind == "video" and sound is not None and track.lead is not None and sound.lead is not None:
            told = track.lead - sound.lead
            came = (track.arrival - track.media) - (
                sound.arrival - sound.media
            )  # of late: clocks drift apart by hours
            if abs(told - came) < _BELIEVABLE:
                return (sound.floor if sound.shift is None else sound.shift) + told
        return track.floor

    @staticmethod
    def _restart(track: _Track, by: float) -> None:
        track.floor += by
        track.lead = None
        track.placed -= by
        if track.shift is not None:
            track.shift += by
