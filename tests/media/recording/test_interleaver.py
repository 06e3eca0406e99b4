"""Frames of both tracks in order; what one track waits for the other is bounded."""

from __future__ import annotations

from dataclasses import replace

from peer.media.recording.interleaver import START_WAIT, Lineup

from ..recordings import pictures


def test_a_sender_whose_timestamps_stand_still_fills_no_memory() -> None:
    first = pictures("vp8", 1)[0]
    lineup = Lineup(("video", "audio"))
    came = 0
    for number in range(5000):
        arrival = START_WAIT + number / 30
        came += len(list(lineup.add(replace(first, arrival=arrival), arrival)))
    assert came > 3500
