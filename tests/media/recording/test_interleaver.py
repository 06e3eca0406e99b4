"""The interleaver holds a bounded number of frames."""

from __future__ import annotations

from dataclasses import replace

from peer.media.recording.interleaver import START_TIMEOUT, Interleaver

from ..recordings import video_frames


def test_constant_timestamps_hold_a_bounded_number_of_frames() -> None:
    first = video_frames("vp8", 1)[0]
    interleaver = Interleaver(("video", "audio"))
    returned = 0
    for number in range(5000):
        arrival = START_TIMEOUT + number / 30
        returned += len(list(interleaver.add(replace(first, arrival=arrival), arrival)))
    assert returned > 3500
