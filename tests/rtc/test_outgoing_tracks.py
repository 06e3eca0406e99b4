"""The tracks of one connection: opened and stopped together, found by kind."""

from __future__ import annotations

from typing import Any

from peer.rtc.outgoing_tracks import OutgoingTracks


class Track:
    """An outgoing track; records its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def open(self) -> None:
        self.calls.append("open")

    def stop(self) -> None:
        self.calls.append("stop")


def test_both_tracks_are_opened_and_stopped() -> None:
    video: Any = Track()
    audio: Any = Track()
    tracks = OutgoingTracks(video, audio)
    tracks.open()
    tracks.stop()
    assert video.calls == audio.calls == ["open", "stop"]
    assert (tracks.of("video"), tracks.of("audio")) == (video, audio)


def test_missing_track_is_passed_over() -> None:
    tracks = OutgoingTracks()
    tracks.open()
    tracks.stop()
    assert tracks.of("video") is tracks.of("audio") is None
