"""Audio/video synchronization of a recording: places the frames of both tracks on one time axis. Pure.

Within a track, RTP timestamps give the distances between frames, because they are regular where arrivals are not. The
offset from a track's timestamps to the axis is unknown. It has two sources:

1. Arrivals. Of the frames of the first two seconds, the one with the smallest delay gives the best offset. (The first
   key frame is large, and late by the time that the sender's pacing takes.)
2. Sender reports (RFC 3550 section 6.4.1), once both tracks have them. They are exact. The video is then aligned with
   the audio, and not the other way round, because small shifts are audible but not visible.

If an offset turns out to be wrong after frames were placed with it, it is corrected gradually, so that nothing jumps
or runs backwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..frames import EncodedFrame

SLEW_RATE: Final = {"video": 0.25, "audio": 0.05}
"""Maximum correction, in seconds per second. Video a few milliseconds early is not visible; stretched audio is
audible."""

SETTLING_TIME: Final = 2.0
"""Time from a track's first frame during which arrivals adjust its offset, in seconds."""

_MAX_REPORT_ERROR: Final = 5.0
"""Maximum difference between the offsets from reports and from arrivals, in seconds. Beyond it the sender's clock was
set between two reports."""

_MAX_ADVANCE: Final = 5.0
"""Maximum time by which timestamps may advance beyond arrivals, in seconds, as in a burst after a stall. Beyond it
the sender has restarted its timestamps."""


@dataclass(slots=True)
class _Track:
    """The state of one track, in seconds. Media time is the RTP timestamp divided by the clock rate."""

    first_arrival: float
    arrival: float
    media_time: float
    min_delay: float
    """Smallest difference between arrival and media time."""
    offset: float | None = None
    """Difference between axis and media time, as last used."""
    placed_media_time: float = 0.0
    ntp_offset: float | None = None
    """Difference between the sender's clock and media time."""


class AvSync:
    """The time axis of a recording, ``time.monotonic()``. Frames are observed on arrival and placed when written."""

    def __init__(self) -> None:
        self._tracks: dict[str, _Track] = {}

    def observe(self, frame: EncodedFrame) -> None:
        """Take ``frame`` into account. Frames of one kind are observed in order of arrival."""
        media_time = frame.timestamp / frame.clock_rate
        delay = frame.arrival - media_time
        track = self._tracks.get(frame.kind)
        if track is None:
            track = self._tracks[frame.kind] = _Track(frame.arrival, frame.arrival, media_time, delay)
        elapsed, advance = frame.arrival - track.arrival, media_time - track.media_time
        if advance < -1 or advance > elapsed + _MAX_ADVANCE:
            self._restart_timestamps(track, elapsed - advance)
        elif frame.arrival - track.first_arrival <= SETTLING_TIME:
            track.min_delay = min(track.min_delay, delay)
        track.arrival, track.media_time = frame.arrival, media_time
        if frame.ntp is not None:
            track.ntp_offset = frame.ntp - media_time

    def place(self, frame: EncodedFrame) -> float:
        """Return the time of an observed frame on the axis, in seconds. Frames of one kind are placed in order."""
        track = self._tracks[frame.kind]
        media_time = frame.timestamp / frame.clock_rate
        target = self._target_offset(frame.kind, track)
        if track.offset is None:
            track.offset = target
        else:
            limit = max(media_time - track.placed_media_time, 0.0) * SLEW_RATE[frame.kind]
            track.offset += min(max(target - track.offset, -limit), limit)
        track.placed_media_time = media_time
        return media_time + track.offset

    def _target_offset(self, kind: str, track: _Track) -> float:
        audio = self._tracks.get("audio")
        if kind == "video" and audio is not None and track.ntp_offset is not None and audio.ntp_offset is not None:
            reported = track.ntp_offset - audio.ntp_offset
            # from the latest arrivals, because two clocks drift apart over hours
            arrived = (track.arrival - track.media_time) - (audio.arrival - audio.media_time)
            if abs(reported - arrived) < _MAX_REPORT_ERROR:
                return (audio.min_delay if audio.offset is None else audio.offset) + reported
        return track.min_delay

    @staticmethod
    def _restart_timestamps(track: _Track, shift: float) -> None:
        """Continue at the time of arrival although the sender has restarted its timestamps."""
        track.min_delay += shift
        track.ntp_offset = None
        track.placed_media_time -= shift
        if track.offset is not None:
            track.offset += shift
