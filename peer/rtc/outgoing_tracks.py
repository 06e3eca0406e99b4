"""What one connection sends."""

from __future__ import annotations

from dataclasses import dataclass

from ..media.outgoing.audio_track import OutgoingAudio
from ..media.outgoing.track import Outgoing, OutgoingVideo


@dataclass(frozen=True, slots=True)
class OutgoingTracks:
    """Tracks that one connection sends, and stops when it closes. ``None``: that kind is only received."""

    video: OutgoingVideo | None = None
    audio: OutgoingAudio | None = None

    def open(self) -> None:
        """Start the sources before the call connects: a camera needs time to warm up."""
        for track in (self.video, self.audio):
            if track is not None:
                track.open()

    def stop(self) -> None:
        """Stop all tracks."""
        for track in (self.video, self.audio):
            if track is not None:
                track.stop()

    def of(self, kind: str) -> Outgoing | None:
        """Return the track of a kind, ``"audio"`` or ``"video"``."""
        return self.video if kind == "video" else self.audio
