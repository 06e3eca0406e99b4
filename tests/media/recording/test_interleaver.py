"""The interleaver: when a recording starts, the order of its frames, and how many it holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from peer.media.frames import EncodedFrame
from peer.media.recording import interleaver as interleaver_module
from peer.media.recording.interleaver import REPORT_TIMEOUT, START_TIMEOUT, Interleaver, PlacedFrame

from ..recordings import audio_frames, video_frames

VIDEO, AUDIO = video_frames("vp8", 1), audio_frames(1)


def add(interleaver: Interleaver, *frames: EncodedFrame) -> list[PlacedFrame]:
    """Add each frame at its arrival. Return the frames that can be recorded."""
    return [placed for frame in frames for placed in interleaver.add(frame, frame.arrival)]


def with_report(frame: EncodedFrame) -> EncodedFrame:
    return replace(frame, ntp=5000.0 + frame.arrival)


def by_arrival(*streams: Iterable[EncodedFrame]) -> list[EncodedFrame]:
    return sorted((frame for stream in streams for frame in stream), key=lambda frame: frame.arrival)


def test_recording_starts_once_both_kinds_have_reports() -> None:
    interleaver = Interleaver(("video", "audio"))
    add(interleaver, with_report(AUDIO[0]), VIDEO[0])
    assert not interleaver.started
    add(interleaver, with_report(VIDEO[1]))
    assert interleaver.started and not interleaver.needs_key_frame


def test_recording_starts_without_reports_after_a_time_out() -> None:
    interleaver = Interleaver(("video", "audio"))
    assert not add(interleaver, AUDIO[0], VIDEO[0]) and not interleaver.started
    assert not list(interleaver.check(REPORT_TIMEOUT)) and not interleaver.started
    assert next(interleaver.check(REPORT_TIMEOUT + 0.1)).frame is VIDEO[0]
    assert interleaver.started


def test_recording_starts_without_audio_after_a_time_out() -> None:
    interleaver = Interleaver(("video", "audio"))
    assert not add(interleaver, *VIDEO[:3])
    list(interleaver.check(START_TIMEOUT))
    assert not interleaver.started
    list(interleaver.check(START_TIMEOUT + 0.1))
    assert interleaver.started and interleaver.codecs == {"video": "vp8"}


def test_single_kind_starts_at_once() -> None:
    interleaver = Interleaver(("audio",))
    recorded = add(interleaver, *AUDIO[:2])
    assert [placed.frame for placed in recorded] == list(AUDIO[:2])
    assert [placed.time for placed in recorded] == pytest.approx([0.0, AUDIO[1].arrival])


def test_video_before_a_key_frame_is_dropped() -> None:
    interleaver = Interleaver(("video",))
    assert not add(interleaver, *VIDEO[1:5]) and interleaver.needs_key_frame
    assert [placed.frame for placed in add(interleaver, VIDEO[0])] == [VIDEO[0]]


def test_change_of_codec_before_the_start_starts_the_recording() -> None:
    interleaver = Interleaver(("video", "audio"))
    g711 = replace(audio_frames(1, "pcm_mulaw")[0], arrival=0.1)
    assert not add(interleaver, AUDIO[0], VIDEO[0]) and not interleaver.started
    add(interleaver, g711)
    assert interleaver.started


def test_frames_are_ordered_by_time_with_video_first() -> None:
    interleaver = Interleaver(("video", "audio"))
    recorded = add(interleaver, *map(with_report, by_arrival(VIDEO, AUDIO)))
    held = list(interleaver.flush())
    order = [(placed.time, placed.frame.kind == "audio") for placed in (*recorded, *held)]
    assert order == sorted(order) and len(order) == len(VIDEO) + len(AUDIO)
    assert (recorded[0].time, recorded[0].frame.kind) == (0.0, "video")
    assert list(interleaver.flush()) == []


def test_flush_starts_a_recording_that_has_not_started() -> None:
    interleaver = Interleaver(("video", "audio"))
    assert not add(interleaver, *VIDEO[:3])
    assert [placed.frame for placed in interleaver.flush()] == list(VIDEO[:3])


def test_flush_without_frames_returns_nothing() -> None:
    assert list(Interleaver(("video",)).flush()) == []


def test_constant_timestamps_hold_a_bounded_number_of_frames() -> None:
    interleaver = Interleaver(("video", "audio"))
    returned = 0
    for number in range(5000):
        arrival = START_TIMEOUT + number / 30
        returned += len(list(interleaver.add(replace(VIDEO[0], arrival=arrival), arrival)))
    assert returned > 3500


def test_large_frames_hold_a_bounded_number_of_bytes() -> None:
    """A remote sends large frames that wait: before the start, or for audio that never comes."""
    interleaver = Interleaver(("video", "audio"))
    large = bytes(1 << 20)
    held = returned = 0
    for n, frame in enumerate((VIDEO[0], *[VIDEO[1]] * 200)):
        data = frame.data if n == 0 else large
        now = frame.arrival if n < 100 else START_TIMEOUT + 1
        returned += len(list(interleaver.add(replace(frame, data=data), now)))
        pending = (*interleaver._pending, *(p.frame for queue in interleaver._queues.values() for p in queue))
        held = sum(len(one.data) for one in pending)
        assert held == interleaver._held_bytes <= interleaver_module._MAX_HELD_BYTES + len(large)
    assert interleaver.started and returned > 80
    list(interleaver.flush())
    assert interleaver._held_bytes == 0
